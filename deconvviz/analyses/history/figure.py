"""The chart of ILSVRC classification: one row an entry; error, depth and number of parameters side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deconvviz.results.style import COLOURS, new_figure, styled

if TYPE_CHECKING:
    from deconvviz.analyses.history.result import Entry, History

_WINNER, _OTHER, _OWN = COLOURS[0], "#a9cbe3", COLOURS[1]
_ROW, _BETWEEN = 1.0, 0.55  # height of a row, and what is left free between two years


def draw(result: History) -> Figure:
    """Draw `result`: bars of the top-5 error; for networks that the zoo has, of depth and parameters."""
    rows = _places(result.entries)
    with styled():
        figure = new_figure(7.0, 0.45 + 0.185 * (rows[-1] + _ROW))
        errors, depths, sizes = figure.subplots(1, 3, width_ratios=(2.6, 1.2, 1.0))
        _bars(errors, rows, result.entries, [e.error for e in result.entries], "{:.2f}", 1.12)
        _bars(depths, rows, result.entries, [e.depth for e in result.entries], "{:d}", 1.2)
        millions = [e.parameters / 1e6 if e.parameters else None for e in result.entries]
        _bars(sizes, rows, result.entries, millions, "{:.1f}", 1.3)
        for ax, title in (
            (errors, "top-5 test error (%)"),
            (depths, "depth (layers)"),
            (sizes, "parameters (M)"),
        ):
            ax.set_title(title, fontsize=7, loc="left", weight="bold")
        _names(errors, rows, result.entries)
        depths.set_yticks(rows, [e.network if e.depth else "" for e in result.entries])
        sizes.set_yticks([])
        _legend(errors, any(e.extra is not None for e in result.entries))
        figure.subplots_adjust(0.18, 0.02, 0.985, 0.94, wspace=0.36)
    return figure


def _places(entries: Sequence[Entry]) -> list[float]:
    """Where each entry's row is: from above, with room between two years."""
    rows, y = [], 0.0
    for number, entry in enumerate(entries):
        y += (_ROW if number else 0.0) + (_BETWEEN if number and entries[number - 1].year != entry.year else 0.0)
        rows.append(y)
    return rows


def _colour(entry: Entry) -> str:
    return _OWN if entry.team == "ZF" else _WINNER if entry.place == 1 else _OTHER


def _bars(
    ax: Axes, rows: Sequence[float], entries: Sequence[Entry], values: Sequence[float | None], form: str, room: float
) -> None:
    highest = max((v for v in values if v is not None), default=1.0)
    for y, entry, value in zip(rows, entries, values, strict=True):
        if value is not None:
            ax.barh(y, value, 0.82 * _ROW, color=_colour(entry))
            ax.text(value + highest * 0.015, y, form.format(value), va="center", fontsize=6)
    ax.set_xlim(0, highest * room)
    ax.set_ylim(rows[-1] + 0.6, -0.6)
    ax.set_xticks([])
    ax.tick_params(axis="y", length=0)
    for side in ("top", "right", "bottom"):
        ax.spines[side].set_visible(False)


def _names(ax: Axes, rows: Sequence[float], entries: Sequence[Entry]) -> None:
    ax.set_yticks(rows, [e.team for e in entries])
    for year in sorted({e.year for e in entries}):
        own = [y for y, e in zip(rows, entries, strict=True) if e.year == year]
        middle = (own[0] + own[-1]) / 2
        ax.text(-0.47, middle, str(year), transform=ax.get_yaxis_transform(), va="center", weight="bold")
    for y, entry in zip(rows, entries, strict=True):
        if entry.extra is not None:
            ax.vlines(entry.extra, y - 0.41, y + 0.41, color="white", linewidth=1.0)


def _legend(ax: Axes, extra: bool) -> None:
    handles = [ax.barh(0, 0, color=colour) for colour in (_WINNER, _OTHER, _OWN)]
    ax.legend(
        handles,
        ["winner", "runner-up", "the paper's own entry"],
        loc="lower left",
        bbox_to_anchor=(0.3, 0.02),
        frameon=False,
        handlelength=1.2,
        title="white line: with extra data" if extra else None,
        title_fontsize=6,
        alignment="left",
    )
