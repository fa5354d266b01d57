"""Methods side by side on one scale, with their deletion and insertion curves; and the curves over several pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from deconvviz.analyses.comparison.result import Comparison, Comparisons, spread
from deconvviz.errors import check_choice
from deconvviz.results.base import numbers
from deconvviz.results.style import COLOURS, axes_at, headline, new_figure, shorten, show, styled

SCALES = ("share", "panel")
_LIMIT = 6.0  # times an even share has full colour
_COLUMNS, _SIDE, _GAP, _LEFT = 6, 1.1, 0.1, 0.12  # panels in a row, and inches
_HEAD, _TITLE, _FOOT, _BAR, _CURVES = 0.4, 0.3, 0.14, 0.5, 1.55
_SMALL = 5.5
_BANDS = 6  # methods; the bands of more than that hide each other
_QUIET = "#555555"
_COLOURMAP = "RdBu_r"
# The baselines are no colour among colours.
_PLAIN: dict[str, dict[str, Any]] = {
    "random": {"color": "#999999", "ls": (0, (1, 1.2))},
    "edges": {"color": "#555555", "ls": (0, (4, 1.5))},
}


def draw(result: Comparison | Comparisons, scale: str = "share") -> Figure:
    """Draw `result` and return the figure.

    Every map on one scale: how many times an even share of its method's total a pixel has, where the total is that of
    the sizes; full colour at six times. `scale="panel"` has full colour at the 99.5th percentile of each map, which is
    written below it in the method's own unit. Below are the curves with their areas. Several pictures: the mean curves,
    with a band of one standard error, and no maps.

    Raises:
        UnknownNameError: an unknown scale.
    """
    check_choice("scale", scale, SCALES)
    with styled():
        return _several(result) if isinstance(result, Comparisons) else _one(result, scale)


def _one(result: Comparison, scale: str) -> Figure:
    count = len(result) + 1
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    height, width = result.image.shape[1:]
    tall = min(_SIDE * height / width, 1.8)
    pitch = _TITLE + tall + _FOOT
    full = max(2 * _LEFT + columns * (_SIDE + _GAP) - _GAP, 2 * _LEFT + _COLUMNS * (_SIDE + _GAP) - _GAP)
    total = _HEAD + rows * pitch + _BAR + _CURVES + 0.4
    figure = new_figure(full, total)
    headline(figure, _LEFT, f"{result.model_name}: why {result.asked}?", _said(result))
    for n in range(count):
        x = _LEFT + n % columns * (_SIDE + _GAP)
        y = total - _HEAD - (n // columns + 1) * pitch + _FOOT
        ax = axes_at(figure, x, y, _SIDE, tall)
        if n == 0:
            show(ax, result.photograph())
            _above(figure, ax, "picture", result.answer_in_words() or f"{result.measure} {result.baseline:.3g}")
        else:
            _map(figure, ax, result, n - 1, scale)
    _bar(figure, total - _HEAD - rows * pitch - 0.12, full, scale)
    lost, won = numbers(result.deletion)[None], numbers(result.insertion)[None]
    befores = np.array([[result.baseline]]), np.array([[result.blurred]])
    areas = [f"{a:.3f}" for a in result.deletion_auc.tolist()], [f"{a:.3f}" for a in result.insertion_auc.tolist()]
    _curves(figure, result.methods, (lost, won), befores, areas, result)
    return figure


def _several(results: Comparisons) -> Figure:
    figure = new_figure(2 * _LEFT + _COLUMNS * (_SIDE + _GAP) - _GAP + 0.5, _HEAD + _CURVES + 0.4)
    bands = "bands and " if len(results.methods) <= _BANDS else ""
    headline(figure, _LEFT, results.title, f"curves: mean over the pictures; {bands}±: one standard error")
    befores = tuple(np.array([[getattr(c, name)] for c in results]) for name in ("baseline", "blurred"))
    areas = tuple(_with_errors(values) for values in (results.deletion_auc, results.insertion_auc))
    lost, won = numbers(results.deletion), numbers(results.insertion)
    _curves(figure, results.methods, (lost, won), befores, areas, results.pictures[0])
    return figure


def _with_errors(values: Tensor) -> list[str]:
    found = [spread(column) for column in values.T]
    return [f"{s.mean:.3f}" + ("" if np.isnan(s.error) else f" ± {s.error:.3f}") for s in found]


def _said(result: Comparison) -> str:
    layer = result.alias or result.layer
    cams = f"; Grad-CAM and LayerCAM at {layer}" if layer and result.mode == "class" and _has_cam(result) else ""
    return f"{result.measure} {result.baseline:.3g}, of the blurred picture {result.blurred:.3g}{cams}"


def _has_cam(result: Comparison) -> bool:
    return any(name.endswith("-cam") for name in result.methods)


# Maps -----------------------------------------------------------------------------------------------------------------


def _map(figure: Figure, ax: Axes, result: Comparison, m: int, scale: str) -> None:
    values = numbers(result.maps[m]).astype(np.float64)
    top, left, bottom, right = result.box
    counted = values[top:bottom, left:right]
    size = np.abs(counted[np.isfinite(counted)])
    unit = size.mean() * _LIMIT if scale == "share" else np.percentile(size[size > 0], 99.5) if size.any() else 0.0
    ax.imshow(values / (unit or 1.0), cmap=_COLOURMAP, norm=Normalize(-1, 1), interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    if counted.shape != values.shape:
        height, width = counted.shape
        ax.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, ec="#222222", lw=0.5))
    _above(figure, ax, result.methods[m], result.kinds[m] + ("" if (values < 0).any() else ", never below 0"))
    if scale == "panel":
        _under(figure, ax, f"full colour: ±{unit:.2g}")


def _above(figure: Figure, ax: Axes, title: str, note: str) -> None:
    box = ax.get_position()
    down = figure.get_figheight()
    style: dict[str, Any] = {"va": "bottom", "parse_math": False}
    figure.text(box.x0, box.y1 + 0.13 / down, shorten(title, _SIDE, 6.5, "bold"), fontsize=6.5, weight="bold", **style)
    figure.text(box.x0, box.y1 + 0.035 / down, shorten(note, _SIDE, _SMALL), fontsize=_SMALL, color=_QUIET, **style)


def _under(figure: Figure, ax: Axes, note: str) -> None:
    box = ax.get_position()
    where = box.y0 - 0.035 / figure.get_figheight()
    figure.text(box.x0, where, note, fontsize=_SMALL, color=_QUIET, va="top", parse_math=False)


def _bar(figure: Figure, top: float, full: float, scale: str) -> None:
    """The bar of colours with what they mean."""
    ends = _LIMIT if scale == "share" else 1.0
    bar = figure.colorbar(
        ScalarMappable(Normalize(-ends, ends), colormaps[_COLOURMAP]),
        cax=axes_at(figure, _LEFT, top - 0.08, 1.6, 0.08), orientation="horizontal", extend="both",
    )  # fmt: skip
    bar.ax.tick_params(length=1.8, width=0.5, pad=1.2, labelsize=_SMALL)
    bar.outline.set_linewidth(0.4)
    bar.set_ticks([-ends, -ends / 2, 0, ends / 2, ends])
    bar.ax.set_xticklabels([f"{v:+g}{'×' if scale == 'share' else ''}" if v else "0" for v in bar.get_ticks()])
    own = "the 99.5th percentile of each map's sizes, which is written below it"
    lines = (
        "one scale for all maps: how many times an even share of its map's total size a pixel has"
        if scale == "share"
        else f"a scale of its own for each map: full colour is {own}",
        "contribution: red speaks for the answer, blue against it",
        "sensitivity: red raises the score if the pixel gets brighter, blue if darker",
    )
    width, height = figure.get_size_inches()
    for n, line in enumerate(lines):
        text = shorten(line, full - 2 * _LEFT - 1.8, _SMALL)
        figure.text(
            (_LEFT + 1.8) / width, (top - 0.02 - 0.11 * n) / height, text, fontsize=_SMALL, color=_QUIET, va="center",
            parse_math=False,
        )  # fmt: skip


# Curves ---------------------------------------------------------------------------------------------------------------

_Values = NDArray[Any]


def _curves(
    figure: Figure, methods: Sequence[str], curves: tuple[_Values, _Values], befores: Sequence[_Values],
    areas: Sequence[Sequence[str]], result: Comparison,
) -> None:  # fmt: skip
    """Deletion and insertion, (P, M, S) each with what was before (P, 1), and a list of the methods with the areas."""
    styles = _styles(methods)
    pixels = "pixels" if result.mode == "class" else "receptive field"
    highest = max(np.nanmax(c) for c in (*curves, *befores))
    wide = 1.95
    for n, (curve, before, name) in enumerate(zip(curves, befores, ("deletion", "insertion"), strict=True)):
        ax = axes_at(figure, 0.42 + n * (wide + 0.3), 0.32, wide, _CURVES - 0.2)
        for m, style in enumerate(styles):
            _curve(ax, np.concatenate([before, curve[:, m]], 1), style, len(methods) <= _BANDS)
        ax.set_xlim(0, 100)
        ax.set_ylim(min(0.0, *(np.nanmin(c) for c in (*curves, *befores))), 1.02 * highest or 1)
        ax.set_xlabel(f"% of the {pixels} {'deleted' if n == 0 else 'inserted'}", fontsize=6, labelpad=1.5)
        ax.set_title(f"{name}: {'lower' if n == 0 else 'higher'} is better", fontsize=6.5, pad=3)
        ax.tick_params(labelsize=_SMALL, width=0.5, length=2, labelleft=n == 0)
        ax.spines[["top", "right"]].set_visible(False)
        if n == 0:
            ax.set_ylabel(result.measure, fontsize=6, labelpad=2)
    _legend(figure, 0.42 + 2 * (wide + 0.3), methods, styles, areas)


def _curve(ax: Axes, values: _Values, style: dict[str, Any], band: bool) -> None:
    at = np.linspace(0, 100, values.shape[1])
    mean = values.mean(0)
    ax.plot(at, mean, lw=1, solid_capstyle="round", **style)
    if band and len(values) > 1:
        error = values.std(0, ddof=1) / np.sqrt(len(values))
        ax.fill_between(at, mean - error, mean + error, color=style["color"], alpha=0.12, lw=0)


def _styles(methods: Sequence[str]) -> list[dict[str, Any]]:
    coloured = [name for name in methods if name not in _PLAIN]
    return [_PLAIN.get(name) or {"color": COLOURS[coloured.index(name) % len(COLOURS)], "ls": "-"} for name in methods]


def _legend(
    figure: Figure, x: float, methods: Sequence[str], styles: Sequence[dict[str, Any]], areas: Sequence[Sequence[str]]
) -> None:
    """The methods with their lines and the two areas, in columns; the best of each in bold."""
    ax = axes_at(figure, x, 0.12, figure.get_figwidth() - x - 0.1, _CURVES + 0.1)
    ax.set_axis_off()
    ax.set(xlim=(0, ax.get_position().width * figure.get_figwidth()), ylim=(_CURVES + 0.1, 0))
    right = ax.get_xlim()[1]
    step = min(0.125, (_CURVES - 0.1) / len(methods))
    places = (right - (right - 1.0) / 2 - 0.02, right)
    style: dict[str, Any] = {"fontsize": _SMALL, "va": "center", "parse_math": False}
    for place, head in zip(places, ("deletion ↓", "insertion ↑"), strict=True):
        ax.text(place, 0.08, head, ha="right", color=_QUIET, **style)
    best = [min(areas[0], key=_number), max(areas[1], key=_number)]
    for m, (name, line) in enumerate(zip(methods, styles, strict=True)):
        y = 0.22 + m * step
        ax.plot([0, 0.18], [y, y], lw=1.2, **line)
        ax.text(0.24, y, shorten(name, 0.9, _SMALL), **style)
        for place, column, top in zip(places, areas, best, strict=True):
            ax.text(place, y, column[m], ha="right", weight="bold" if column[m] == top else "normal", **style)


def _number(text: str) -> float:
    return float(text.split()[0])
