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

from deconvviz.figures.style import COLOURS, new_figure, styled

if TYPE_CHECKING:
    from deconvviz.results import Projection

_PHOTO, _PANEL, _GAP, _LABEL, _HEAD = 2.6, 0.86, 0.09, 0.25, 0.32  # inches


def draw(result: Projection, scale: str = "panel", percentile: float = 99.5, columns: int = 3) -> Figure:
    """Draw `result` and return the figure: photograph at the left, K pairs (projection, crop) at the right.

    `scale` and `percentile` are those of `Projection.images`; `columns` is the number of pairs in a row.
    Each projection is cut to the box of its receptive field, as its crop is.
    """
    count = len(result)
    columns = max(1, min(columns, count))
    rows = math.ceil(count / columns)
    pair = 2 * _PANEL + 0.03
    width = _PHOTO + columns * (pair + _GAP) + 3 * _GAP
    height = _HEAD + max(rows * (_PANEL + _LABEL) + _GAP, _PHOTO * _aspect(result) + _LABEL + _GAP)
    with styled():
        figure = new_figure(width, height)
        figure.text(_GAP / width, 1 - 0.16 / height, _title(result), va="center", fontsize=8, weight="bold")
        _photograph(figure, result, width, height)
        images, crops = result.images(percentile, scale), result.crops()
        for k in range(count):
            row, column = divmod(k, columns)
            x = _PHOTO + 3 * _GAP + column * (pair + _GAP)
            y = height - _HEAD - row * (_PANEL + _LABEL) - _LABEL - _PANEL
            top, left, bottom, right = result.boxes[k].tolist()
            shown = images[k, top:bottom, left:right]
            ax = _axes(figure, x, y, width, height)
            _show(ax, shown, COLOURS[k % len(COLOURS)])
            _show(_axes(figure, x + _PANEL + 0.03, y, width, height), crops[k], COLOURS[k % len(COLOURS)])
            figure.text(x / width, (y + _PANEL + 0.03) / height, _label(result, k), va="bottom", fontsize=6)
    return figure


def _aspect(result: Projection) -> float:
    height, width = result.image.shape[-2:]
    return min(float(height) / float(width), 2.0)


def _title(result: Projection) -> str:
    method = str(result.policy.get("method", "deconvnet"))
    return f"{result.model.get('name', 'model')}, {result.name} · {method}"


def _label(result: Projection, k: int) -> str:
    row, column = result.places[k].tolist()
    return f"{k + 1}  unit {int(result.units[k])} · {float(result.activations[k]):.3g} · ({row}, {column})"


def _axes(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    return figure.add_axes((x / width, y / height, _PANEL / width, _PANEL / height))


def _photograph(figure: Figure, result: Projection, width: float, height: float) -> None:
    aspect = _aspect(result)
    bottom = height - _HEAD - _LABEL - _PHOTO * aspect
    ax = figure.add_axes((_GAP / width, bottom / height, _PHOTO / width, _PHOTO * aspect / height))
    _show(ax, result.photograph(), "#444444")
    full = (0, 0, *result.image.shape[-2:])
    placed: list[tuple[float, float]] = []
    for k, box in enumerate(result.boxes.tolist()):
        if tuple(box) == full:
            continue  # the whole picture: a box would say nothing
        top, left, low, right = box
        colour = COLOURS[k % len(COLOURS)]
        ax.add_patch(
            Rectangle((left - 0.5, top - 0.5), right - left, low - top, fill=False, ec=colour, lw=1.1)
        )
        # Boxes that begin at nearly one corner: their numbers stand side by side.
        side = result.image.shape[-1] / 224
        x, y = left + 2 * side, top + 2 * side
        while any(abs(x - a) < 9 * side and abs(y - b) < 10 * side for a, b in placed):
            x += 3 * side
        placed.append((x, y))
        ax.text(
            x,
            y,
            str(k + 1),
            color=colour,
            fontsize=6,
            weight="bold",
            va="top",
            path_effects=[patheffects.withStroke(linewidth=1.5, foreground="white")],
            clip_on=True,
        )


def _show(ax: Axes, picture: NDArray[np.uint8], colour: str) -> None:
    grey = picture.shape[-1] == 1
    shown = picture[..., 0] if grey else picture[..., :3]
    ax.imshow(shown, cmap="gray" if grey else None, vmin=0, vmax=255, interpolation="nearest")
    ax.set_anchor("NW")  # a box cut at the border is not square: keep it under its label
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_color(colour)
