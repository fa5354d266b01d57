"""Fig. 2: for a unit its strongest places over a data set, projections beside crops; and a page of such units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deconvviz.results.base import rgb, signed_pictures
from deconvviz.results.style import headline, new_figure, show, styled

if TYPE_CHECKING:
    from torch import Tensor

    from deconvviz.analyses.panels.result import Panels, PanelsPage

_PANEL, _GAP, _LABEL, _HEAD, _MARGIN = 0.86, 0.05, 0.15, 0.42, 0.09  # inches
_BLOCK = 0.3  # inches between the block of projections and that of crops
_NOTE = "projections (zero is mid-grey) beside their pieces of the pictures; empty where the receptive field leaves one"


def draw(result: Panels, scale: str = "panel", percentile: float = 99.5, columns: int = 3) -> Figure:
    """Draw `result` and return the figure: a block of projections, a block of the crops in the same order.

    `scale` and `percentile` are those of `Panels.images`; `columns` is the number of panels in a row of a block.
    """
    count = max(len(result), 1)
    columns = max(1, min(columns, count))
    rows = math.ceil(count / columns)
    block = columns * (_PANEL + _GAP) - _GAP
    width = max(2 * block + _BLOCK + 2 * _MARGIN, 4.2)  # the note's own width
    height = _HEAD + rows * (_PANEL + _LABEL + _GAP) + _MARGIN
    with styled():
        figure = new_figure(width, height)
        headline(figure, _MARGIN, _title(result), _note(result))
        for start, pictures, words in (
            (_MARGIN, _projections(result, scale, percentile), _strengths(result)),
            (_MARGIN + block + _BLOCK, _crops(result), _names(result)),
        ):
            for k, (picture, text) in enumerate(zip(pictures, words, strict=True)):
                row, column = divmod(k, columns)
                x = start + column * (_PANEL + _GAP)
                y = height - _HEAD - row * (_PANEL + _LABEL + _GAP) - _PANEL
                _show(figure, picture, (x / width, y / height, _PANEL / width, _PANEL / height))
                figure.text(x / width, (y - 0.03) / height, text, va="top", fontsize=5.5, color="#333333")
    return figure


def _title(result: Panels) -> str:
    method = str(result.policy.get("method", "deconvnet"))
    return f"{result.model_name}, {result.name}, unit {result.unit} · {method}"


def _note(result: Panels) -> str:
    if not len(result):
        return "the unit fires on no picture"
    share, count = result.statistics.get("share"), result.statistics.get("count")
    return _NOTE if share is None or count is None else f"fires on {share:.0%} of {count:,.0f} pictures · {_NOTE}"


def _strengths(result: Panels) -> list[str]:
    return [f"{k + 1}  {float(a):.3g}" for k, a in enumerate(result.activations)]


def _names(result: Panels) -> list[str]:
    names = []
    for number, path, label in zip(result.pictures.tolist(), result.paths, result.labels, strict=True):
        stem = f"picture {number}" if path is None else path.rpartition("/")[2]
        shown = (label or stem).encode("utf-8", "replace").decode("utf-8")
        names.append(_short("".join(c if c.isprintable() else "?" for c in shown), 17))
    return names


def _short(text: str, length: int) -> str:
    text = text.replace("$", r"\$")  # no formulas in file names
    return text if len(text) <= length else text[: length - 1] + "…"


# Pictures: (h, w, 4), transparent where a panel hangs over the border -----------------------------------------------


def _projections(result: Panels, scale: str = "panel", percentile: float = 99.5) -> list[NDArray[np.uint8]]:
    pictures = result.images(percentile, scale) if len(result) else np.zeros((0, 1, 1, 3), np.uint8)
    return [_with_alpha(p, part) for p, part in zip(pictures, result.parts.tolist(), strict=True)]


def _crops(result: Panels) -> list[NDArray[np.uint8]]:
    return [_with_alpha(p, part) for p, part in zip(result.crops.numpy(), result.parts.tolist(), strict=True)]


def _with_alpha(picture: NDArray[np.uint8], part: Sequence[int]) -> NDArray[np.uint8]:
    colours = rgb(picture)
    out = np.zeros((*colours.shape[:2], 4), np.uint8)
    top, left, bottom, right = part
    out[..., :3] = colours
    out[top:bottom, left:right, 3] = 255
    return out


def _show(figure: Figure, picture: NDArray[np.uint8], where: tuple[float, float, float, float]) -> None:
    ax = figure.add_axes(where)
    ax.patch.set(facecolor="#f4f4f4", hatch="//////", edgecolor="#dddddd", linewidth=0)
    show(ax, picture, "#888888", interpolation="nearest")
    ax.set_anchor("NW")


# The page -------------------------------------------------------------------------------------------------------------

# Pairs of mosaics in a row; inches of the page, between pairs, and of a layer's name.
_PAIRS, _PAGE, _PAIR_GAP, _BAND = 4, 7.2, 0.14, 0.21


def draw_page(result: PanelsPage, columns: int = _PAIRS, percentile: float = 98.5) -> Figure:
    """Draw a page: for each layer its units, a mosaic of projections beside one of crops each.

    `columns` is the number of units in a row. A unit of a layer that reads the picture shows its filter instead of
    projections. Mosaics are small, so their contrast is stronger than that of `draw`.
    """
    layers = [(name, list(units)) for name, units in groupby(result.panels, lambda p: p.name)]
    side = ((_PAGE - 2 * _MARGIN - (columns - 1) * _PAIR_GAP) / columns - 0.03) / 2
    step = side + _LABEL
    bands = [math.ceil(len(units) / columns) * step + _BAND for _, units in layers]
    height = 0.4 + sum(bands) + _MARGIN
    with styled():
        figure = new_figure(_PAGE, height)
        headline(figure, _MARGIN, f"{result.model_name} · strongest places of random units", _NOTE)
        y = height - 0.4
        for (name, units), band in zip(layers, bands, strict=True):
            words = f"{name} (filters)" if units[0].filter is not None else name
            figure.text(_MARGIN / _PAGE, (y - 0.1) / height, words, va="center", fontsize=7, weight="bold")
            for k, unit in enumerate(units):
                row, column = divmod(k, columns)
                x = _MARGIN + column * (2 * side + 0.03 + _PAIR_GAP)
                _pair(figure, unit, x, y - _BAND - row * step, side, percentile)
            y -= band
    return figure


def _pair(figure: Figure, unit: Panels, x: float, y: float, side: float, percentile: float) -> None:
    """A unit's two mosaics below (x, y), in inches."""
    height = figure.get_figheight()
    own = unit.filter
    left = mosaic(_projections(unit, "panel", percentile)) if own is None else _filter(own)
    for n, picture in enumerate((left, mosaic(_crops(unit)))):
        where = ((x + n * (side + 0.03)) / _PAGE, (y - side) / height, side / _PAGE, side / height)
        ax = figure.add_axes(where)
        ax.imshow(picture, interpolation="nearest" if own is not None else "antialiased")
        ax.set_axis_off()
    figure.text(x / _PAGE, (y - side - 0.02) / height, f"unit {unit.unit}", va="top", fontsize=5.5, color="#333333")


def _filter(own: Tensor) -> NDArray[np.uint8]:
    picture = signed_pictures(own[None])[0]
    return _with_alpha(picture, (0, 0, *picture.shape[:2]))


def mosaic(pictures: Sequence[NDArray[np.uint8]], columns: int = 3) -> NDArray[np.uint8]:
    """One picture (H, W, 4) of up to `columns`² pictures of one size (h, w, 4), a thin gap between them."""
    if not pictures:
        return np.zeros((1, 1, 4), np.uint8)
    high, wide = pictures[0].shape[:2]
    gap = max(1, round(max(high, wide) / 40))
    out = np.zeros((columns * (high + gap) - gap, columns * (wide + gap) - gap, 4), np.uint8)
    for k, picture in enumerate(pictures[: columns * columns]):
        y, x = (k // columns) * (high + gap), (k % columns) * (wide + gap)
        out[y : y + high, x : x + wide] = np.where(picture[..., 3:] > 0, picture, (244, 244, 244, 255))
    return out
