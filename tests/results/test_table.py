"""Tables: the same cells in four spellings, each escaped for its own format."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from deconvviz.errors import DeconvvizValueError, UnknownNameError
from deconvviz.results.table import KINDS, Table

TABLE = Table(
    ("part", "layer 5", "layer 7"),
    [("left eye", ".069 ± .007", ".068"), ("random", "0.107", None)],
    caption="Δ at two layers",
    rules=[1],
)


def test_text() -> None:
    assert TABLE.text() == (
        "part          layer 5  layer 7\n"
        "──────────────────────────────\n"
        "left eye  .069 ± .007     .068\n"
        "──────────────────────────────\n"
        "random          0.107\n"
        "\n"
        "Δ at two layers\n"
    )


def test_text_counts_places_of_a_terminal() -> None:
    # An ideograph takes two places, a combining accent none: the second column starts in line.
    lines = Table(("a", "b"), [("漢", "x"), ("e\u0301f", "x")]).text().splitlines()
    assert lines[2] == "漢  x" and lines[3] == "e\u0301f  x"


def test_markdown() -> None:
    assert TABLE.markdown().splitlines() == [
        "| part | layer 5 | layer 7 |",
        "| :-- | --: | --: |",
        "| left eye | .069 ± .007 | .068 |",
        "| random | 0.107 |  |",
        "",
        "Δ at two layers",
    ]


def test_latex() -> None:
    assert TABLE.latex().splitlines() == [
        r"\begin{table}",
        r"\centering",
        r"\caption{$\Delta$ at two layers}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"part & layer 5 & layer 7 \\",
        r"\midrule",
        r"left eye & .069 $\pm$ .007 & .068 \\",
        r"\midrule",
        r"random & 0.107 &  \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


NASTY = r"a|b_c & 50% <i>$x$</i> \y #{z} *w* `v` ~^"


def test_nasty_cells_are_escaped() -> None:
    table = Table(("name",), [(NASTY,)])
    # Backslash escapes are all that is added.
    row = table.markdown().splitlines()[2]
    assert row == r"| a\|b\_c & 50% \<i\>$x$\</i\> \\y #{z} \*w\* \`v\` \~^ |"
    assert table.latex().splitlines()[6] == (
        r"a\textbar{}b\_c \& 50\% \textless{}i\textgreater{}\$x\$\textless{}/i\textgreater{} "
        r"\textbackslash{}y \#\{z\} *w* `v` \textasciitilde{}\textasciicircum{} \\"
    )


class Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.closed: list[str] = []
        self.data: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.closed.append(tag)

    def handle_data(self, data: str) -> None:
        self.data += [data] if data.strip() else []


def test_html_read_back() -> None:
    cells = Cells()
    cells.feed(Table(("name", "n"), [(NASTY, 3), ("b", 4)], caption="<b>").html())
    assert cells.data == ["<b>", "name", "n", NASTY, "3", "b", "4"]
    assert set(cells.tags) == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert sorted(cells.tags) == sorted(cells.closed)
    assert 'class="rule"' in TABLE.html()


def test_a_line_break_in_a_cell_breaks_no_row() -> None:
    assert Table(("a",), [("x\ny",)]).markdown().splitlines()[2] == "| x y |"


def test_render_and_its_errors() -> None:
    assert [TABLE.render(kind) for kind in KINDS] == [TABLE.text(), TABLE.markdown(), TABLE.latex(), TABLE.html()]
    with pytest.raises(UnknownNameError, match="did you mean 'markdown'"):
        TABLE.render("markdwn")
    with pytest.raises(DeconvvizValueError, match="row 1 has 1 cells, the table 2 columns"):
        Table(("a", "b"), [(1, 2), (1,)])
    with pytest.raises(DeconvvizValueError, match="2 letters of l, c and r"):
        Table(("a", "b"), [], align="lx")


def test_an_empty_table_has_its_head() -> None:
    assert Table(("a", "b"), []).markdown() == "| a | b |\n| :-- | :-- |\n"
