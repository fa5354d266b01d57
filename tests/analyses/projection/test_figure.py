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
    corners = [(10 * k % 120, 8 * k % 80) for k in range(count)]
    boxes = torch.tensor([[row, column, row + 100, column + 139] for row, column in corners])
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


def shown_whole(count: int = 9) -> Projection:
    """A result of a picture of which the network sees the middle."""
    whole = torch.randint(80, 256, (80, 360, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    labels = ("$a label that is rather long$ and has two dollar signs", "cup")
    return dataclasses.replace(
        make(count), whole=whole, region=(0.1, 0.375, 0.9, 0.625), answer=(0, 0.876), labels=labels,
        policy={"method": "deconvnet", "distinct": True, "passed_over": 12},
    )  # fmt: skip


def test_the_whole_picture_is_bright_where_the_network_looks() -> None:
    result = shown_whole(3)
    figure = result.figure()
    strip = np.asarray(figure.axes[1].images[0].get_array())
    assert result.whole is not None
    whole = result.whole.numpy()
    assert np.array_equal(strip[8:72, 135:225], whole[8:72, 135:225])
    dark = np.ones((80, 360), dtype=bool)
    dark[8:72, 135:225] = False
    assert np.array_equal(strip[dark], np.rint(whole[dark] * 0.35).astype(np.uint8))
    said = [text.get_text() for text in figure.texts]
    assert "the picture: the network sees what is bright" in said
    # Its own proportions, and no wider than the photograph.
    place = figure.axes[1].get_position()
    width, height = place.width * figure.get_figwidth(), place.height * figure.get_figheight()
    assert width / height == pytest.approx(360 / 80) and place.width <= figure.axes[0].get_position().width + 1e-9
    # A picture that is padded is seen whole: nothing is dark.
    padded = dataclasses.replace(result, region=(-1.2, 0.0, 2.2, 1.0)).whole_picture()
    assert padded is not None and np.array_equal(padded, whole)


def test_the_answer_and_what_is_left_out_are_said() -> None:
    said = [text.get_text() for text in shown_whole().figure().texts]
    assert "network: $a label that is rather long$ and has two dollar signs, 0.876" in said
    assert "distinct places: 12 units at places shown before are left out" in said
    assert not any("network" in text.get_text() for text in make().figure().texts)


@pytest.mark.parametrize("count", [1, 9, 13, 30])
def test_with_all_that_can_be_said_nothing_overlaps(count: int, words_apart: Callable[[Figure], None]) -> None:
    words_apart(shown_whole(count).figure())


def test_thirty_fill_the_page_and_no_two_are_marked_alike() -> None:
    figure = make(30).figure()
    cells = [ax.get_position() for ax in figure.axes[1::2]]
    # Beside the photograph first, then below it over the whole width.
    below = [cell for cell in cells if cell.y1 < figure.axes[0].get_position().y0]
    assert len(below) == 30 - 4 * 3 and len({round(cell.x0, 4) for cell in below}) == 5
    assert min(cell.x0 for cell in below) == pytest.approx(figure.axes[0].get_position().x0)
    assert figure.get_figwidth() / figure.get_figheight() == pytest.approx(1, abs=0.25)
    frames = [p for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    marks = [(p.get_edgecolor(), str(p.get_linestyle())) for p in frames]
    assert len(marks) == 30 == len(set(marks))
    for k, ax in enumerate(figure.axes[1::2]):
        spine = ax.spines["left"]
        assert spine.get_edgecolor() == frames[k].get_edgecolor() and spine.get_linestyle() == frames[k].get_linestyle()


def test_boxes_that_hide_each_other_are_drawn_apart() -> None:
    same = torch.tensor([[40, 40, 180, 180]] * 3 + [[40, 60, 180, 200], [0, 0, 60, 60]])
    figure = dataclasses.replace(make(5), boxes=same).figure()
    ax = figure.axes[0]
    drawn = [p.get_bbox() for p in ax.patches if isinstance(p, Rectangle)]
    a_pixel = ax.get_position().height * figure.get_figheight() * 72 / 224  # points
    for n, one in enumerate(drawn):
        assert one.x0 + 0.5 >= same[n, 1] and one.y1 + 0.5 <= same[n, 2], "never outside what it says"
        assert one.width >= (same[n, 3] - same[n, 1]) / 2
        for other in drawn[:n]:
            # No edge lies on another along it, by less than the width of a line.
            if min(one.y1, other.y1) > max(one.y0, other.y0):
                assert min(abs(a - b) for a in (one.x0, one.x1) for b in (other.x0, other.x1)) * a_pixel > 1.6
            if min(one.x1, other.x1) > max(one.x0, other.x0):
                assert min(abs(a - b) for a in (one.y0, one.y1) for b in (other.y0, other.y1)) * a_pixel > 1.6


def test_a_fully_connected_layer_is_drawn_without_crops_and_places() -> None:
    whole = torch.tensor([[0, 0, 224, 224]] * 9)
    logits = dataclasses.replace(make(), boxes=whole, places=torch.zeros(9, 2, dtype=torch.long))
    figure = logits.figure(scale="shared")
    assert len(figure.axes) == 1 + 9
    shown = [np.asarray(ax.images[0].get_array()) for ax in figure.axes[1:]]
    assert all(np.array_equal(a, b) for a, b in zip(shown, logits.images(scale="shared"), strict=True))
    said = " ".join(text.get_text() for text in figure.texts)
    assert "(0, 0)" not in said and "unit 28 · " in said and "(row, column)" not in said
    # A map whose units each read everything has places, and no crops either.
    deep = dataclasses.replace(make(), boxes=whole).figure()
    assert len(deep.axes) == 10 and any("(12, 12)" in text.get_text() for text in deep.texts)
