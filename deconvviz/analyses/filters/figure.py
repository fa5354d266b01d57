"""The filters of one or two networks on one scale, what is wrong with each marked under it (Fig. 6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from deconvviz.results.style import COLOURS, new_figure, show, styled

if TYPE_CHECKING:
    from deconvviz.analyses.filters.result import Filters

_MARK = {"dead": "#444444", "duplicate": COLOURS[0], "saturated": COLOURS[1], "aliased": COLOURS[3]}
_GRID, _GAP, _LEFT, _HEAD = 3.3, 0.2, 0.3, 0.5  # inches: width of a grid; between grids; row numbers; title and legend
_CHARTS = 1.15  # height of the charts


class _Sheet(NamedTuple):
    """One grid: whose filters, as pictures, and what is said above."""

    result: Filters
    pictures: NDArray[np.uint8]
    title: str


def draw(result: Filters, scale: str = "shared", clip: bool | float = False) -> Figure:
    """Draw `result` and return the figure: a grid of filters for each network, and charts of RMS and frequency.

    `scale="shared"` is one contrast for all filters of a network, in which a dominating one leaves the others grey;
    `"panel"` each filter's own. `clip` adds beside each grid the filters scaled back to the paper's radius (True: that
    of the diagnosis; a number: that one), on one scale too. Raises `DeconvvizValueError` for another scale or radius.
    """
    grids = _grids(result, scale, clip)
    rows = [grids[k : k + 2] for k in range(0, len(grids), 2)]
    heights = [max(_height(g) for g in row) + _HEAD for row in rows]
    width = _LEFT + 2 * _GRID + _GAP + 0.1
    single = len(grids) == 1
    charts = max(0.85, (heights[0] - 1.35) / 2) if single else _CHARTS
    height = max(heights[0], 2 * charts + 1.35) + 0.08 if single else sum(heights) + _CHARTS + 0.9
    with styled():
        figure = new_figure(width, height)
        top = height
        for row, tall in zip(rows, heights, strict=True):
            for k, grid in enumerate(row):
                _draw_grid(figure, grid, _LEFT + k * (_GRID + _GAP), top)
            top -= tall
        right = _LEFT + _GRID + 3 * _GAP
        if single:
            wide = width - right - 0.12
            spots = [(right, height - 0.38 - charts, wide), (right, 0.4, wide)]
        else:
            wide = (width - _LEFT - 0.9) / 2
            spots = [(_LEFT + 0.15, 0.4, wide), (width - wide - 0.12, 0.4, wide)]
        for draw_chart, (x, y, w) in zip((_rms_chart, _frequency_chart), spots, strict=True):
            ax = figure.add_axes((x / width, y / height, w / width, charts / height))
            draw_chart(ax, result.networks())
    return figure


def _grids(result: Filters, scale: str, clip: bool | float) -> list[_Sheet]:
    grids = []
    for r in result.networks():
        name = r.model_name
        grids.append(_Sheet(r, r.images(scale), f"{name}, {r.name}: {_sizes(r)}"))
        if clip is not False:
            radius = r.policy["radius"] if clip is True else float(clip)
            over = int((r.rms > radius).sum())
            said = f"{name}, clipped to RMS {radius:g}: {over or 'none'} of {len(r)} changed"
            grids.append(_Sheet(r, r.images(scale, radius), said))
    return grids


def _sizes(r: Filters) -> str:
    kernel = "×".join(str(s) for s in r.weights.shape[2:])
    stride = "×".join(str(s) for s in sorted(set(r.stride)))
    channels = r.weights.shape[1]
    shown = "" if channels in (1, 3) else " (RMS over channels)"
    return f"{len(r)} filters {kernel}, stride {stride}{shown}"


def _columns(count: int) -> int:
    """Half as many columns again as rows; 12 for the 96 filters of the paper."""
    return max(1, min(count, math.ceil(math.sqrt(count * 1.5))))


def _tile(grid: _Sheet) -> float:
    """Side of a filter's place, in inches; a few filters are not blown up to the whole width."""
    return min(_GRID / _columns(len(grid.pictures)), 0.6)


def _height(grid: _Sheet) -> float:
    count = len(grid.pictures)
    tall, wide = grid.pictures.shape[1:3]
    return math.ceil(count / _columns(count)) * _tile(grid) * (float(tall) / float(wide) * 0.86 + 0.14)


def _draw_grid(figure: Figure, grid: _Sheet, left: float, top: float) -> None:
    width, height = figure.get_size_inches()
    figure.text(left / width, (top - 0.08) / height, grid.title, va="top", fontsize=7.5, weight="bold")
    _legend(figure, grid.result, left, top - 0.3)
    columns, tall = _columns(len(grid.pictures)), _height(grid)
    across = columns * _tile(grid)
    ax = figure.add_axes((left / width, (top - _HEAD - tall) / height, across / width, tall / height))
    rows = math.ceil(len(grid.pictures) / columns)
    # One unit is one filter's place: the picture above, its marks below.
    ax.set_xlim(0, columns)
    ax.set_ylim(rows, 0)
    ax.axis("off")
    deep = grid.pictures.shape[1] / grid.pictures.shape[2] * 0.86
    deep /= deep + 0.14
    for k, picture in enumerate(grid.pictures):
        row, column = divmod(k, columns)
        place = (column + 0.05, column + 0.95, row + deep, row + 0.02)
        show(ax, picture, interpolation="nearest", aspect="auto", extent=place)
    _marks(ax, grid.result, columns, deep)
    for row in range(rows):
        ax.text(-0.06, row + deep / 2, str(row * columns), ha="right", va="center", fontsize=5, color="#777777")


def _marks(ax: Axes, r: Filters, columns: int, deep: float) -> None:
    """A bar under each filter that has a fault, in the faults' colours."""
    faults = {k: [f for f in _MARK if bool(getattr(r, f)[k])] for k in range(len(r))}
    patches, colours = [], []
    for k, found in faults.items():
        row, column = divmod(k, columns)
        for n, fault in enumerate(found):
            wide = 0.9 / len(found)
            patches.append(Rectangle((column + 0.05 + n * wide, row + deep + 0.2 * (1 - deep)), wide, 0.5 * (1 - deep)))
            colours.append(_MARK[fault])
    ax.add_collection(PatchCollection(patches, facecolors=colours, linewidths=0))


def _legend(figure: Figure, r: Filters, left: float, y: float) -> None:
    """The faults with their counts, each in its colour, in one line."""
    width, height = figure.get_size_inches()
    moved = int((r.shift != 0).any(1)[r.duplicate].sum())
    handles, labels = [], []
    for fault, colour in _MARK.items():
        handles.append(Rectangle((0, 0), 1, 1, color=colour, linewidth=0))
        said = f"{int(getattr(r, fault).sum())} {fault}"
        labels.append(f"{said} ({moved} moved)" if fault == "duplicate" and moved else said)
    legend = figure.legend(
        handles, labels, loc="center left", bbox_to_anchor=(left / width, y / height), ncols=len(labels),
        fontsize=6, frameon=False, borderaxespad=0, borderpad=0, handlelength=0.9, handleheight=0.7,
        handletextpad=0.4, columnspacing=0.9,
    )  # fmt: skip
    legend.set_in_layout(False)


def _rms_chart(ax: Axes, networks: Sequence[Filters]) -> None:
    found = [r.rms[r.rms > 0].numpy() for r in networks]
    radius = networks[0].policy["radius"]
    every = np.concatenate([*found, [1.0]] if not any(len(f) for f in found) else found)
    # A radius far above all filters would push them into a corner: said instead.
    near = radius < 3 * every.max()
    high = max(every.max(), radius) if near else every.max()
    names = [f"{r.model_name}: largest {r.dominance:.1f} × median" for r in networks]
    _histogram(ax, networks, found, np.geomspace(every.min() * 0.9, high * 1.1, 33), names)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    colour = _MARK["saturated"]
    if near:
        ax.axvline(radius, color=colour, lw=0.8, ls="--")
        _note(ax, radius, f"the paper's radius, {radius:g}", colour, radius > np.sqrt(every.min() * high))
    else:
        _note(ax, high * 1.1, f"all below the paper's radius, {radius:g}", colour, True)
    scaled = any(scale != 1 for r in networks for scale in r.input_scale)
    ax.set_xlabel("RMS of a filter" + ", for inputs of about [−128, 128]" * scaled, fontsize=6.5)


def _frequency_chart(ax: Axes, networks: Sequence[Filters]) -> None:
    limit = networks[0].policy["alias"]
    names = [f"{r.model_name}, stride {r.stride[0]}: mean {float(r.above.nanmean()):.0%}" for r in networks]
    _histogram(ax, networks, [r.above[~r.above.isnan()].numpy() for r in networks], np.linspace(0, 1, 33), names)
    ax.axvline(limit, color=_MARK["aliased"], lw=0.8, ls="--")
    _note(ax, limit, "aliased", _MARK["aliased"], False)
    ax.set_xlim(0, 1)
    ax.set_xlabel("share of a filter's energy above what its stride carries", fontsize=6.5)


def _note(ax: Axes, x: float, text: str, colour: str, left: bool) -> None:
    """Words at the top of a chart, beside `x`."""
    ax.annotate(
        text, (x, 0.98), xycoords=("data", "axes fraction"), va="top", ha="right" if left else "left",
        xytext=(-2 if left else 2, 0), textcoords="offset points", fontsize=5.5, color=colour,
    )  # fmt: skip


def _histogram(
    ax: Axes, networks: Sequence[Filters], values: Sequence[NDArray[np.float32]], edges: NDArray[np.float64],
    names: Sequence[str],
) -> None:  # fmt: skip
    colours, bins = ("#777777", COLOURS[2]), edges.tolist()
    for found, colour, name in zip(values, colours, names, strict=False):
        ax.hist(found, bins, histtype="stepfilled", color=colour, alpha=0.45, label=name)
        ax.hist(found, bins, histtype="step", color=colour, lw=0.7)
    ax.set_ylim(0, max(ax.get_ylim()[1], 1) * 1.15)
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.set_ylabel("filters", fontsize=6.5)
    ax.tick_params(labelsize=6, width=0.5, length=2)
    ax.tick_params(which="minor", width=0.3, length=1)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(
        fontsize=5.5, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2, borderpad=0,
        handlelength=1, handleheight=0.7,
    )  # fmt: skip
