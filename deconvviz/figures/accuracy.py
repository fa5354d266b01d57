"""Fig. 9: accuracy against the number of training pictures a category; what the paper says is drawn hollow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deconvviz.figures.style import COLOURS, new_figure, styled

if TYPE_CHECKING:
    from deconvviz.results.accuracy import Accuracy, Series


def draw(result: Accuracy) -> Figure:
    """Draw `result`: a line for each series, with bars of its deviation; the last value of each is written out."""
    with styled():
        figure = new_figure(6.6, 3.2)
        ax = figure.add_axes((0.07, 0.13, 0.52, 0.83))
        for k, series in enumerate(result.lines):
            _line(ax, series, COLOURS[k % len(COLOURS)])
        ax.axhline(100 * result.chance, color="#999999", linewidth=0.6, linestyle=":")
        largest = max((n for series in result.lines for n in series.counts), default=1)
        ax.set(xlim=(0, largest * 1.12), ylim=(0, 100))
        ax.text(0.4, 100 * result.chance + 1, "chance", fontsize=5.5, color="#777777")
        ax.set_xlabel("training pictures a category")
        ax.set_ylabel("accuracy, mean over categories (%)")
        ax.grid(color="#e6e6e6", linewidth=0.4)
        ax.set_axisbelow(True)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, fontsize=6, handlelength=2.6)
    return figure


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
    }
    ax.errorbar(series.counts, percent, bars, **look, **style)
    at = (series.counts[-1], percent[-1])
    ax.annotate(f"{percent[-1]:.1f}", at, (6, 0), textcoords="offset points", va="center", fontsize=6, color=colour)
