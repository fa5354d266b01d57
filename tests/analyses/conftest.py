"""What tests of the figures share: whether words can be read, once a figure is drawn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deconvviz.results.style import styled


@pytest.fixture
def words_apart() -> Callable[[Figure], None]:
    """Asserts that the texts of a figure lie inside it, apart, and off its axes."""

    def check(figure: Figure) -> None:
        canvas = figure.canvas
        assert isinstance(canvas, FigureCanvasAgg)
        with styled():
            canvas.draw()  # type: ignore[no-untyped-call]
            renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
            boxes = [text.get_window_extent(renderer) for text in figure.texts]
        for i, box in enumerate(boxes):
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
            assert not any(box.overlaps(other) for other in boxes[i + 1 :])
            assert not any(box.overlaps(ax.bbox) for ax in figure.axes)

    return check
