"""A drawn table: every cell is there, in line with its column, and inside the page."""

from __future__ import annotations

import pytest
from matplotlib.text import Text

from deconvviz.results.table import Table
from deconvviz.results.table_figure import draw

TABLE = Table(
    ("part", "layer 5", "layer 7"),
    [("left eye", ".069 ± .007", ".068"), ("a much longer name", "0.107", None)],
    "Δ at two layers, with a caption that is longer than the table is wide, so that it must be wrapped",
    rules=[1],
)


def boxes(table: Table) -> dict[str, tuple[float, float, float, float]]:
    """Text → its box (left, bottom, right, top) as a share of the page."""
    figure = draw(table)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    found = {}
    for text in figure.findobj(Text):
        box = text.get_window_extent(renderer)
        width, height = figure.bbox.size
        found[text.get_text()] = (box.x0 / width, box.y0 / height, box.x1 / width, box.y1 / height)
    return {text: box for text, box in found.items() if text}


def test_cells_are_there_and_inside() -> None:
    found = boxes(TABLE)
    cells = {str(c) for row in (TABLE.columns, *TABLE.rows) for c in row if c}
    assert cells <= set(found)
    assert all(left >= 0 and low >= 0 and right <= 1 and high <= 1 for left, low, right, high in found.values())


def test_columns_stand_in_line() -> None:
    found = boxes(TABLE)
    assert found["left eye"][0] == pytest.approx(found["a much longer name"][0], abs=0.01)
    # Numbers stand right.
    assert found[".069 ± .007"][2] == pytest.approx(found["0.107"][2], abs=0.01)
    assert found["a much longer name"][2] < found[".069 ± .007"][0]
    rows = [found[name][1] for name in ("part", "left eye", "a much longer name")]
    assert rows == sorted(rows, reverse=True)


def test_an_empty_table_is_its_head() -> None:
    assert set(boxes(Table(("a", "b"), []))) == {"a", "b"}
