"""Fig. 9: what is written stands inside the figure and apart, also where lines end together or at the top."""

from __future__ import annotations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from deconvviz.analyses.accuracy.result import Accuracy, Series
from deconvviz.results.style import styled


def lines(*last: float) -> tuple[Series, ...]:
    found = [Series(f"line {n}", n < 3, (1, 15, 30), (0.1, value / 2, value)) for n, value in enumerate(last)]
    return (*found, Series("one point", True, (30,), (0.5,)))


@pytest.mark.parametrize("last", [(1.0, 1.0), (0.7, 0.71, 0.69, 0.3), (0.0, 0.01), ()])
def test_words_lie_inside_and_apart(last: tuple[float, ...]) -> None:
    figure = Accuracy(lines(*last), 0.25).figure()
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    with styled():
        canvas.draw()  # type: ignore[no-untyped-call]
        renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
        (ax,), (key,) = figure.axes, figure.legends
        boxes = [text.get_window_extent(renderer) for text in ax.texts]
        whole = ax.get_tightbbox(renderer)
        assert whole is not None
        assert not key.get_window_extent(renderer).overlaps(whole)
        for box in (*boxes, key.get_window_extent(renderer), whole):
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
    values = boxes[: len(last) + 1]
    assert not any(a.overlaps(b) for i, a in enumerate(values) for b in values[i + 1 :])
