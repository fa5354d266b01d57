"""One table, four spellings: text for a terminal, Markdown, LaTeX (booktabs) and HTML, each escaped."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from deconvviz.errors import DeconvvizValueError, UnknownNameError, suggest

KINDS = ("text", "markdown", "latex", "html")

_NUMBER = re.compile(r"[-+−]?[\d.,  ]*\d\s?(%|M|k|px)?(\s?[±/–]\s?[\d.,]*\d\s?%?)*")
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "–": "--", "—": "---", "−": "$-$",
    "Δ": r"$\Delta$", "ε": r"$\varepsilon$", "α": r"$\alpha$", "β": r"$\beta$", "°": r"$^{\circ}$", "²": "$^{2}$",
    "≤": r"$\leq$", "≥": r"$\geq$", "→": r"$\rightarrow$", "…": r"\ldots{}", "≈": r"$\approx$", "\u00a0": "~",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """`columns` are the headings, `rows` the cells of each row; anything but a string is turned into one by `str`
    (None is an empty cell), so numbers are to be formatted by the caller, who knows their precision.

    `caption` stands under the table (over it in LaTeX). `align` has one letter a column, "l", "c" or "r"; without it,
    columns of numbers stand right and others left. `rules` are the numbers of the rows that a line goes above.

    Raises `DeconvvizValueError` for a row or an `align` of another length than the headings.

    >>> table = deconvviz.Table(("layer", "accuracy"), [("conv1", "52.8"), ("conv5", "77.7")])
    >>> print(table.text(), end="")
    layer  accuracy
    ───────────────
    conv1      52.8
    conv5      77.7
    """

    columns: Sequence[object]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    align: str = ""
    rules: Sequence[int] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(_cell(c) for c in self.columns))
        object.__setattr__(self, "rows", tuple(tuple(_cell(c) for c in row) for row in self.rows))
        object.__setattr__(self, "rules", tuple(self.rules))
        count = len(self.columns)
        for number, row in enumerate(self.rows):
            if len(row) != count:
                raise DeconvvizValueError(f"row {number} has {len(row)} cells, the table {count} columns")
        if self.align and (len(self.align) != count or set(self.align) - set("lcr")):
            raise DeconvvizValueError(f"align is {self.align!r}; allowed: {count} letters of l, c and r")

    def __repr__(self) -> str:
        return f"Table({', '.join(map(str, self.columns))}: {len(self.rows)} rows)"

    def _repr_html_(self) -> str:
        """The table as a notebook shows it."""
        return self.html()

    def render(self, kind: str = "text") -> str:
        """Return the table as `kind`, one of `KINDS`. Raises `UnknownNameError` for another."""
        if kind not in KINDS:
            raise UnknownNameError(f"unknown kind of table {kind!r}; allowed: {', '.join(KINDS)}{suggest(kind, KINDS)}")
        return str(getattr(self, kind)())

    def text(self) -> str:
        """Columns in line, for a terminal or a text file; ends with a newline, as the others do."""
        cells = [[str(c) for c in row] for row in (self.columns, *self.rows)]
        widths = [max(_width(row[n]) for row in cells) for n in range(len(self.columns))]
        lines = [_line(row, widths, self.alignment()) for row in cells]
        rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
        body = [line for n, line in enumerate(lines[1:]) for line in ([rule, line] if n in self.rules else [line])]
        return "\n".join([lines[0], rule, *body, *(["", self.caption] if self.caption else [])]) + "\n"

    def markdown(self) -> str:
        """A pipe table, as GitHub shows it; lines between rows are left out, Markdown knows none."""
        sides = {"l": ":--", "c": ":-:", "r": "--:"}
        head = [[_markdown(str(c)) for c in self.columns], [sides[a] for a in self.alignment()]]
        body = [[_markdown(str(c)) for c in row] for row in self.rows]
        lines = ["| " + " | ".join(row) + " |" for row in (*head, *body)]
        return "\n".join([*lines, *(["", _markdown(self.caption)] if self.caption else [])]) + "\n"

    def latex(self) -> str:
        r"""A `table` with booktabs' lines; the document needs `\usepackage{booktabs}`."""
        lines = [r"\begin{table}", r"\centering"]
        if self.caption:
            lines.append(rf"\caption{{{_latex(self.caption)}}}")
        lines += [rf"\begin{{tabular}}{{{self.alignment()}}}", r"\toprule", _ampersands(self.columns), r"\midrule"]
        for number, row in enumerate(self.rows):
            lines += [r"\midrule"] * (number in self.rules) + [_ampersands(row)]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"

    def html(self) -> str:
        """A `<table>` without style of its own; cells carry their alignment as the class `l`, `c` or `r`."""

        def row_of(cells: Sequence[object], tag: str, extra: str = "") -> str:
            pairs = zip(cells, self.alignment(), strict=True)
            return f"<tr{extra}>" + "".join(f'<{tag} class="{a}">{html.escape(str(c))}</{tag}>' for c, a in pairs)

        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        head = f"<thead>{row_of(self.columns, 'th')}</tr></thead>"
        body = "".join(
            row_of(row, "td", ' class="rule"' if n in self.rules else "") + "</tr>\n" for n, row in enumerate(self.rows)
        )
        return f"<table>{caption}{head}<tbody>\n{body}</tbody></table>\n"

    def alignment(self) -> str:
        """Return one letter a column: "l", "c" or "r"."""
        if self.align:
            return self.align
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.columns)
        return "".join("r" if _numbers([str(c) for c in column]) else "l" for column in columns)


def _cell(value: object) -> str:
    return "" if value is None else " ".join(str(value).split())


def _numbers(cells: Sequence[str]) -> bool:
    """Whether a column holds numbers: at least one, and else only empty cells and dashes."""
    found = [c for c in cells if c not in ("", "-", "–", "—")]
    return bool(found) and all(_NUMBER.fullmatch(c) for c in found)


def _width(cell: str) -> int:
    """Places that a cell takes on a terminal: two for wide characters, none for combining ones."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in cell)


def _line(row: Sequence[str], widths: Sequence[int], align: str) -> str:
    parts = []
    for cell, width, side in zip(row, widths, align, strict=True):
        free = width - _width(cell)
        left = {"l": 0, "c": free // 2, "r": free}[side]
        parts.append(" " * left + cell + " " * (free - left))
    return "  ".join(parts).rstrip()


def _markdown(cell: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|~])", r"\\\1", cell)


def _latex(cell: str) -> str:
    return "".join(_LATEX.get(c, c) for c in cell)


def _ampersands(row: Sequence[object]) -> str:
    return " & ".join(_latex(str(c)) for c in row) + r" \\"
