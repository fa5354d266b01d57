"""The projection figure: its numbers, and that nothing overlaps, is clipped, or leaks into matplotlib."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from deconvviz.analyses.projection.result import Projection
from deconvviz.results.style import styled


def make(count: int = 9, channels: int = 3) -> Projection:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[10 * k, 8 * k, 10 * k + 100, 8 * k + 139] for k in range(count)])
    return Projection(
        "relu5",
        "conv5",
        torch.arange(count) * 28,
        torch.full((count, 2), 12),
        torch.linspace(-1234.5, 99, count),
        torch.randn(count, channels, 224, 224, generator=generator),
        boxes,
        image=torch.rand(channels, 224, 224, generator=generator),
        policy={"method": "deconvnet"},
        model={"name": "zfnet"},
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_each_pair_is_the_projection_and_the_crop_of_one_box(channels: int) -> None:
    result = make(channels=channels)
    figure = result.figure(scale="shared")
    shown = [np.asarray(ax.images[0].get_array()) for ax in figure.axes]
    assert len(shown) == 1 + 2 * len(result)
    images, crops = result.images(scale="shared"), result.crops()
    for k, (top, left, bottom, right) in enumerate(result.boxes.tolist()):
        assert np.array_equal(shown[1 + 2 * k], images[k, top:bottom, left:right].squeeze())
        assert np.array_equal(shown[2 + 2 * k], crops[k].squeeze())
    frames = [p for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    drawn = [(p.get_y() + 0.5, p.get_x() + 0.5, p.get_height(), p.get_width()) for p in frames]
    assert drawn == [(t, x, b - t, r - x) for t, x, b, r in result.boxes.tolist()]


@pytest.mark.parametrize("count", [1, 2, 9, 20])
def test_labels_lie_inside_and_apart(count: int, words_apart: Callable[[Figure], None]) -> None:
    figure = make(count).figure()
    words_apart(figure)
    assert any("unit 0 · -1.23e+03 · (12, 12)" in text.get_text() for text in figure.texts)


@pytest.mark.parametrize(("height", "width"), [(224, 224), (60, 300), (400, 90)])
def test_numbers_of_boxes_lie_inside_the_photograph_and_apart(height: int, width: int) -> None:
    # Crowded where it is hardest: several at one corner, tiny ones at the borders.
    corner = [[0, 0, 40, 40]] * 4
    tiny = [[0, width - 7, 7, width], [height - 7, 0, height, 7], [height - 1, width - 1, height, width]]
    result = dataclasses.replace(
        make(7),
        pixels=torch.zeros(7, 3, height, width),
        image=torch.zeros(3, height, width),
        boxes=torch.tensor(corner + tiny),
    )
    figure = result.figure()
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    with styled():
        canvas.draw()  # type: ignore[no-untyped-call]
        ax, renderer = figure.axes[0], canvas.get_renderer()  # type: ignore[no-untyped-call]
        boxes = [text.get_tightbbox(renderer) for text in ax.texts]
    assert [text.get_text() for text in ax.texts] == [str(k + 1) for k in range(7)]
    frame = ax.bbox.padded(1.5)  # the white outline may touch the frame
    for i, box in enumerate(boxes):
        assert box is not None
        assert box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1
        # Shrunk by the outline, and upright room that a digit does not use.
        assert not any(box.padded(-2).overlaps(other.padded(-2)) for other in boxes[i + 1 :] if other)


def test_no_box_for_the_whole_picture() -> None:
    result = dataclasses.replace(make(1), boxes=torch.tensor([[0, 0, 224, 224]]))
    assert not result.figure().axes[0].patches


def test_the_users_matplotlib_stays_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    make(2).figure()
    assert dict(matplotlib.rcParams) == before
