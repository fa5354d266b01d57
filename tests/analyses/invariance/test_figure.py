"""The invariance figure: what is drawn is what the result says, and nothing overlaps or is cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deconvviz.analyses.invariance.figure import draw
from deconvviz.analyses.invariance.result import Invariance
from deconvviz.data.transforms import TRANSFORMS

KINDS = ("translation", "scale", "rotation", "flip")
VALUES = {"translation": [-4.0, -2, 0, 2, 4], "scale": [1, 1.5, 2], "rotation": [0, 90, 180, 300], "flip": [0, 1]}


def make(count: int = 3, kinds: tuple[str, ...] = KINDS, channels: int = 3) -> Invariance:
    generator = torch.Generator().manual_seed(count)
    values = torch.tensor([v for k in kinds for v in VALUES[k]], dtype=torch.float64)
    low, high, probability = torch.rand(3, count, len(values), generator=generator, dtype=torch.float64)
    return Invariance(
        images=torch.rand(count, channels, 10, 8, generator=generator), names=tuple(f"{n}.jpg" for n in range(count)),
        labels=tuple(f"label {n}" for n in range(count)), targets=tuple(range(count)), transforms=kinds,
        counts=tuple(len(VALUES[k]) for k in kinds), values=values, layers=("1", "7"), low=low * 9, high=high,
        probability=probability, norms=torch.ones(count, 2, dtype=torch.float64),
        policy={"fill": "grey", "labels": "given"}, mean=(0.0,) * channels, std=(1.0,) * channels, model={"name": "n"},
    )  # fmt: skip


def plots(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.lines]


def test_rows_and_columns_and_the_numbers_in_them() -> None:
    result = make()
    figure = draw(result)
    panels = plots(figure)
    assert len(panels) == 3 * len(KINDS)
    assert [ax.get_title() for ax in panels[:4]] == ["Layer 1", "Layer 7", "P(true label)", ""]
    for row, kind in enumerate(KINDS):
        curve = result.curve(kind)
        for ax, lines in zip(panels[3 * row : 3 * row + 3], (curve.low, curve.high, curve.probability), strict=True):
            assert ax.get_xlabel() == TRANSFORMS[kind].axis
            for line, expected in zip(ax.lines, lines, strict=True):  # type: ignore[arg-type]
                assert np.array_equal(np.asarray(line.get_ydata()), expected.numpy())
                assert np.array_equal(np.asarray(line.get_xdata()), curve.values.numpy())
    colours = [line.get_color() for line in panels[0].lines]
    assert len(set(colours)) == 3
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["label 0", "label 1", "label 2"]


def test_pictures_at_both_ends_and_untransformed() -> None:
    result = make(2, ("translation",))
    shown = [ax.images[0].get_array() for ax in draw(result).axes if ax.images]
    expected = result.pictures("translation", [-4, 0, 4])
    assert len(shown) == 6
    for k, picture in enumerate(shown):
        assert np.array_equal(np.asarray(picture), expected[k // 3, k % 3])


def test_normalised_distances_and_what_is_left_out() -> None:
    result = replace(make(), probability=None, targets=(), policy={"fill": "grey", "labels": "own top class"})
    figure = draw(result, "max")
    assert len(plots(figure)) == 2 * len(KINDS)
    assert plots(figure)[0].get_ylabel() == "Distance ÷ largest"
    assert max(float(np.max(line.get_ydata())) for line in plots(figure)[0].lines) == 1
    own = draw(replace(make(), policy={"labels": "own top class"}))
    assert plots(own)[2].get_title() == "P(own class)"


def test_the_legend_tells_pictures_of_one_class_apart() -> None:
    result = replace(make(2), labels=("cat", "cat"))
    assert [t.get_text() for t in draw(result).legends[0].get_texts()] == ["0.jpg (cat)", "1.jpg (cat)"]
    nameless = replace(make(2), labels=("", ""))
    assert [t.get_text() for t in draw(nameless).legends[0].get_texts()] == ["0.jpg", "1.jpg"]


@pytest.mark.parametrize(("count", "kinds"), [(1, ("flip",)), (2, ("scale", "rotation")), (5, KINDS), (12, ("flip",))])
def test_nothing_overlaps_or_is_cut(count: int, kinds: tuple[str, ...], inside_and_apart: Callable[..., None]) -> None:
    figure = draw(make(count, kinds))
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    figure.draw(renderer)
    boxes = [ax.get_tightbbox(renderer) for ax in figure.axes]
    boxes += [figure.legends[0].get_window_extent(renderer), figure.texts[0].get_window_extent(renderer)]
    inside_and_apart(figure, boxes, slack=0.5, touch=1)


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_every_format_and_grey_pictures(tmp_path: Path, kind: str) -> None:
    path = make(1, channels=1).save(tmp_path / f"i.{kind}")
    assert path.stat().st_size > 2000
    if kind == "svg":
        assert "Vertical translation (pixels)" in path.read_text(encoding="utf-8")
