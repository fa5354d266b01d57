"""The filters' figure: every filter in its place, its faults marked under it, nothing overlapping or cut."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure

from deconvviz.analyses.filters.result import Filters
from deconvviz.results.style import styled


def make(count: int, name: str = "zfnet", size: tuple[int, int] = (7, 7), channels: int = 3) -> Filters:
    generator = torch.Generator().manual_seed(count)
    return Filters(
        "conv1", "conv1", torch.randn(count, channels, *size, generator=generator),
        torch.rand(count, generator=generator) * 0.2, torch.rand(count, generator=generator),
        torch.zeros(count, dtype=torch.long), torch.ones(count, 2, dtype=torch.long),
        torch.rand(count, generator=generator), torch.rand(count, generator=generator), (2, 2), (58.0,) * channels,
        policy={"radius": 0.1, "blank": 0.01, "similar": 0.95, "alias": 0.5}, model={"name": name},
    )  # fmt: skip


def grids(figure: Figure) -> list[matplotlib.axes.Axes]:
    return [ax for ax in figure.axes if ax.images]


def test_filters_stand_in_rows_of_twelve_and_are_those_of_the_result() -> None:
    result = make(96)
    (ax,) = grids(result.figure(scale="panel"))
    assert len(ax.images) == 96
    for k, (image, expected) in enumerate(zip(ax.images, result.images("panel"), strict=True)):
        assert np.array_equal(np.asarray(image.get_array()), expected)
        left, _, _, top = image.get_extent()
        assert (int(left), int(top)) == (k % 12, k // 12)


def test_marks_stand_under_the_filters_that_have_a_fault() -> None:
    result = make(10)
    (ax,) = grids(result.figure())
    (marks,) = ax.collections
    columns = max(int(image.get_extent()[0]) for image in ax.images) + 1
    marked = {int(p.vertices[:, 1].min()) * columns + int(p.vertices[:, 0].min()) for p in marks.get_paths()}
    assert marked == {k for numbers in result.faults().values() for k in numbers}
    assert len(marks.get_paths()) == sum(len(numbers) for numbers in result.faults().values())


def test_clip_adds_the_filters_scaled_back() -> None:
    result = make(12)
    plain, clipped = grids(result.figure(clip=True))
    expected = result.images(radius=0.1)
    assert np.array_equal(np.asarray(clipped.images[3].get_array()), expected[3])
    assert np.array_equal(np.asarray(plain.images[3].get_array()), result.images()[3])
    assert len(grids(result.figure(clip=0.02))) == 2


@pytest.mark.parametrize(
    ("result", "clip"),
    [
        (make(96), False),
        (make(1, channels=1), False),
        (make(6, size=(3, 9)), True),
        (make(24, "vgg19_bn", channels=512), True),
        (Filters(**{**vars(make(96)), "other": make(64, "alexnet", (11, 11))}), False),
        (Filters(**{**vars(make(96)), "other": make(64, "alexnet", (11, 11))}), True),
    ],
)
def test_words_and_axes_lie_inside_and_apart(
    result: Filters, clip: bool, drawn: Callable[[Figure], RendererAgg], inside_and_apart: Callable[..., None]
) -> None:
    figure = result.figure(clip=clip)
    renderer = drawn(figure)
    with styled():
        titles = [t.get_window_extent(renderer) for t in figure.texts]
        legends = [legend.get_window_extent(renderer) for legend in figure.legends]
        areas = [ax.get_tightbbox(renderer) for ax in figure.axes]
    inside_and_apart(figure, [*titles, *legends, *areas])


def test_nothing_leaks_into_matplotlib() -> None:
    before = dict(matplotlib.rcParams)
    make(4).figure()
    assert dict(matplotlib.rcParams) == before
