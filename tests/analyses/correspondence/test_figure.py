"""The correspondence figure: which pictures, which boxes, which numbers; nothing overlaps or is cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deconvviz.analyses.correspondence.figure import draw
from deconvviz.analyses.correspondence.result import Correspondence


def make(count: int = 3, draws: int = 3, parts: int = 2, layers: int = 2, channels: int = 3) -> Correspondence:
    g = torch.Generator().manual_seed(1)
    pairs = count * (count - 1) // 2
    corners = torch.randint(0, 5, (parts, draws + 1, count, 2), generator=g)
    boxes = torch.cat([corners, corners + 3], -1)
    return Correspondence(
        images=torch.rand(count, channels, 10, 8, generator=g), names=tuple(f"{n}.jpg" for n in range(count)),
        parts=tuple(f"part {p}" for p in range(parts)), boxes=boxes[:, 0], layers=tuple("57892"[:layers]),
        distances=torch.rand(parts, layers, pairs, generator=g, dtype=torch.float64),
        random=torch.rand(parts, draws, layers, pairs, generator=g, dtype=torch.float64),
        one_place=torch.rand(parts, draws, layers, pairs, generator=g, dtype=torch.float64),
        random_boxes=boxes[:, 1:], policy={"fill": "grey"}, mean=(0.25,) * channels, std=(1.0,) * channels,
        model={"name": "tiny"},
    )  # fmt: skip


def test_pictures_and_what_is_covered() -> None:
    r = make()
    figure = draw(r, random=2)
    pictures = [np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.images]
    titles = [ax.get_title() for ax in figure.axes if ax.images][:5]
    assert titles == ["picture", "part 0", "part 1", "random", "random"] and len(pictures) == 3 * 5
    for n in range(3):
        whole, *covered = pictures[5 * n : 5 * n + 5]
        assert np.array_equal(whole, np.rint((r.images[n] + 0.25).clamp(0, 1).permute(1, 2, 0).numpy() * 255))
        boxes = [r.boxes[0, n], r.boxes[1, n], r.random_boxes[0, 0, n], r.random_boxes[1, 0, n]]
        for picture, (top, left, bottom, right) in zip(covered, [b.tolist() for b in boxes], strict=True):
            expected = whole.copy()
            expected[top:bottom, left:right] = 64
            assert np.array_equal(picture, expected)


def test_a_colour_as_fill_and_eight_pictures_at_most() -> None:
    r = replace(make(), policy={"fill": [0.75, -0.25, 0.0]})
    shown = [np.asarray(ax.images[0].get_array()) for ax in draw(r).axes if ax.images]
    top, left = r.boxes[0, 0, :2].tolist()
    assert shown[1][top, left].tolist() == [255, 0, 64]
    assert len(draw(make(10), random=0, chart=False).axes) == 8 * 3


def test_the_chart_shows_means_deviations_and_draws() -> None:
    r = make()
    charts = [ax for ax in draw(r).axes if ax.lines]
    assert [ax.get_title() for ax in charts] == ["Layer 5", "Layer 7"]
    for k, ax in enumerate(charts):
        heights = [np.asarray(line.get_ydata(), dtype=float) for line in ax.lines]
        for p, part in enumerate(r.parts):
            mean, deviation = r.delta()[part][k]
            assert any(np.allclose(h, [mean]) for h in heights)
            ends = [c.get_segments()[0][:, 1] for c in ax.collections]  # type: ignore[attr-defined]
            assert any(np.allclose(sorted(e), [mean - deviation, mean + deviation]) for e in ends)
            for values in (r.random, r.one_place):
                assert any(np.allclose(h, values[p, :, k].mean(-1)) for h in heights if len(h) == 3)


@pytest.mark.parametrize(
    ("count", "draws", "parts", "layers"), [(2, 3, 1, 1), (3, 0, 2, 2), (4, 2, 5, 2), (2, 1, 2, 4)]
)
def test_nothing_overlaps_or_is_cut(
    count: int, draws: int, parts: int, layers: int, inside_and_apart: Callable[..., None]
) -> None:
    figure = draw(make(count, draws, parts, layers))
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    figure.draw(renderer)
    boxes = [ax.get_tightbbox(renderer) for ax in figure.axes]
    boxes += [figure.legends[0].get_window_extent(renderer), figure.texts[0].get_window_extent(renderer)]
    inside_and_apart(figure, boxes, slack=0.5, touch=1)


@pytest.mark.parametrize("kind", ["pdf", "svg"])
def test_every_format_and_grey_pictures(tmp_path: Path, kind: str) -> None:
    assert make(2, channels=1).save(tmp_path / f"c.{kind}").stat().st_size > 2000
