"""The result of `invariance`: cutting, normalising, measuring, saving."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deconvviz.analyses.invariance.result import Invariance
from deconvviz.data.transforms import warp
from deconvviz.errors import DeconvvizValueError, UnknownNameError


def make() -> Invariance:
    """Two pictures; a V and a step under translation, anything under flip."""
    v = torch.tensor([3.0, 2, 1, 0, 1, 2, 3, 1, 0], dtype=torch.float64)
    step = torch.tensor([5.0, 5, 5, 0, 5, 5, 5, 2, 0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    return Invariance(
        images=torch.rand(2, 3, 8, 8, generator=generator), names=("a.jpg", "b.jpg"), labels=("ant", "bass"),
        targets=(0, 1), transforms=("translation", "flip"), counts=(7, 2),
        values=torch.tensor([-3.0, -2, -1, 0, 1, 2, 3, 1, 0], dtype=torch.float64), layers=("1", "7"),
        low=torch.stack([step, 2 * step]), high=torch.stack([v, 0 * v]),
        probability=torch.rand(2, 9, generator=generator, dtype=torch.float64),
        norms=torch.tensor([[10.0, 6.0], [20.0, 0.0]], dtype=torch.float64),
        policy={"fill": [0.5, 0.25, 1.0], "labels": "given"}, mean=(0.0,) * 3, std=(1.0,) * 3, model={"name": "tiny"},
    )  # fmt: skip


def test_a_curve_is_cut_out_and_normalised() -> None:
    result = make()
    curve = result.curve("flip")
    assert curve.values.tolist() == [1, 0] and curve.high.tolist() == [[1, 0], [0, 0]]
    assert curve.probability is not None and curve.probability.equal(result.probability[:, 7:])  # type: ignore[index]
    by_norm = result.curve("translation", "norm")
    assert by_norm.low[:, 0].tolist() == [0.5, 0.5] and by_norm.high[0, 0] == 0.5
    by_max = result.curve("translation", "max")
    assert by_max.low.amax(1).tolist() == [1, 1] and by_max.high[0].tolist() == [1, 2 / 3, 1 / 3, 0, 1 / 3, 2 / 3, 1]
    assert not by_max.high[1].any() and not by_norm.high[1].any(), "nothing is divided by zero"
    assert replace(result, probability=None).curve("flip").probability is None


def test_smoothness_by_hand() -> None:
    found = make().smoothness()
    assert list(found) == ["translation"], "a flip has no way to go"
    # The step: 0 5 5 5 over 0 1 2 3; a tenth of the way is x = 0.3, y = 1.5 of 5. Slopes 5 0 0.
    low = found["translation"]["low"]
    correlation = np.corrcoef([0, 1, 2, 3], [0, 5, 5, 5])[0, 1]
    assert low == pytest.approx({"linearity": correlation**2, "early": 0.3, "variation": 1, "roughness": 1})
    # Four branches in all: two straight lines, and two of a feature that never moves.
    high = found["translation"]["high"]
    assert high == pytest.approx({"linearity": 1, "early": 0.05, "variation": 0.5, "roughness": 0})


def test_smoothness_does_not_depend_on_the_order_of_values_and_allows_for_gaps() -> None:
    result = make()
    order = torch.tensor([6, 0, 3, 1, 5, 2, 4, 7, 8])
    shuffled = replace(result, values=result.values[order], low=result.low[:, order], high=result.high[:, order])
    assert shuffled.smoothness()["translation"] == {
        k: pytest.approx(v) for k, v in result.smoothness()["translation"].items()
    }
    values = result.values.clone()
    values[:7] = torch.tensor([-8.0, -2, -1, 0, 1, 2, 8])
    straight = torch.cat([values[:7].abs(), values[7:]]).expand(2, -1)
    uneven = replace(result, values=values, high=straight).smoothness()["translation"]["high"]
    assert uneven == pytest.approx({"linearity": 1, "early": 0.1, "variation": 1, "roughness": 0})


def test_pictures_as_the_network_saw_them() -> None:
    result = make()
    shown = result.pictures("translation", [0, 2])
    assert shown.shape == (2, 2, 8, 8, 3) and shown.dtype == np.uint8
    moved = warp(result.images[1], "translation", [2], (0.5, 0.25, 1.0))[0]
    assert np.array_equal(shown[1, 1], np.rint(moved.permute(1, 2, 0).numpy() * 255).astype(np.uint8))
    assert shown[0, 1, 0, 0].tolist() == [128, 64, 255]
    assert result.pictures("flip").shape == (2, 2, 8, 8, 3)


def test_saved_and_loaded(tmp_path: Path) -> None:
    for result in (make(), replace(make(), probability=None, targets=())):
        result.save(tmp_path / "r.npz")
        assert Invariance.load(tmp_path / "r.npz") == result
    assert make() != replace(make(), low=make().low + 1)
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(DeconvvizValueError, match="not a saved invariance"):
        Invariance.load(tmp_path / "bad.npz")


def test_facts_are_json() -> None:
    facts = json.loads(json.dumps(make().facts()))
    assert facts["curves"]["translation"]["high"][0] == [3, 2, 1, 0, 1, 2, 3] and facts["layers"] == ["1", "7"]
    assert facts["norms"] == [[10, 6], [20, 0]] and "images" not in facts
    assert "early" in facts["smoothness"]["translation"]["low"]
    assert make().title == "tiny invariance of layers 1 and 7"


def test_errors() -> None:
    with pytest.raises(UnknownNameError, match="'scale' is not in this result; allowed: translation, flip"):
        make().curve("scale")
    with pytest.raises(UnknownNameError, match="normalise is 'maximum'; allowed: none, norm, max"):
        make().curve("flip", "maximum")
