"""How well each layer classifies: accuracy against depth, one line for each number of training pictures (Table 7)."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from deconvviz.results.style import COLOURS, new_figure, styled

if TYPE_CHECKING:
    from deconvviz.analyses.probes.result import Probes


def draw(result: Probes) -> Figure:
    """Draw `result` and return the figure; bars are the standard deviation over the splits, if there are several."""
    note = wrap(result.note, 88)
    foot = 0.5 + 0.11 * len(note)
    width, height = max(3.8, 1.2 + 0.42 * len(result)), 2.25 + foot
    several = result.accuracy.shape[2] > 1
    places = list(range(len(result)))
    with styled():
        figure = new_figure(width, height)
        ax = figure.add_axes(
            (
                0.5 / width,
                foot / height,
                1 - 0.62 / width,
                1 - (foot + 0.47 + 0.12 * ((len(result.per_category) - 1) // 3)) / height,
            )
        )
        for p, colour in zip(range(len(result.per_category)), COLOURS * len(result.per_category), strict=False):
            mean = (100 * result.mean[:, p]).tolist()
            spread = (100 * result.spread[:, p]).tolist() if several else None
            label = f"{result.count(p)} a category"
            ax.errorbar(
                places, mean, spread, color=colour, lw=1.2, marker="o", ms=3.2, capsize=2, elinewidth=0.7, label=label
            )
            for x in places:
                _value(ax, result, x, p, colour)
        ax.axhline(100 * result.chance, color="#999999", lw=0.6, ls="--", zorder=0)
        ax.annotate(
            f"chance, {100 * result.chance:.2g} %", (1, 100 * result.chance), xycoords=("axes fraction", "data"),
            xytext=(0, 2), textcoords="offset points", ha="right", fontsize=5.5, color="#777777",
        )  # fmt: skip
        ax.set_xticks(places, list(result.layers))
        ax.set_xlim(-0.4, len(result) - 0.6)
        highest = float((result.mean + result.spread).max() if several else result.mean.max())
        ax.set_ylim(0, 100 * highest * 1.1 + 3)
        ax.yaxis.set_major_locator(FixedLocator(range(0, 101, 20)))
        ax.set_xlabel("layer", fontsize=6.5)
        ax.set_ylabel("accuracy, mean over categories (%)", fontsize=6.5)
        ax.tick_params(labelsize=6, width=0.5, length=2)
        ax.grid(axis="y", lw=0.3, color="#dddddd")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(
            fontsize=6, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, borderpad=0,
            columnspacing=1.2,
        )  # fmt: skip
        title = f"{result.model_name} · a linear classifier on each layer"
        figure.text(0.08 / width, 1 - 0.08 / height, title, va="top", fontsize=8, weight="bold")
        if note:
            figure.text(0.08 / width, 0.06 / height, "\n".join(note), fontsize=5.2, color="#555555", va="bottom")
    return figure


def _value(ax: Axes, result: Probes, layer: int, count: int, colour: str) -> None:
    """Write the accuracy of a layer beyond its bar: above the highest of its lines, below the others."""
    means = result.mean[layer].tolist()
    # Of equal ones the last line counts as the highest: it is drawn on top.
    above = count == max(range(len(means)), key=lambda k: (means[k], k))
    spread = float(result.spread[layer, count]) if result.accuracy.shape[2] > 1 else 0.0
    end = 100 * (means[count] + (spread if above else -spread))
    ax.annotate(
        f"{100 * means[count]:.1f}", (layer, end), xytext=(0, 4 if above else -4), textcoords="offset points",
        ha="center", va="bottom" if above else "top", fontsize=5.5, color=colour, annotation_clip=False,
    )  # fmt: skip
