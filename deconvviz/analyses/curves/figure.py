"""Learning curves: the loss beside the accuracies, over the epochs."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from deconvviz.analyses.curves.result import LearningCurves
from deconvviz.results.style import COLOURS, new_figure, styled

_TRAIN, _TEST = COLOURS[0], COLOURS[1]
_GREY = "#666666"


def draw(curves: LearningCurves, width: float = 6.0) -> Figure:
    """Two panels, `width` inches together: training loss; training and test accuracy with the best epoch marked.

    Where the input size changes, a thin line stands, and the size above it.
    """
    with styled():
        figure = new_figure(width, 0.4 * width)
        left, right = figure.subplots(1, 2)
        figure.subplots_adjust(left=0.095, right=0.905, bottom=0.17, top=0.88, wspace=0.32)
        epochs = curves.epochs.numpy()
        left.plot(epochs, curves.loss.numpy(), color=_TRAIN, **_line(curves))
        left.set_ylabel("training loss")
        # Few enough digits for the margin, whatever the range.
        left.yaxis.set_major_locator(MaxNLocator(5))
        left.yaxis.set_major_formatter(lambda y, _: f"{y:.3g}")
        _accuracies(right, curves)
        for panel, letter in ((left, "a"), (right, "b")):
            _axes(panel, curves)
            panel.text(-0.12, 1.06, letter, transform=panel.transAxes, fontsize=9, fontweight="bold")
    return figure


def _accuracies(panel: Axes, curves: LearningCurves) -> None:
    epochs, train, test = (t.numpy() for t in (curves.epochs, curves.train, curves.test))
    panel.plot(epochs, train, color=_TRAIN, **_line(curves))
    ends = [(float(train[-1]), "training", _TRAIN)]
    tested = ~np.isnan(test)
    if tested.any():
        panel.plot(epochs[tested], test[tested], color=_TEST, **_line(curves))
        best = int(np.nanargmax(test))
        panel.plot(epochs[best], test[best], "o", color=_TEST, markersize=4, markerfacecolor="white", zorder=3)
        said = f"○ best {test[best]:.1%}, epoch {epochs[best]}"
        panel.text(0.99, 0.03, said, transform=panel.transAxes, ha="right", color=_TEST)
        ends.append((float(test[tested][-1]), curves.part, _TEST))
    _name_ends(panel, ends)
    panel.set_ylabel("accuracy")
    panel.set_ylim(0, 1)
    panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _name_ends(panel: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write each curve's name at its right end, apart from the other's."""
    gap = 0.07
    high = sorted(ends, reverse=True)
    if len(high) == 2 and high[0][0] - high[1][0] < gap:
        middle = (high[0][0] + high[1][0]) / 2
        high = [(middle + gap / 2, *high[0][1:]), (middle - gap / 2, *high[1][1:])]
    for y, name, colour in high:
        panel.annotate(
            name, (1.02, y), xycoords=("axes fraction", "data"), color=colour, va="center", annotation_clip=False
        )


def _axes(panel: Axes, curves: LearningCurves) -> None:
    panel.set_xlabel("epoch")
    panel.set_xlim(float(curves.epochs[0]) - 0.5, float(curves.epochs[-1]) + 0.5)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="y", color="#e5e5e5", linewidth=0.5)
    panel.set_axisbelow(True)
    stages = [(size, [e for e, _ in group]) for size, group in groupby(_sized(curves), key=lambda pair: pair[1])]
    if len(stages) == 1:
        return
    for k, (size, epochs) in enumerate(stages):
        if k:
            panel.axvline(epochs[0] - 0.5, color="#bbbbbb", linewidth=0.5, linestyle=(0, (3, 2)))
        text = f"{size}²"
        middle = (epochs[0] + epochs[-1]) / 2
        panel.text(middle, 1.01, text, transform=panel.get_xaxis_transform(), ha="center", va="bottom", color=_GREY)


def _sized(curves: LearningCurves) -> list[tuple[int, int]]:
    return list(zip(curves.epochs.tolist(), curves.sizes.tolist(), strict=True))


def _line(curves: LearningCurves) -> dict[str, Any]:
    """How curves are drawn; a single epoch makes no line."""
    return {"linewidth": 1.2, "marker": "o" if len(curves) < 3 else "", "markersize": 3}
