"""An occlusion result: its heatmap against a plain loop, captum's truncated windows, its facts and files."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from deconvviz.analyses.occlusion.result import Occlusion
from deconvviz.analyses.projection.result import Projection
from deconvviz.errors import DeconvvizValueError


def starts(length: int, window: int, stride: int, positions: str) -> list[int]:
    if positions == "captum":
        return list(range(0, length - window + stride, stride))
    return sorted({*range(0, length - window + 1, stride), length - window})


def make(
    size: tuple[int, int] = (12, 17),
    window: tuple[int, int] = (4, 5),
    stride: tuple[int, int] = (3, 2),
    positions: str = "all",
    mask: Tensor | None = None,
    **other: Any,
) -> Occlusion:
    g = torch.Generator().manual_seed(3)
    rows, cols = (starts(n, w, s, positions) for n, w, s in zip(size, window, stride, strict=True))
    origins = torch.tensor([(r, c) for r in rows for c in cols])
    projection = Projection(
        "relu5", "5", torch.tensor([7]), torch.tensor([[1, 2]]), torch.tensor([5.5]),
        torch.randn(1, 3, *size, generator=g), torch.tensor([[0, 2, 9, 11]]),
        image=torch.rand(3, *size, generator=g),
    )  # fmt: skip
    values: dict[str, Any] = {
        "origins": origins, "shape": (len(rows), len(cols)), "window": window, "stride": stride,
        "logits": torch.randn(len(origins), 4, generator=g, dtype=torch.float64),
        "baseline": torch.randn(4, generator=g, dtype=torch.float64), "target": 2,
        "image": torch.rand(3, *size, generator=g), "fill_values": torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1),
        "fill": "0.1, 0.2, 0.3", "positions": positions, "mask": mask, "layer": "relu5", "alias": "5", "unit": 7,
        "activity": torch.rand(len(rows), len(cols), generator=g), "projection": projection, "model": {"name": "net"},
        "labels": ("cat", "dog", "cup", "cow"),
    }  # fmt: skip
    return Occlusion(**{**values, **other})


def without_layer() -> Occlusion:
    return make(layer=None, alias=None, unit=None, activity=None, projection=None)


def mean_drop(o: Occlusion) -> Tensor:
    """The heatmap pixel by pixel, over the windows that cover it."""
    height, width = o.image.shape[1:]
    out = torch.full((height, width), torch.nan, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            drops = []
            for k, (r, c) in enumerate(o.origins.tolist()):
                i, j = y - r, x - c
                inside = 0 <= i < o.window[0] and 0 <= j < o.window[1]
                if inside and (o.mask is None or o.mask[i, j]):
                    drops.append(float(o.baseline[o.target] - o.logits[k, o.target]))
            if drops:
                out[y, x] = math.fsum(drops) / len(drops)
    return out


MASK = torch.tensor([[0, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 0, 0, 1], [0, 0, 0, 0, 1]], dtype=torch.bool)
GRIDS: dict[str, dict[str, Any]] = {
    "shifted back": {},
    "truncated": {"positions": "captum"},
    "gaps": {"stride": (6, 7)},
    "one pixel": {"window": (1, 1), "stride": (1, 1)},
    "one position": {"window": (12, 17)},
    "mask": {"mask": MASK},
    "mask, truncated": {"mask": MASK, "positions": "captum"},
    "mask, one pixel": {"mask": MASK & False, "stride": (2, 2)},
}


@pytest.mark.parametrize("name", GRIDS)
def test_heatmap_is_the_mean_over_the_windows_that_cover_a_pixel(name: str) -> None:
    o = make(**GRIDS[name])
    want = mean_drop(o)
    torch.testing.assert_close(o.heatmap(), want, rtol=1e-12, atol=1e-13, equal_nan=True)
    assert bool(want.isnan().any()) == (name in ("gaps", "mask", "mask, truncated", "mask, one pixel"))
    attribution = o.attribution()
    assert attribution.shape == o.image.shape and torch.equal(attribution[1].nan_to_num(), o.heatmap().nan_to_num())


def test_heatmap_by_hand() -> None:
    """Two windows of 2 in a strip of 3: the middle pixel has both."""
    logits = torch.tensor([[1.0, 9.0], [3.0, 9.0]])
    o = make((1, 3), (1, 2), (1, 1), logits=logits, baseline=torch.tensor([4.0, 0.0]), target=0, labels=())
    assert o.heatmap().tolist() == [[3.0, 2.0, 1.0]] and o.heatmap().dtype == torch.float32


def test_probability_and_prediction_lie_on_the_grid() -> None:
    o = make()
    assert o.shape == (4, 7) and o.probability.shape == o.prediction.shape == (4, 7)
    for row, col in ((0, 0), (1, 3), (3, 6)):
        logits = o.logits[row * 7 + col].tolist()
        total = sum(math.exp(v) for v in logits)
        assert float(o.probability[row, col]) == pytest.approx(math.exp(logits[2]) / total, rel=1e-12)
        assert int(o.prediction[row, col]) == logits.index(max(logits))


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("picture", [False, True])
def test_covered_is_the_picture_behind_the_window(mask: Tensor | None, picture: bool) -> None:
    fill = torch.arange(12.0 * 17 * 3).view(3, 12, 17) if picture else torch.tensor([5.0, 6.0, 7.0]).view(3, 1, 1)
    o = make(positions="captum", stride=(3, 5), mask=mask, fill_values=fill)
    last = len(o) - 1
    top, left = o.origins[last].tolist()
    assert (top, left) == (9, 15), "the last window hangs over both borders"
    shown = o.covered(last)
    for y in range(12):
        for x in range(17):
            hidden = y >= top and x >= left and (mask is None or bool(mask[y - top, x - left]))
            want = fill.expand(3, 12, 17)[:, y, x] if hidden else o.image[:, y, x]
            assert torch.equal(shown[:, y, x], want)


def test_facts_say_what_was_found_and_are_json() -> None:
    logits = torch.zeros(3, 4)
    logits[0, 1] = logits[1, 2] = logits[2, 1] = 9
    o = make((1, 3), (1, 1), (1, 1), logits=logits, baseline=torch.tensor([0.0, 0.0, math.log(3), 0.0]))
    facts = json.loads(json.dumps(o.facts()))
    assert facts["target_label"] == "cup" and facts["baseline_probability"] == pytest.approx(0.5)
    assert facts["baseline_prediction"] == {"class": 2, "label": "cup"}
    assert facts["lowest_probability"]["origin"] == [0, 0]
    assert facts["lowest_probability"]["value"] == pytest.approx(1 / (math.exp(9) + 3), rel=1e-5)
    assert facts["predictions"] == [
        {"class": 1, "label": "dog", "positions": 2}, {"class": 2, "label": "cup", "positions": 1},
    ]  # fmt: skip
    assert facts["window"] == [1, 1] and facts["shape"] == [1, 3] and facts["unit"] == 7
    assert make(labels=()).label(3) == "class 3" and o.name == "5" and without_layer().name is None


@pytest.mark.parametrize("build", [make, without_layer, lambda: make(mask=MASK)])
def test_npz_loads_as_the_same_result(tmp_path: Path, build: Any) -> None:
    saved = build()
    loaded = Occlusion.load(saved.save(tmp_path / "a.npz"))
    assert loaded == saved and loaded.labels == saved.labels and loaded.shape == (4, 7)
    torch.testing.assert_close(loaded.heatmap(), saved.heatmap(), rtol=0, atol=0, equal_nan=True)
    assert loaded != dataclasses.replace(saved, logits=saved.logits + 1)
    if saved.projection is not None:
        other = dataclasses.replace(saved.projection, pixels=saved.projection.pixels + 1)
        assert loaded != dataclasses.replace(saved, projection=other)


def test_a_projection_is_no_occlusion(tmp_path: Path) -> None:
    projection = make().projection
    assert projection is not None
    with pytest.raises(DeconvvizValueError, match="not a saved occlusion"):
        Occlusion.load(projection.save(tmp_path / "p.npz"))


def test_metadata_is_inside_the_png(tmp_path: Path) -> None:
    with Image.open(make().save(tmp_path / "a.png")) as stored:
        assert stored.text["Title"] == "net occlusion 4x5"
        facts = json.loads(stored.text["Description"])
    assert facts["window"] == [4, 5] and facts["target_label"] == "cup" and "labels" not in facts
