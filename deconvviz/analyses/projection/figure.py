"""The projection figure: the photograph with its receptive fields, then each unit by its crop (Fig. 2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from deconvviz.results.style import COLOURS, axes_at, headline, new_figure, show, styled

if TYPE_CHECKING:
    from deconvviz.analyses.projection.result import Projection

_PANEL, _GAP, _LABEL, _HEAD = 0.86, 0.09, 0.2, 0.42  # inches
_SMALL, _LARGE = 2.2, 3 * _PANEL + 2 * _LABEL  # sides of the photograph: as high as its rows, within these
_NOTE = "projection (zero is mid-grey) beside its piece of the photograph; unit · activation · (row, column)"


def draw(result: Projection, scale: str = "panel", percentile: float = 99.5, columns: int = 3) -> Figure:
    """Draw `result` and return the figure: photograph at the left, K pairs (projection, crop) at the right.

    `scale` and `percentile` are those of `Projection.images`; `columns` is the number of pairs in a row.
    Each projection is cut to the box of its receptive field, as its crop is.
    """
    count = len(result)
    columns = max(1, min(columns, count))
    rows = math.ceil(count / columns)
    pair = 2 * _PANEL + 0.03
    photo = min(max(rows * (_PANEL + _LABEL) - _LABEL, _SMALL), _LARGE)
    across, down = photo / max(1.0, _aspect(result)), photo * min(1.0, _aspect(result))
    start = across + 3 * _GAP
    width = max(start + columns * (pair + _GAP), 4.2)  # the note's own width
    height = _HEAD + max(rows * (_PANEL + _LABEL), down + _LABEL) + _GAP
    with styled():
        figure = new_figure(width, height)
        headline(figure, _GAP, _title(result), _NOTE)
        y = height - _HEAD - _LABEL - down
        _photograph(figure, result, (_GAP / width, y / height, across / width, down / height))
        images, crops = result.images(percentile, scale), result.crops()
        for k in range(count):
            row, column = divmod(k, columns)
            x = start + column * (pair + _GAP)
            y = height - _HEAD - row * (_PANEL + _LABEL) - _LABEL - _PANEL
            top, left, bottom, right = result.boxes[k].tolist()
            shown = images[k, top:bottom, left:right]
            colour = COLOURS[k % len(COLOURS)]
            _show(axes_at(figure, x, y, _PANEL, _PANEL), shown, colour)
            _show(axes_at(figure, x + _PANEL + 0.03, y, _PANEL, _PANEL), crops[k], colour)
            line = (y + _PANEL + 0.03) / height
            figure.text(x / width, line, f"{k + 1}", va="bottom", fontsize=6.5, weight="bold", color=colour)
            indent = 0.06 * len(f"{k + 1}") + 0.06
            figure.text((x + indent) / width, line, _label(result, k), va="bottom", fontsize=6)
    return figure


def _aspect(result: Projection) -> float:
    height, width = result.image.shape[-2:]
    return min(float(height) / float(width), 2.0)


def _title(result: Projection) -> str:
    method = str(result.policy.get("method", "deconvnet"))
    return f"{result.model_name}, {result.name} · {method}{_followed(result, method)}"


def _followed(result: Projection, method: str) -> str:
    """Whether the photograph has a say: by how many max pools' switches."""
    if result.switches is None or method == "gradient":
        return ""
    if result.switches == 0:
        return " · no switches" + (": any photograph's" if method == "deconvnet" else "")
    return f" · switches of {result.switches} pool{'s' * (result.switches > 1)}"


def _label(result: Projection, k: int) -> str:
    row, column = result.places[k].tolist()
    return f"unit {int(result.units[k])} · {float(result.activations[k]):.3g} · ({row}, {column})"


def _photograph(figure: Figure, result: Projection, where: tuple[float, float, float, float]) -> None:
    ax = figure.add_axes(where)
    _show(ax, result.photograph(), "#444444")
    height, width = result.image.shape[-2:]
    # One number's height and width, in pixels of the picture.
    inches = where[3] * figure.get_figheight()
    tall = 0.115 * height / inches
    placed: list[tuple[float, float, float]] = []
    for k, box in enumerate(result.boxes.tolist()):
        if box == [0, 0, height, width]:
            continue  # the whole picture: a box would say nothing
        top, left, low, right = box
        colour = COLOURS[k % len(COLOURS)]
        frame = Rectangle((left - 0.5, top - 0.5), right - left, low - top, fill=False, ec=colour, lw=1.1)
        ax.add_patch(frame).set_path_effects([_outline(1.9)])
        wide = tall * (0.35 + 0.55 * len(str(k + 1)))
        x, y = _free(box, (height, width), (tall, wide), placed)
        placed.append((x, y, wide))
        style = {"fontsize": 6.5, "weight": "bold", "va": "top", "path_effects": [_outline(1.8)]}
        ax.text(x, y, str(k + 1), color=colour, **style)  # type: ignore[arg-type]


def _outline(width: float) -> patheffects.withStroke:
    return patheffects.withStroke(linewidth=width, foreground="white")


def _free(
    box: list[int],
    size: tuple[int, int],
    number: tuple[float, float],
    placed: list[tuple[float, float, float]],
) -> tuple[float, float]:
    """Return where a number of `number` (height, width) goes: in its box's corner, or as near as is free.

    Boxes smaller than a number get it beside them. Always inside the picture of `size` (height, width).
    """
    top, left, low, right = box
    tall, wide = number
    pad = 0.2 * tall
    small = low - top < 2 * tall or right - left < 2 * wide
    start = (right + pad if right + pad + wide < size[1] else left - pad - wide) if small else left + pad
    x0 = min(max(start, 0.0), max(size[1] - wide, 0.0))
    y0 = min(max(top + (0 if small else pad), 0.0), max(size[0] - tall, 0.0))
    xs = np.arange(-40, 41) * (0.25 * wide) + x0
    ys = np.arange(-12, 13) * (0.5 * tall) + y0
    # To the right first (weight 1), then the left or down: numbers of boxes with one corner stand in a row.
    spots = sorted(
        (max(x - x0, 4 * (x0 - x)) + 4 * abs(y - y0), float(x), float(y))
        for x in xs[(xs >= 0) & (xs <= max(size[1] - wide, 0.0))]
        for y in ys[(ys >= 0) & (ys <= max(size[0] - tall, 0.0))]
    )
    for _, x, y in spots:
        if all(x + wide <= a or a + w <= x or abs(y - b) >= tall for a, b, w in placed):
            return x, y
    return x0, y0


def _show(ax: Axes, picture: NDArray[np.uint8], colour: str) -> None:
    show(ax, picture, colour, interpolation="nearest")
    ax.set_anchor("NW")  # a box cut at the border is not square: keep it under its label
