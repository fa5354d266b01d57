"""The projection figure: its numbers, and that nothing overlaps, is clipped, or leaks into matplotlib."""

from __future__ import annotations

import dataclasses

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from deconvviz.figures.style import styled
from deconvviz.results import Projection


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
        torch.rand(channels, 224, 224, generator=generator),
        {"method": "deconvnet"},
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
    drawn = [
        (p.get_y() + 0.5, p.get_x() + 0.5, p.get_height(), p.get_width()) for p in figure.axes[0].patches
    ]
    assert drawn == [(t, x, b - t, r - x) for t, x, b, r in result.boxes.tolist()]


@pytest.mark.parametrize("count", [1, 2, 9, 20])
def test_labels_lie_inside_and_apart(count: int) -> None:
    figure = make(count).figure()
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    with styled():
        canvas.draw()
        boxes = [text.get_window_extent(canvas.get_renderer()) for text in figure.texts]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
        assert not any(box.overlaps(ax.bbox) for ax in figure.axes)
    assert any("unit 0 · -1.23e+03 · (12, 12)" in text.get_text() for text in figure.texts)


def test_no_box_for_the_whole_picture() -> None:
    result = dataclasses.replace(make(1), boxes=torch.tensor([[0, 0, 224, 224]]))
    assert not result.figure().axes[0].patches


def test_the_users_matplotlib_stays_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    make(2).figure()
    assert dict(matplotlib.rcParams) == before
