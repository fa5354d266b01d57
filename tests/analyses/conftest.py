"""What tests of the figures share: where things lie once a figure is drawn, and whether words can be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.transforms import BboxBase

from deconvviz.results.style import styled


@pytest.fixture
def drawn() -> Callable[[Figure], RendererAgg]:
    """Draws a figure in the style of the library and returns what measures its parts."""

    def draw(figure: Figure) -> RendererAgg:
        canvas = figure.canvas
        assert isinstance(canvas, FigureCanvasAgg)
        with styled():
            canvas.draw()  # type: ignore[no-untyped-call]
            return canvas.get_renderer()  # type: ignore[no-untyped-call,no-any-return]

    return draw


@pytest.fixture
def inside_and_apart() -> Callable[..., None]:
    """Asserts that boxes lie inside a figure and apart, but for `slack` pixels at its border and between them."""

    def check(figure: Figure, boxes: Sequence[BboxBase | None], slack: float = 0, touch: float = 0) -> None:
        page = figure.bbox
        for n, box in enumerate(boxes):
            assert box is not None
            assert box.x0 >= page.x0 - slack and box.x1 <= page.x1 + slack
            assert box.y0 >= page.y0 - slack and box.y1 <= page.y1 + slack
            for other in boxes[:n]:
                assert other is not None and not box.padded(-touch).overlaps(other.padded(-touch))

    return check


@pytest.fixture
def words_apart(
    drawn: Callable[[Figure], RendererAgg], inside_and_apart: Callable[..., None]
) -> Callable[[Figure], None]:
    """Asserts that the texts of a figure lie inside it, apart, and off its axes."""

    def check(figure: Figure) -> None:
        renderer = drawn(figure)
        boxes = [text.get_window_extent(renderer) for text in figure.texts]
        inside_and_apart(figure, boxes)
        assert not any(box.overlaps(ax.bbox) for box in boxes for ax in figure.axes)

    return check
