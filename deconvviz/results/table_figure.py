"""A table drawn as in a paper: lines above, below and under the head, none between columns."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from deconvviz.results.style import inches, new_figure, styled
from deconvviz.results.table import Table

_ROW, _GAP, _MARGIN, _SIZE = 0.185, 0.22, 0.1, 7.5  # inches, and points


def draw(table: Table) -> Figure:
    """Draw `table`, as wide as its cells, its caption underneath; an empty table is its head."""
    with styled():
        cells = [[str(c) for c in row] for row in (table.columns, *table.rows)]
        widths = [max(_width(row[n], bold=k == 0) for k, row in enumerate(cells)) for n in range(len(table.columns))]
        inner = sum(widths) + _GAP * (len(widths) - 1)
        wide = max(inner, 2.6)
        note = textwrap.wrap(table.caption, max(int(wide * 22), 30)) if table.caption else []
        height = 2 * _MARGIN + len(cells) * _ROW + 0.12 + len(note) * 0.13 + (0.06 if note else 0)
        width = wide + 2 * _MARGIN
        figure = new_figure(width, height)
        top = height - _MARGIN

        def line(y: float, thick: float) -> None:
            ends = ([_MARGIN / width, (_MARGIN + inner) / width], [y / height, y / height])
            figure.add_artist(Line2D(*ends, color="black", linewidth=thick))

        line(top, 0.9)
        y = top - 0.03
        for number, row in enumerate(cells):
            if number and number - 1 in table.rules:
                line(y, 0.4)
            _row(figure, row, widths, table.alignment(), y - _ROW / 2, number == 0)
            y -= _ROW
            if number == 0:
                line(y, 0.5)
        line(y - 0.02, 0.9)
        for n, text in enumerate(note):
            figure.text(_MARGIN / width, (y - 0.14 - n * 0.13) / height, text, va="center", fontsize=6, color="#444444")
    return figure


def _row(figure: Figure, row: list[str], widths: list[float], align: str, y: float, head: bool) -> None:
    width, height = figure.get_size_inches()
    x = _MARGIN
    for cell, wide, side in zip(row, widths, align, strict=True):
        at = {"l": x, "c": x + wide / 2, "r": x + wide}[side]
        where = {"l": "left", "c": "center", "r": "right"}[side]
        weight = "bold" if head else "normal"
        figure.text(at / width, y / height, cell, ha=where, va="center", fontsize=_SIZE, weight=weight)
        x += wide + _GAP


def _width(cell: str, bold: bool) -> float:
    """Width of a cell in inches, as it will be drawn."""
    return inches(cell or " ", _SIZE, "bold" if bold else "normal")
