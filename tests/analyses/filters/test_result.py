"""Filters keep their numbers through files, and the flags follow from numbers and thresholds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from deconvviz.analyses.filters.result import Filters
from deconvviz.errors import DeconvvizValueError

POLICY = {"radius": 0.1, "blank": 0.01, "similar": 0.95, "alias": 0.5}


def make(count: int = 6, channels: int = 3, **changes: object) -> Filters:
    generator = torch.Generator().manual_seed(0)
    made = Filters(
        "features.0", "conv1", torch.randn(count, channels, 5, 5, generator=generator), torch.full((count,), 0.05),
        torch.full((count,), 0.5), torch.arange(count).flip(0), torch.zeros(count, 2, dtype=torch.long),
        torch.linspace(0, 0.4, count), torch.linspace(0, 0.5, count), (2, 2), (58.0,) * channels,
        policy=dict(POLICY), model={"name": "zfnet"},
    )  # fmt: skip
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_npz_loads_as_the_same_result(tmp_path: Path) -> None:
    saved = make(bound=torch.ones(6), other=make(4, 1, model={"name": "alexnet"}))
    loaded = Filters.load(saved.save(tmp_path / "a.npz"))
    assert loaded == saved and loaded.other == saved.other and loaded.stride == (2, 2)
    assert loaded != dataclasses.replace(saved, other=None)
    assert json.loads(json.dumps(loaded.facts()))["other"]["filters"] == 4


def test_each_fault_follows_from_its_number_and_threshold() -> None:
    rms = torch.tensor([0.05, 0.0004, 0.0006, 0.0989, 0.0991, 0.0])
    cosine = torch.tensor([0.94, 1.0, 0.96, -0.95, 0.0, 0.0])
    above = torch.tensor([0.51, 0.9, 0.5, 0.0, 0.6, float("nan")])
    result = make(rms=torch.cat([rms, rms.new_full((5,), 0.05)])[:6], cosine=cosine, above=above)
    # The median RMS is that of the six: torch takes the lower of the middle two, 0.0006.
    assert result.faults() == {
        "dead": [5], "duplicate": [1, 2, 3], "saturated": [4], "aliased": [0, 1, 4],
    }  # fmt: skip
    assert result.dominance == pytest.approx(0.0991 / 0.0006)
    hopeless = dataclasses.replace(result, bound=torch.tensor([1.0, 1, 1, 0, 1, 1]))
    assert hopeless.faults()["dead"] == [3, 5] and hopeless.faults()["duplicate"] == [1, 2]
    silent = dataclasses.replace(result, fires=torch.tensor([0.0, 0.1, 0.1, 0.1, 0.1, 0.1]))
    assert silent.faults()["dead"] == [0, 5] and silent.faults()["aliased"] == [1, 4]


def test_facts_tell_a_pair_once() -> None:
    twins = {"cosine": torch.tensor([1.0, 1.0, 0.97, 0.0, 0.0, 0.0]), "twin": torch.tensor([1, 0, 0, 5, 5, 4])}
    pairs = make(**twins).facts()["duplicates"]
    assert [p["filters"] for p in pairs] == [[0, 1], [2, 0]]  # type: ignore[attr-defined]


def test_pictures_share_one_scale_in_which_a_dominating_filter_leaves_the_others_grey() -> None:
    weights = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    weights[2] *= 50
    rms = weights.pow(2).mean((1, 2, 3)).sqrt()
    result = make(4, weights=weights, rms=rms)
    shared, panel = result.images(), result.images("panel")
    contrast = [np.abs(p.astype(int) - 128).max() for p in shared]
    assert contrast[2] >= 127 and max(contrast[:2]) < 12
    assert all(np.abs(p.astype(int) - 128).max() >= 127 for p in panel)
    clipped = result.images(radius=1.0)
    assert min(np.abs(p.astype(int) - 128).max() for p in clipped) > 60
    assert torch.allclose(result.clipped(1.0).pow(2).mean((1, 2, 3)).sqrt(), rms.clamp(max=1.0), rtol=1e-5)


def test_many_channels_are_shown_by_their_root_mean_square() -> None:
    result = make(2, 8)
    pictures = result.images("panel", percentile=100)
    expected = result.weights.pow(2).mean(1).sqrt()
    expected = 128 + 127 * expected / expected.flatten(1).amax(1).view(-1, 1, 1)
    assert pictures.shape == (2, 5, 5, 1) and np.abs(pictures[..., 0] - expected.numpy()).max() <= 0.51


def test_table_has_a_row_for_each_network() -> None:
    rows = make(other=make(4, 1, model={"name": "alexnet"})).table().rows
    assert [row[:5] for row in rows] == [
        ("zfnet", "conv1", "6", "5×5", "2×2"), ("alexnet", "conv1", "4", "5×5", "2×2"),
    ]  # fmt: skip


def test_errors() -> None:
    with pytest.raises(DeconvvizValueError, match="radius"):
        make().clipped(-1)
    with pytest.raises(DeconvvizValueError, match="shared"):
        make().images("all")
