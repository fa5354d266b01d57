"""Feature evolution: rows of units, columns of epochs, layers side by side (Fig. 4); and as curves of convergence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from deconvviz.errors import DeconvvizValueError
from deconvviz.results.base import signed_pictures
from deconvviz.results.style import COLOURS, new_figure, show, styled

if TYPE_CHECKING:
    from deconvviz.analyses.evolution.result import Evolution, EvolutionLayer

SCALES = ("panel", "unit", "layer")
_PANEL, _GAP, _LABEL, _BETWEEN = 0.32, 0.025, 0.3, 0.16  # inches
_TITLE, _HEAD, _APART, _FOOT = 0.3, 0.3, 0.12, 0.36
_JUMP = COLOURS[1]
_NOTE = "Each panel: a unit's strongest activation over all pictures at that epoch, projected; zero is mid-grey."
_MARKED = "Orange: another picture is behind it than at the epoch before."


def draw(result: Evolution, kind: str = "evolution", **options: Any) -> Figure:
    """Draw `result` as `kind`: "evolution" (the paper's Fig. 4) or "convergence" (its numbers as curves).

    The options are those of the functions of these names. Raises `DeconvvizValueError` for another kind.
    """
    if kind not in ("evolution", "convergence"):
        raise DeconvvizValueError(f"kind is {kind!r}; allowed: 'evolution', 'convergence'")
    return evolution(result, **options) if kind == "evolution" else convergence(result, **options)


def evolution(result: Evolution, scale: str = "panel", percentile: float = 98, columns: int = 3) -> Figure:
    """Draw `result` and return the figure: for each layer a block, one row a unit and one column an epoch.

    `scale` is the one rule of contrast for all panels: "panel" takes each by its own `percentile`, "unit" all epochs of
    a unit together, "layer" all of a layer. `columns` is the number of layers side by side. Raises
    `DeconvvizValueError` for another scale.
    """
    if scale not in SCALES:
        raise DeconvvizValueError(f"scale {scale!r} is unknown; allowed: {', '.join(map(repr, SCALES))}")
    columns = max(1, min(columns, len(result.layers)))
    rows = [result.layers[k : k + columns] for k in range(0, len(result.layers), columns)]
    block = _LABEL + len(result.epochs) * (_PANEL + _GAP) + _BETWEEN
    heights = [_HEAD + max(len(x) for x in row) * (_PANEL + _GAP) + _APART for row in rows]
    width, height = max(columns * block, 4.4), _TITLE + sum(heights) + _FOOT
    with styled():
        figure = new_figure(width, height)
        title = f"{result.model_name} · evolution of features, {result.policy.get('method')}"
        figure.text(0.06 / width, 1 - 0.08 / height, title, va="top", fontsize=8, weight="bold")
        top = height - _TITLE
        for row, tall in zip(rows, heights, strict=True):
            for k, layer in enumerate(row):
                _block(figure, layer, result.epochs, (k * block, top), _pictures(layer, scale, percentile))
            top -= tall
        jumped = any(bool(layer.jumps.any()) for layer in result.layers)
        note = _NOTE + ("\n" + _MARKED) * jumped
        figure.text(0.06 / width, (_FOOT - 0.06) / height, note, va="top", fontsize=5.5, color="#555555")
    return figure


def _pictures(layer: EvolutionLayer, scale: str, percentile: float) -> NDArray[np.uint8]:
    """The projections as pictures (E, K, h, w, C)."""
    epochs, units = layer.pixels.shape[:2]
    shape = (*layer.pixels.shape[2:][1:], layer.pixels.shape[2])
    if scale == "unit":
        parts = [signed_pictures(layer.pixels[:, k], percentile, "shared") for k in range(units)]
        return np.stack(parts, 1)
    flat = signed_pictures(layer.pixels.flatten(0, 1), percentile, "panel" if scale == "panel" else "shared")
    return flat.reshape(epochs, units, *shape)


def _block(
    figure: Figure, layer: EvolutionLayer, epochs: Sequence[int], corner: tuple[float, float], shown: NDArray[np.uint8]
) -> None:
    """One layer, with `corner` (left, top) in inches: one axes, in which one unit is one panel with its gap."""
    width, height = figure.get_size_inches()
    columns, rows = len(epochs), len(layer)
    step = _PANEL + _GAP
    left, top = corner[0] + _LABEL, corner[1] - _HEAD
    across, down = columns * step, rows * step
    ax = figure.add_axes((left / width, (top - down) / height, across / width, down / height))
    ax.set_xlim(0, columns)
    ax.set_ylim(rows, 0)
    ax.axis("off")
    middle = (left + (across - _GAP) / 2) / width
    figure.text(middle, (corner[1] - 0.03) / height, _named(layer), ha="center", va="top", fontsize=7.5, weight="bold")
    for e, epoch in enumerate(epochs):
        x = (left + e * step + _PANEL / 2) / width
        figure.text(x, (top + 0.02) / height, str(epoch), ha="center", va="bottom", fontsize=5.5)
        for k in range(rows):
            _show(ax, shown[e, k], e, k)
    jumped = layer.jumps.nonzero().tolist()
    edge = _GAP / step
    ax.vlines([e - edge / 2 for e, _ in jumped], [k for _, k in jumped], [k + 1 - edge for _, k in jumped],
              color=_JUMP, lw=1.4, clip_on=False)  # fmt: skip
    for k, unit in enumerate(layer.units.tolist()):
        where = ((left - 0.05) / width, (top - k * step - _PANEL / 2) / height)
        figure.text(*where, str(unit), ha="right", va="center", fontsize=5, color="#777777")


def _named(layer: EvolutionLayer) -> str:
    return f"layer {layer.name}" if layer.name.isdecimal() else layer.name


def _show(ax: Axes, picture: NDArray[np.uint8], column: int, row: int) -> None:
    side = _PANEL / (_PANEL + _GAP)
    place = (column, column + side, row + side, row)
    show(ax, picture, interpolation="antialiased", aspect="auto", extent=place)


def convergence(result: Evolution, level: float = 0.9) -> Figure:
    """Draw how like the last checkpoint each layer is at each epoch, its features and its projections.

    The key names the epoch from which on a layer is at `level` or above it.
    """
    with styled():
        figure = new_figure(6.6, 2.55)
        features, projections = figure.subplots(1, 2, sharey=True)
        _curves(features, result, "features", level, "features: correlation of a unit's values")
        _curves(projections, result, "projections", level, "projections: cosine, same picture and place")
        features.set_ylabel("similarity with the last checkpoint", fontsize=6.5)
        figure.subplots_adjust(0.075, 0.17, 0.985, 0.89, wspace=0.08)
    return figure


def _curves(ax: Axes, result: Evolution, measure: str, level: float, title: str) -> None:
    settled = result.settled(level, measure)
    # In the order of depth: from dark below to light above.
    shades = colormaps["viridis"](np.linspace(0, 0.86, max(len(result.layers), 2)))
    lowest = 0.0
    for layer, colour in zip(result.layers, shades, strict=False):
        values = layer.similarity(measure).numpy()
        lowest = min(lowest, float(np.nanmin(values)))
        said = f"{_named(layer)}: ≥ {level:g} from epoch {settled[layer.name]}"
        ax.plot(result.epochs, values, color=colour, lw=1.3, marker="o", ms=2.6, label=said)
    ax.axhline(level, color="#999999", lw=0.6, ls="--", zorder=0)
    ax.set_ylim(lowest - 0.03, 1.03)
    if min(result.epochs) > 0:
        ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(_readable(result.epochs)))
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(labelsize=6, width=0.5, length=2)
    ax.set_xlabel("epoch", fontsize=6.5)
    ax.set_title(title, fontsize=7, weight="bold", loc="left")
    ax.grid(axis="y", lw=0.3, color="#dddddd")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=5.5, frameon=False, loc="lower right", labelspacing=0.3)


def _readable(epochs: Sequence[int]) -> list[int]:
    """The epochs whose numbers do not run into each other on a logarithmic axis, the last among them."""
    kept: list[int] = []
    for epoch in reversed(epochs):
        if not kept or epoch <= 0 or kept[-1] / epoch > max(epochs) ** 0.045:
            kept.append(epoch)
    return kept
