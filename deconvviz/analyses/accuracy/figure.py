"""Fig. 9: accuracy against the number of training pictures a category; what the paper says is drawn hollow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from deconvviz.results.style import COLOURS, new_figure, styled

if TYPE_CHECKING:
    from deconvviz.analyses.accuracy.result import Accuracy, Series


_SIDE = 2.7  # inches of the axes' height
_APART = 4.5  # least distance of two written values, in percent


def draw(result: Accuracy) -> Figure:
    """Draw `result`: a line for each series, with bars of its deviation; the last value of each is written out."""
    with styled():
        key = 0.16 * len(result.lines) + 0.1
        width, height = 4.4, _SIDE + 0.5 + key
        figure = new_figure(width, height)
        ax = figure.add_axes((0.115, (0.42 + key) / height, 0.845, (_SIDE - 0.05) / height))
        for k, series in enumerate(result.lines):
            _line(ax, series, COLOURS[k % len(COLOURS)])
        _last_values(ax, result.lines)
        ax.axhline(100 * result.chance, color="#999999", linewidth=0.6, linestyle=":")
        largest = max((n for series in result.lines for n in series.counts), default=1)
        ax.set(xlim=(0, largest * 1.12), ylim=(0, 103))
        ax.yaxis.set_major_locator(FixedLocator(range(0, 101, 20)))
        ends: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": 5.5, "color": "#777777"}
        ax.text(largest * 1.115, 100 * result.chance + 0.6, "chance", **ends)
        ax.set_xlabel("training pictures a category")
        ax.set_ylabel("accuracy, mean over categories (%)")
        ax.grid(color="#e6e6e6", linewidth=0.4)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        figure.legend(
            *ax.get_legend_handles_labels(), loc="lower left", bbox_to_anchor=(0.105, 0.0), frameon=False, fontsize=6,
            handlelength=2.6,
        )  # fmt: skip
    return figure


def _last_values(ax: Axes, lines: Sequence[Series]) -> None:
    """Write the last value of each line at its end; those that would run into each other are moved apart."""
    y = -_APART
    for k in sorted(range(len(lines)), key=lambda k: (lines[k].counts[-1], lines[k].values[-1])):
        series, value = lines[k], 100 * lines[k].values[-1]
        y = max(value, y + _APART)
        ax.annotate(
            f"{value:.1f}", (series.counts[-1], y), (7, 0), textcoords="offset points", va="center", fontsize=6,
            color=COLOURS[k % len(COLOURS)], annotation_clip=False,
        )  # fmt: skip


def _line(ax: Axes, series: Series, colour: str) -> None:
    """A solid line with discs is measured here; a dashed one with hollow squares is said in the paper."""
    percent = [100 * value for value in series.values]
    bars = [100 * value for value in series.deviations] or None
    look: dict[str, Any] = {"linestyle": "-", "marker": "o", "markerfacecolor": colour}
    if not series.measured:
        look = {"linestyle": (0, (3, 2)), "marker": "s", "markerfacecolor": "white"}
    name = f"{series.name} ({'measured' if series.measured else 'paper'})"
    style: dict[str, Any] = {
        "color": colour,
        "linewidth": 1.2,
        "markersize": 3.8,
        "capsize": 2,
        "elinewidth": 0.7,
        "label": name,
        "clip_on": False,
        "zorder": 3,
    }
    ax.errorbar(series.counts, percent, bars, **look, **style)
