"""The invariance figure: rows transforms; columns pictures, distances in two layers, probability (paper, Fig. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from deconvviz.data.transforms import TRANSFORMS
from deconvviz.results.style import COLOURS, axes_at, headline, new_figure, show, styled

if TYPE_CHECKING:
    from torch import Tensor

    from deconvviz.analyses.invariance.result import Invariance

_LEFT, _PHOTOS, _PLOT, _GAP, _RIGHT = 0.1, 2.1, 1.42, 0.46, 0.12  # inches, across
_HEAD, _ROW, _BETWEEN, _FOOT, _LINE = 0.46, 1.2, 0.52, 0.34, 0.16  # inches, down
_SHOWN = 5  # pictures drawn at most, as in the paper; every curve is drawn
_DASHES = ("-", "--", ":")
_DISTANCE = {"none": "Distance", "norm": "Distance ÷ length", "max": "Distance ÷ largest"}


def draw(result: Invariance, normalise: str = "none") -> Figure:
    """Draw `result` and return the figure; `normalise` is that of `Invariance.curve`.

    Rows are the transforms; columns the pictures (first, untransformed or middle, and last value; the first five of
    them), the distance in the low and in the high layer, and the probability, if the model has one.
    """
    plots = 2 if result.probability is None else 3
    rows, legend = len(result.transforms), _legend_rows(result)
    width = _LEFT + _PHOTOS + plots * (_PLOT + _GAP) + _RIGHT
    height = _HEAD + rows * _ROW + (rows - 1) * _BETWEEN + _FOOT + legend * _LINE + 0.1
    with styled():
        figure = new_figure(width, height)
        title = f"{result.model_name} · invariance to {_listed(result.transforms)}"
        headline(figure, _LEFT, title)
        for row, name in enumerate(result.transforms):
            bottom = height - _HEAD - row * (_ROW + _BETWEEN) - _ROW
            _pictures(figure, result, name, (_LEFT, bottom))
            _curves(figure, result, name, normalise, bottom, row == 0)
        _legend(figure, result)
    return figure


def _listed(names: Sequence[str]) -> str:
    said = ["horizontal translation" if n == "horizontal" else n for n in names]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def _pictures(figure: Figure, result: Invariance, name: str, corner: tuple[float, float]) -> None:
    """A block of `_PHOTOS` × `_ROW` inches: each picture at three values, framed in the colour of its curve."""
    values = _three(result.curve(name).values.tolist(), TRANSFORMS[name].identity)
    count = min(len(result.images), _SHOWN)
    shown = result.pictures(name, values)[:count]
    aspect = shown.shape[2] / shown.shape[3]
    label = 0.42 if name == "flip" else 0.24  # beside a row, or above a column, for its value
    across = min((_PHOTOS - label) / count, _ROW / len(values) / aspect)
    along = min(_PHOTOS / len(values), (_ROW - label / 2) / count / aspect)
    down = across >= along  # values one below the other
    side = max(across, along)
    for n in range(count):
        for k, value in enumerate(values):
            column, row = (n, k) if down else (k, n)
            x = corner[0] + (label if down else 0) + column * side
            y = corner[1] + _ROW - (0 if down else label / 2) - (row + 1) * side * aspect
            ax = axes_at(figure, x + 0.015, y + 0.015, side - 0.03, side * aspect - 0.03)
            show(ax, shown[n, k], COLOURS[n % len(COLOURS)])
            ax.spines[:].set_linewidth(1.0)
            if n == 0:
                where = (-0.12, 0.5) if down else (0.5, 1.06)
                style: dict[str, Any] = {"ha": "right", "va": "center"} if down else {"ha": "center", "va": "bottom"}
                ax.text(*where, _said(name, value), transform=ax.transAxes, fontsize=5.5, **style)


def _three(values: list[float], identity: float) -> list[float]:
    """The first value, the one that changes nothing (if it is not an end: the middle one), and the last."""
    ordered = sorted(values)
    inner = [v for v in ordered[1:-1] if v == identity] or ordered[len(ordered) // 2 : len(ordered) // 2 + 1]
    return list(dict.fromkeys([ordered[0], *inner, ordered[-1]]))


def _said(name: str, value: float) -> str:
    if name == "flip":
        return "mirrored" if value else "as it is"
    return f"{value:g}".replace("-", "−")


def _curves(figure: Figure, result: Invariance, name: str, normalise: str, bottom: float, first: bool) -> None:
    curve = result.curve(name, normalise)
    true = "true label" if result.policy.get("labels") == "given" else "own class"
    panels: list[tuple[Tensor | None, str, str]] = [
        (curve.low, f"Layer {result.layers[0] or 'output'}", _DISTANCE[normalise]),
        (curve.high, f"Layer {result.layers[1] or 'output'}", _DISTANCE[normalise]),
        (curve.probability, f"P({true})", "Probability"),
    ]
    order = curve.values.argsort()
    for k, (lines, title, axis) in enumerate(panels):
        if lines is None:
            continue
        ax = axes_at(figure, _LEFT + _PHOTOS + _GAP + k * (_PLOT + _GAP), bottom, _PLOT, _ROW)
        for n, line in enumerate(lines):
            marker = "o" if len(order) < 6 else ""
            ax.plot(curve.values[order], line[order], linewidth=0.9, marker=marker, markersize=2.5, **_style(n))
        _tidy(ax, name, curve.values, top=1.0 if k == 2 else float(lines.max()))
        ax.set_ylabel(axis, labelpad=2)
        if first:
            ax.set_title(title, fontsize=7.5, pad=4)


def _style(n: int) -> dict[str, Any]:
    """Colour and dashes of picture `n`: nine colours, then the same ones dashed."""
    return {"color": COLOURS[n % len(COLOURS)], "linestyle": _DASHES[n // len(COLOURS) % len(_DASHES)]}


def _tidy(ax: Axes, name: str, values: Tensor, top: float) -> None:
    low, high = float(values.min()), float(values.max())
    pad = (0.25 if name == "flip" else 0.02) * (high - low) or 0.5  # room for the words under the ends
    ax.set_xlim(low - pad, high + pad)
    ax.set_ylim(-0.03 * (top or 1.0), 1.05 * (top or 1.0))
    ax.set_xlabel(TRANSFORMS[name].axis, labelpad=2)
    if name == "flip":
        ends = [v for v in (0, 1) if low <= v <= high]
        ax.set_xticks(ends, [_said(name, v) for v in ends])
    elif name == "rotation" and high - low > 180:
        ax.set_xticks(range(0, 361, 90))
    ax.tick_params(width=0.5, length=2, pad=1.5, labelsize=6)
    ax.grid(True, color="#dddddd", linewidth=0.4)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _names(result: Invariance) -> list[str]:
    """What the legend calls each picture: its class if that tells the pictures apart, else its file; and the answer."""
    if all(result.labels) and len(set(result.labels)) == len(result.labels):
        names = list(result.labels)
    else:
        names = [
            f"{name} ({label})" if label else name for name, label in zip(result.names, result.labels, strict=True)
        ]
    said = result.answers_in_words()
    return [f"{name} · {words}" for name, words in zip(names, said, strict=True)] if said else names


def _per_row(result: Invariance) -> int:
    longest = max(len(name) for name in _names(result))
    return max(1, min(len(result.names), int(110 / (longest + 5))))


def _legend_rows(result: Invariance) -> int:
    return -(-len(result.names) // _per_row(result))


def _legend(figure: Figure, result: Invariance) -> None:
    handles = [Line2D([], [], **_style(n)) for n in range(len(result.names))]
    where = (0.5, 0.03 / figure.get_figheight())
    figure.legend(
        handles, _names(result), loc="lower center", bbox_to_anchor=where, ncols=_per_row(result), frameon=False,
        handlelength=1.6, columnspacing=1.4, borderpad=0, fontsize=6.5,
    )  # fmt: skip
