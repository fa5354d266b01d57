"""The occlusion figure: all of the paper's Fig. 7 in one row, or the score drop laid over the photograph."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from deconvviz.analyses.occlusion.result import Occlusion
from deconvviz.errors import DeconvvizValueError, UnknownNameError, suggest
from deconvviz.results.base import numbers
from deconvviz.results.style import COLOURS, inches, new_figure, shorten, show, styled

KINDS = ("paper", "attribution")
_SIDE, _TALLEST, _NARROWEST = 1.3, 2.2, 1.2  # inches: a panel's width, its largest height, a column's least width
_GAP, _LEFT, _RIGHT, _HEAD, _LINE = 0.12, 0.34, 0.1, 0.58, 0.115
_MORE, _WIDEST = 0.28, 1.8  # how much higher a head is with the whole picture in it, and how wide that is at most
_TITLES = 0.26  # room above a row that says nothing new but the titles of its panels
_CLASSES = 6  # lines in the list of classes; one more class than that, and the rarest share the last line
_OTHERS, _EMPTY, _QUIET = "#bbbbbb", "#eeeeee", "#555555"
_SMALL, _TITLE = 5.5, 6.5  # font sizes


def draw(
    result: Occlusion | Sequence[Occlusion],
    kind: str = "paper",
    overlay: bool | None = None,
    alpha: float = 0.6,
    vmin: float | None = None,
    vmax: float | None = None,
) -> Figure:
    """Draw `result` and return the figure; several results stand one below the other, on one scale of colours.

    `kind="paper"` is Fig. 7: (a) the picture under the occluder that hurts most, (b) the total activity of the layer's
    strongest map for each position, (c) that map projected, (d) the probability of the target, (e) the most probable
    class; (b) and (c) need a layer. A cell stands at the centre of its window; all panels share the axes of (a), in
    pixels. `kind="attribution"` is the photograph and `Occlusion.heatmap`. `overlay` lays the colours over the
    photograph in grey, with opacity `alpha`; by default in "attribution" only.

    `vmin` and `vmax` are the ends of the colours of (d), 0 and 1 unless given, or of the drop of the logit in
    "attribution": white is no drop, and both ends are as far from it as the largest drop unless one is given. What lies
    beyond an end has its colour, and the bar a tip. A mark on each bar is what was found uncovered.

    Raises:
        UnknownNameError: an unknown kind.
        DeconvvizValueError: an alpha outside 0 < alpha <= 1, or a vmin that is not below vmax.
    """
    if kind not in KINDS:
        raise UnknownNameError(f"kind is {kind!r}; allowed: {', '.join(map(repr, KINDS))}{suggest(str(kind), KINDS)}")
    if not 0 < alpha <= 1:
        raise DeconvvizValueError(f"alpha is {alpha}; allowed: 0 < alpha <= 1")
    opacity = alpha if (kind == "attribution" if overlay is None else overlay) else None
    results = [result] if isinstance(result, Occlusion) else list(result)
    if not results:
        raise DeconvvizValueError("there is no result to draw; give one or several")
    scales = (_drop_scales if kind == "attribution" else _paper_scales)(results, vmin, vmax)
    with styled():
        return (_attribution if kind == "attribution" else _paper)(results, opacity, scales)


# Scales: what the colours mean, the same in every row ---------------------------------------------------------------


@dataclass(frozen=True)
class _Scales:
    """The ends of the colours: of what the view is about (probability or drop), and of each row's activity."""

    about: tuple[float, float]
    activity: Sequence[tuple[float, float]] = ()


def _paper_scales(results: Sequence[Occlusion], vmin: float | None, vmax: float | None) -> _Scales:
    about = _ends(0.0 if vmin is None else vmin, 1.0 if vmax is None else vmax)
    maps = [(o.model, o.layer, o.unit) for o in results]
    # The activity of one map is on one scale in all rows; that of another map is another quantity.
    together = [[b for b, map_b in zip(results, maps, strict=True) if map_b == map_a] for map_a in maps]
    return _Scales(about, [_activity_scale(group) for group in together])


def _activity_scale(results: Sequence[Occlusion]) -> tuple[float, float]:
    """From nothing, or from below if a sum is negative."""
    found = [numbers(o.activity).ravel() for o in results if o.activity is not None]
    uncovered = [o.baseline_activity for o in results if o.baseline_activity is not None]
    low, high = _limits(np.concatenate([*found, uncovered]))
    return (0.0, high) if low >= 0 and high > 0 else (low, high)


def largest_drop(results: Sequence[Occlusion]) -> float:
    """The largest change of the target's logit, up or down, at any pixel of these."""
    drops = np.concatenate([numbers(o.heatmap()).ravel() for o in results])
    return float(np.abs(drops[np.isfinite(drops)]).max(initial=0.0))


def _drop_scales(results: Sequence[Occlusion], vmin: float | None, vmax: float | None) -> _Scales:
    most = largest_drop(results) or 1.0
    high = vmax if vmax is not None else most if vmin is None else -vmin
    return _Scales(_ends(-high if vmin is None else vmin, high))


def _ends(low: float, high: float) -> tuple[float, float]:
    if not (np.isfinite([low, high]).all() and low < high):
        raise DeconvvizValueError(
            f"the colours would go from {low:g} to {high:g}; allowed: vmin < vmax, finite numbers"
        )
    return float(low), float(high)


def _around_zero(low: float, high: float) -> ListedColormap:
    """Blue below zero, red above, white at zero, and as much colour to a step on either side, wherever the ends are."""
    most = max(abs(low), abs(high))
    return ListedColormap(colormaps["RdBu_r"](np.linspace(low, high, 512) / (2 * most) + 0.5))


@dataclass(frozen=True)
class _Row:
    """A row of panels of one size; all lengths in inches."""

    figure: Figure
    width: float
    height: float
    pitch: float
    bottom: float
    head: float

    def left(self, column: int) -> float:
        return _LEFT + column * self.pitch

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        w, h = self.figure.get_size_inches()
        return self.figure.add_axes((x / w, y / h, width / w, height / h))

    def text(self, x: float, y: float, text: str, room: float, size: float, **style: Any) -> None:
        """Write one line, shortened to `room`; names may hold a dollar sign, which is no mathematics."""
        w, h = self.figure.get_size_inches()
        shown = shorten(text, room, size, str(style.get("weight", "normal")))
        self.figure.text(x / w, y / h, shown, fontsize=size, va="center", parse_math=False, **style)


# Called with its row, axes, result, opacity, and the ends of its colours if it has any.
_Panel = Callable[[_Row, Axes, Occlusion, float | None, tuple[float, float]], None]


def _new_rows(results: Sequence[Occlusion], columns: int, below: Sequence[float], scale: float = 1.0) -> list[_Row]:
    """A row for each result, in one figure; `below` is the room under its panels."""
    sizes = []
    for result in results:
        rows, cols = result.image.shape[-2:]
        width = scale * min(_SIDE, _TALLEST * cols / rows)
        sizes.append((width, width * rows / cols, max(width, scale * _NARROWEST) + _GAP))
    said = [k > 0 and _said(result) == _said(results[k - 1]) for k, result in enumerate(results)]
    heads = [
        _HEAD + _MORE if result.whole is not None else _TITLES if same else _HEAD
        for result, same in zip(results, said, strict=True)
    ]
    total = sum(heads) + sum(below) + sum(height for _, height, _ in sizes)
    figure = new_figure(_LEFT + columns * max(pitch for _, _, pitch in sizes) - _GAP + _RIGHT, total)
    made, top = [], total
    for (width, height, pitch), room, head in zip(sizes, below, heads, strict=True):
        made.append(_Row(figure, width, height, pitch, top - head - height, head))
        top -= head + height + room
    return made


def _paper(results: Sequence[Occlusion], opacity: float | None, scales: _Scales) -> Figure:
    panels = [_panels(result) for result in results]
    below = [0.3 + _LINE * max(3, min(len(_ranked(result)), _CLASSES)) for result in results]
    rows = _new_rows(results, max(len(p) for p in panels), below)
    for row, result, own, activity in zip(rows, results, panels, scales.activity, strict=True):
        _head(row, result, "a cell stands at the centre of its window")
        first: Axes | None = None
        for column, panel in enumerate(own):
            ax = _axes(row, result, column, first)
            first = first or ax
            panel(row, ax, result, opacity, activity if panel is _panel_b else scales.about)
    return rows[0].figure


def _panels(result: Occlusion) -> list[_Panel]:
    """What is drawn of a result, in the order of columns."""
    panels: list[_Panel] = [_panel_a, _panel_d, _panel_e]
    if result.activity is not None:
        panels[1:1] = [_panel_b]
    if result.projection is not None:
        panels.insert(-2, _panel_c)
    return panels


# The panels ------------------------------------------------------------------------------------------------------


def _panel_a(row: _Row, ax: Axes, result: Occlusion, opacity: float | None, _: tuple[float, float]) -> None:
    """The picture, covered where the target loses most, and the receptive field of panel c."""
    worst = int(result.probability.argmin())
    _show(ax, result.as_photograph(result.covered(worst)))
    (top, left), (h, w) = result.origins[worst].tolist(), result.window
    _frame(ax, top, left, h, w, "white", "-")
    notes = [result.answer_in_words(), "occluder where (d) is lowest"]
    if result.projection is not None:
        box = result.projection.boxes[0].tolist()
        if box != [0, 0, *result.image.shape[-2:]]:
            _frame(ax, box[0], box[1], box[2] - box[0], box[3] - box[1], COLOURS[5], (0, (2, 1.2)))
            notes.append("dashed: receptive field of (c)")
    _title(row, ax, "a", "picture and occluder")
    for line, note in enumerate(notes):
        _note(row, ax, 0.26 + line * _LINE, note)


def _panel_b(row: _Row, ax: Axes, result: Occlusion, opacity: float | None, ends: tuple[float, float]) -> None:
    assert result.activity is not None
    values = numbers(result.activity)
    _title(row, ax, "b", f"map {result.unit}, total activity")
    _bar(row, ax, _mesh(ax, result, values, ends, "magma", opacity), values, result.baseline_activity)
    _note(row, ax, 0.44, f"sum of map {result.unit} of {result.name}")
    if result.baseline_activity is not None:
        _note(row, ax, 0.44 + _LINE, f"▼ uncovered: {result.baseline_activity:.3g}")


def _panel_c(row: _Row, ax: Axes, result: Occlusion, opacity: float | None, _: tuple[float, float]) -> None:
    """The map sent back to pixels, at its place on the faded photograph."""
    projection = result.projection
    assert projection is not None
    top, left, bottom, right = projection.boxes[0].tolist()
    ax.imshow(_grey(result), cmap="gray", vmin=-600, vmax=255)
    _show(ax, projection.images()[0, top:bottom, left:right], (left - 0.5, right - 0.5, bottom - 0.5, top - 0.5))
    _whole(ax, result)
    _title(row, ax, "c", f"map {result.unit}, projected")
    _note(row, ax, 0.26, f"strongest map of {result.name}")
    place = tuple(projection.places[0].tolist())
    _note(row, ax, 0.26 + _LINE, f"activation {float(projection.activations[0]):.3g} at {place}")


def _panel_d(row: _Row, ax: Axes, result: Occlusion, opacity: float | None, ends: tuple[float, float]) -> None:
    values = numbers(result.probability)
    uncovered = float(result.baseline.softmax(0)[result.target])
    _title(row, ax, "d", "probability of the target")
    _bar(row, ax, _mesh(ax, result, values, ends, "viridis", opacity), values, uncovered)
    _note(row, ax, 0.44, result.label(result.target))
    _note(row, ax, 0.44 + _LINE, f"▼ uncovered: {uncovered:.3g}")


def _panel_e(row: _Row, ax: Axes, result: Occlusion, opacity: float | None, _: tuple[float, float]) -> None:
    classes = _ranked(result)
    shown = classes if len(classes) <= _CLASSES else classes[: _CLASSES - 1]
    prediction = numbers(result.prediction)
    index = np.full(prediction.shape, len(shown))
    for k, number in enumerate(shown):
        index[prediction == number] = k
    colours = [*COLOURS[: len(shown)], _OTHERS]
    _mesh(ax, result, index, (-0.5, len(shown) + 0.5), ListedColormap(colours), opacity)
    _title(row, ax, "e", "most probable class")
    lines = [(result.label(n), int((index == k).sum())) for k, n in enumerate(shown)]
    if len(shown) < len(classes):
        lines.append((f"{len(classes) - len(shown)} others", int((index == len(shown)).sum())))
    for k, (label, count) in enumerate(lines):
        _entry(row, ax, k, label, count, colours[k], numbered=k < len(shown))
        if k < len(shown):
            _number(ax, result, index == k, k)


def _attribution(results: Sequence[Occlusion], opacity: float | None, scales: _Scales) -> Figure:
    """The photograph, and the score drop averaged over the windows that cover a pixel."""
    rows = _new_rows(results, 2, [0.44 + 2 * _LINE] * len(results), 1.55)
    (low, high), colours = scales.about, _around_zero(*scales.about)
    for row, result in zip(rows, results, strict=True):
        _head(row, result, "each pixel: mean over its windows")
        first = _axes(row, result, 0, None)
        _show(first, result.photograph())
        _title(row, first, "a", "picture")
        _note(row, first, 0.26, result.answer_in_words())
        ax = _axes(row, result, 1, first)
        values = numbers(result.heatmap())
        if opacity is not None:
            ax.imshow(_grey(result), cmap="gray", vmin=0, vmax=255)
        picture = np.ma.masked_invalid(values)
        shown = ax.imshow(picture, cmap=colours, vmin=low, vmax=high, alpha=opacity, interpolation="nearest")
        _title(row, ax, "b", "score lost when covered")
        _bar(row, ax, shown, values, 0.0)
        _note(row, ax, 0.44, f"drop of the logit of {result.label(result.target)}")
        _note(row, ax, 0.44 + _LINE, f"▼ uncovered: logit {float(result.baseline[result.target]):.3g}")
    return rows[0].figure


# Parts of panels -------------------------------------------------------------------------------------------------


def _said(result: Occlusion) -> tuple[str, str]:
    """What the head of a row says: the model, and how it was covered."""
    down, across = result.stride
    step = str(down) if down == across else f"{down} down, {across} across"
    how = f"occluder {_size(result.window)} ({result.fill}), step {step}: {len(result)} positions"
    return f"{result.model_name} · occlusion", how


def _head(row: _Row, result: Occlusion, reading: str) -> None:
    if row.head < _HEAD:
        return  # the row above says the same
    room = row.figure.get_figwidth() - 2 * _GAP
    top = row.bottom + row.height + row.head
    title, how = _said(result)
    notes = [f"{how}; {reading}"]
    picture = result.whole_picture()
    if picture is not None:
        room -= _GAP + _whole_picture(row, picture, top - 0.06)
        notes = [how, reading, "right: the picture; the network sees what is bright"]
    row.text(_GAP, top - 0.14, title, room, 8, weight="bold")
    for line, note in enumerate(notes):
        row.text(_GAP, top - 0.3 - line * _LINE, note, room, _SMALL, color=_QUIET)


def _whole_picture(row: _Row, picture: NDArray[np.uint8], top: float) -> float:
    """Show all of the picture at the right of a head, and return how wide."""
    height, width = picture.shape[:2]
    inch = min(_HEAD / height, _WIDEST / width)
    right = row.figure.get_figwidth() - _RIGHT
    show(row.axes(right - inch * width, top - inch * height, inch * width, inch * height), picture, _QUIET)
    return float(inch * width)


def _axes(row: _Row, result: Occlusion, column: int, first: Axes | None) -> Axes:
    """A panel in pixels of the picture; only the first one's axes are labelled."""
    ax = row.axes(row.left(column), row.bottom, row.width, row.height)
    ax.set_facecolor(_EMPTY)
    _whole(ax, result)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
    ax.tick_params(length=1.8, width=0.5, pad=1.5, labelsize=_SMALL, labelleft=first is None, labelbottom=first is None)
    if first is not None:
        ax.sharex(first)
        ax.sharey(first)
    return ax


def _whole(ax: Axes, result: Occlusion) -> None:
    height, width = result.image.shape[-2:]
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _left(row: _Row, ax: Axes) -> float:
    return float(ax.get_position().x0 * row.figure.get_figwidth())


def _title(row: _Row, ax: Axes, letter: str, text: str) -> None:
    y = row.bottom + row.height + 0.09
    row.text(_left(row, ax), y, f"({letter})", 0.2, _TITLE, weight="bold")
    row.text(_left(row, ax) + 0.17, y, text, row.pitch - _GAP - 0.1, _TITLE)


def _note(row: _Row, ax: Axes, below: float, text: str) -> None:
    row.text(_left(row, ax), row.bottom - below, text, row.pitch - 0.04, _SMALL, color=_QUIET)


def _bar(row: _Row, ax: Axes, mesh: ScalarMappable, values: NDArray[Any], uncovered: float | None) -> Colorbar:
    """The bar of colours under a panel of `values`, with tips where some lie beyond, and a mark at `uncovered`."""
    low, high = mesh.get_clim()
    finite = values[np.isfinite(values)]
    beyond = (bool((finite < low).any()), bool((finite > high).any()))
    tips = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond]
    where = row.axes(_left(row, ax), row.bottom - 0.23, row.pitch - _GAP, 0.07)
    bar = row.figure.colorbar(mesh, cax=where, orientation="horizontal", format="%.3g", extend=tips)
    bar.ax.tick_params(length=1.8, width=0.5, pad=1.2, labelsize=_SMALL)
    bar.locator = MaxNLocator(4)
    bar.update_ticks()
    bar.outline.set_linewidth(0.4)
    if bar.solids is not None:
        bar.solids.set(alpha=1, edgecolor="face", rasterized=True)
    if uncovered is not None and low <= uncovered <= high:
        across = bar.ax.get_xaxis_transform()
        bar.ax.plot([uncovered], [1.45], "v", color="#111111", ms=2.6, clip_on=False, transform=across)
    return bar


def _mesh(
    ax: Axes,
    result: Occlusion,
    values: NDArray[Any],
    limits: tuple[float, float],
    colours: str | ListedColormap,
    opacity: float | None,
) -> ScalarMappable:
    if opacity is not None:
        ax.imshow(_grey(result), cmap="gray", vmin=0, vmax=255)
    x, y = _grid(result)
    mesh: ScalarMappable = ax.pcolormesh(
        x, y, np.ma.masked_invalid(values), cmap=colours, norm=Normalize(*limits), alpha=opacity, rasterized=True
    )
    _whole(ax, result)
    return mesh


def _grid(result: Occlusion) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The edges of the cells along x and along y."""
    across, origins = result.shape[1], numbers(result.origins)
    height, width = result.image.shape[-2:]
    return (
        edges(origins[:across, 1], result.window[1], result.stride[1], width),
        edges(origins[::across, 0], result.window[0], result.stride[0], height),
    )


def edges(starts: NDArray[Any], size: int, stride: int, length: int) -> NDArray[np.float64]:
    """Return where the cells of windows of `size` begin and end, in pixels: halfway between the windows' centres.

    What of a window lies beyond `length` does not count; the outer cells are as wide as a step. Pixel i is
    i - 0.5 … i + 0.5, as matplotlib draws it.
    """
    centres = (starts + np.minimum(starts + size, length) - 1) / 2
    middles = (centres[1:] + centres[:-1]) / 2
    first, last = (
        (centres[1] - centres[0], centres[-1] - centres[-2]) if len(centres) > 1 else (float(stride), float(stride))
    )
    found: NDArray[np.float64] = np.concatenate([[centres[0] - first / 2], middles, [centres[-1] + last / 2]])
    return found.clip(-0.5, length - 0.5)


def _limits(values: NDArray[Any]) -> tuple[float, float]:
    """Smallest and largest finite value, apart from each other."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return (low, high) if high > low else (low, low + max(abs(low), 1.0) * 1e-3)


def _ranked(result: Occlusion) -> list[int]:
    """The classes that are most probable somewhere: the target first, then the most frequent."""
    classes, counts = np.unique(numbers(result.prediction), return_counts=True)
    order = np.lexsort((classes, -counts, classes != result.target))
    return [int(classes[k]) for k in order]


def _entry(row: _Row, ax: Axes, k: int, label: str, count: int, colour: str, numbered: bool) -> None:
    """A line in the list of classes: number and colour, label, in how many positions."""
    x, y, room = _left(row, ax), row.bottom - 0.22 - k * _LINE, row.pitch - _GAP
    swatch = row.axes(x, y - 0.04, 0.12, 0.08)
    swatch.set_facecolor(colour)
    swatch.set(xticks=[], yticks=[])
    if numbered:
        row.text(x + 0.06, y - 0.005, str(k + 1), 0.12, 4.5, color="white", weight="bold", ha="center")
    end = f"{count}"
    row.text(x + room, y, end, room, _SMALL, color=_QUIET, ha="right")
    row.text(x + 0.16, y, label, room - 0.2 - inches(end, _SMALL), _SMALL, color="#222222")


def _number(ax: Axes, result: Occlusion, where: NDArray[np.bool_], k: int) -> None:
    """Write a class's number where it has most room, if there is enough: colours alone do not survive every print."""
    x, y = _grid(result)
    bottom, right, side = largest_square(where)
    top, low, left, end = y[bottom - side], y[bottom], x[right - side], x[right]
    a_pixel = ax.get_position().height * ax.figure.get_figheight() / result.image.shape[-2]  # type: ignore[union-attr]
    if min(low - top, end - left) * a_pixel < 0.1:
        return
    outline = [patheffects.withStroke(linewidth=0.8, foreground=COLOURS[k])]
    style: dict[str, Any] = {"fontsize": 6, "weight": "bold", "color": "white", "path_effects": outline}
    ax.text((left + end) / 2, (top + low) / 2, str(k + 1), ha="center", va="center_baseline", **style)


def largest_square(where: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Return the largest square of True cells: row and column after its last ones, and its side."""
    sides = np.zeros((where.shape[0] + 1, where.shape[1] + 1), dtype=int)
    for i, j in itertools.product(range(where.shape[0]), range(where.shape[1])):
        if where[i, j]:
            sides[i + 1, j + 1] = 1 + min(sides[i, j], sides[i + 1, j], sides[i, j + 1])
    bottom, right = np.unravel_index(int(sides.argmax()), sides.shape)
    return int(bottom), int(right), int(sides[bottom, right])


def _show(ax: Axes, picture: NDArray[np.uint8], extent: tuple[float, float, float, float] | None = None) -> None:
    shown = (
        picture if picture.shape[-1] in (3, 4) else np.repeat(picture.mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    )
    ax.imshow(shown, extent=extent, interpolation="nearest")


def _grey(result: Occlusion) -> NDArray[np.float64]:
    grey: NDArray[np.float64] = result.photograph().mean(-1)
    return grey


def _frame(ax: Axes, top: int, left: int, height: int, width: int, colour: str, line: Any) -> None:
    frame = Rectangle((left - 0.5, top - 0.5), width, height, fill=False, ec=colour, lw=0.9, ls=line)
    ax.add_patch(frame).set_path_effects([patheffects.withStroke(linewidth=1.7, foreground="#222222")])


def _size(pair: tuple[int, int]) -> str:
    return f"{pair[0]}×{pair[1]}"
