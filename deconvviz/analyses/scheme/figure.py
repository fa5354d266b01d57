"""Fig. 1: forwards through a convolutional layer on the right, back through the DeconvNet's on the left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from numpy.typing import NDArray
from torch import Tensor

from deconvviz.results.base import rgb, signed_pictures
from deconvviz.results.style import COLOURS, axes_at, new_figure, show, styled

if TYPE_CHECKING:
    from deconvviz.analyses.scheme.result import Piece, Scheme

_WIDTH, _HEIGHT = 7.4, 5.0  # inches
_SIDE = 0.83  # of a picture in the flow
_LEVELS = (3.83, 2.63, 1.43, 0.23)  # bottom edges of the pictures, from the top down
_BACK, _FORTH = 0.1, 2.15  # left edges of the two columns
_PART = 4.0  # left edge of part (b)
_FORWARD, _BACKWARD, _SWITCH = COLOURS[0], COLOURS[1], COLOURS[2]


def draw(result: Scheme) -> Figure:
    """Draw `result`: (a) the two layers with one map of each step, (b) the numbers of nine pool windows."""
    with styled():
        figure = new_figure(_WIDTH, _HEIGHT)
        _flow(figure, result)
        _numbers(figure, result.piece())
        figure.text(1 - 0.1 / _WIDTH, 4.87 / _HEIGHT, result.answer_in_words(), fontsize=6, color="#555555", ha="right",
                    va="center", parse_math=False)  # fmt: skip
        for x, text in ((0.1, "(a)"), (_PART, "(b)")):
            figure.text(x / _WIDTH, 4.87 / _HEIGHT, text, weight="bold", fontsize=8, va="center")
    return figure


# (a) ------------------------------------------------------------------------------------------------------------


def _flow(figure: Figure, result: Scheme) -> None:
    above, unit = result.above
    top, left, bottom, right = _close(result.pixels)
    photo = result.photograph()

    def part(values: Tensor) -> Tensor:
        """The piece of a map under the same piece of the picture."""
        high, wide = values.shape[-2] / photo.shape[0], values.shape[-1] / photo.shape[1]
        rows, columns = slice(round(top * high), round(bottom * high)), slice(round(left * wide), round(right * wide))
        return values[..., rows, columns]

    back = [
        (_signed(part(result.signal)), f"signal from\nabove ({above},\nunit {unit})"),
        (_signed(part(result.unpooled)), "unpooled"),
        (_signed(part(result.passed)), "rectified"),
        (_signed(part(result.pixels)), "reconstruction\n(from all maps)"),
    ]
    forth = [
        (_grey(part(result.pooled)), "pooled map"),
        (_grey(part(result.rectified)), "rectified map"),
        (_signed(part(result.convolved)), f"feature map\n({result.layer},\nmap {result.unit})"),
        (photo[top:bottom, left:right], "picture\n(a piece of it)"),
    ]
    for x, column, colour in ((_BACK, back, _BACKWARD), (_FORTH, forth, _FORWARD)):
        for y, (picture, name) in zip(_LEVELS, column, strict=True):
            _show(figure, (x, y), picture, colour)
            beside = x + _SIDE + 0.06
            figure.text(beside / _WIDTH, (y + _SIDE / 2) / _HEIGHT, name, va="center", fontsize=6, color="#333333")
    centre = _SIDE / 2
    for k, name in enumerate(("max unpooling", "rectify", r"filter with $F^{\mathsf{T}}$")):
        _arrow(figure, (_BACK + centre, _LEVELS[k]), (_BACK + centre, _LEVELS[k + 1] + _SIDE), _BACKWARD, name)
    for k, name in enumerate(("max pooling", "rectify", r"filter with $F$")):
        _arrow(figure, (_FORTH + centre, _LEVELS[k + 1] + _SIDE), (_FORTH + centre, _LEVELS[k]), _FORWARD, name)
    # The switches go from the pooling to the unpooling.
    y = (_LEVELS[0] + _LEVELS[1] + _SIDE) / 2
    _arrow(figure, (_FORTH + centre - 0.06, y), (_BACK + centre + 1.05, y), _SWITCH, "")
    figure.text((_BACK + centre + 1.3) / _WIDTH, (y + 0.04) / _HEIGHT, "switches", fontsize=6.5, ha="center",
                va="bottom", color=_SWITCH, weight="bold")  # fmt: skip


def _arrow(figure: Figure, start: tuple[float, float], end: tuple[float, float], colour: str, name: str) -> None:
    gap = 0.02 if start[0] == end[0] else 0.0
    up = 1 if end[1] > start[1] else -1
    figure.add_artist(
        FancyArrowPatch(
            (start[0] / _WIDTH, (start[1] + gap * up) / _HEIGHT),
            (end[0] / _WIDTH, (end[1] - gap * up) / _HEIGHT),
            transform=figure.transFigure,
            arrowstyle="-|>",
            mutation_scale=8,
            shrinkA=0,
            shrinkB=0,
            color=colour,
            linewidth=1.2,
        )
    )
    if name:
        y = (start[1] + end[1]) / 2
        figure.text((start[0] + 0.1) / _WIDTH, y / _HEIGHT, name, fontsize=6.5, va="center", color=colour)


def _close(pixels: Tensor) -> tuple[int, int, int, int]:
    """A square (top, left, bottom, right) of the picture, twice as large as what was reconstructed."""
    height, width = pixels.shape[1:]
    there = (pixels.abs().sum(0) > 0).nonzero()
    low, high = (there.amin(0), there.amax(0) + 1) if len(there) else (torch.zeros(2), torch.tensor([height, width]))
    side = min(int(2 * (high - low).max()), height, width)
    top, left = (
        min(max(int(a + b - side) // 2, 0), n - side)
        for a, b, n in zip(low.tolist(), high.tolist(), (height, width), strict=True)
    )
    return top, left, top + side, left + side


def _grey(values: Tensor) -> NDArray[np.uint8]:
    """A map (h, w) as a picture, its lowest value black and its highest white."""
    low, high = float(values.min()), float(values.max())
    scaled = (values.detach().cpu().double().numpy() - low) / (high - low or 1.0)
    return np.repeat(np.rint(scaled * 255).astype(np.uint8)[..., None], 3, axis=2)


def _signed(values: Tensor) -> NDArray[np.uint8]:
    """A signed map (h, w), or pixels (C, H, W), as a picture with zero as mid-grey."""
    return rgb(signed_pictures(values[None, None] if values.dim() == 2 else values[None])[0])


def _show(figure: Figure, corner: tuple[float, float], picture: NDArray[np.uint8], colour: str) -> None:
    ax = axes_at(figure, *corner, _SIDE, _SIDE)
    show(ax, picture, colour, interpolation="nearest", aspect="auto")
    ax.spines[:].set_linewidth(1.0)


# (b) ------------------------------------------------------------------------------------------------------------


def _numbers(figure: Figure, piece: Piece) -> None:
    cell = 0.205
    tall, wide = piece.rectified.shape
    side = piece.signal.shape[0]
    left, right = _PART + 0.04, _PART + wide * cell + 0.4
    large = 1.15
    small = large + tall * cell + 1.05
    inset = (wide - side) * cell / 2
    grids = (
        ((left + inset, small), piece.signal, "signal from above", True),
        ((right + inset, small), piece.pooled, "pooled map", False),
        ((left, large), piece.unpooled, "unpooled", True),
        ((right, large), piece.rectified, "rectified map", False),
    )
    own = [(s, s) for s in np.ndindex(side, side)]
    marks = [(tuple(piece.switches[place].tolist()), place) for place, _ in own]
    for number, (corner, values, name, signed) in enumerate(grids):
        placed = [(place, place) for place, _ in own] if number < 2 else marks
        _grid(figure, corner, cell, values, signed, [(at, place[0] * side + place[1]) for at, place in placed])
        rows, columns = values.shape
        x, y = corner[0] + columns * cell / 2, corner[1] + rows * cell + 0.09
        figure.text(x / _WIDTH, y / _HEIGHT, name, ha="center", va="center", fontsize=6.5)
    middle = wide * cell / 2
    low, high = large + tall * cell + 0.2, small - 0.03
    _arrow(figure, (left + middle, high), (left + middle, low), _BACKWARD, "max unpooling")
    _arrow(figure, (right + middle, low), (right + middle, high), _FORWARD, "max pooling")
    y = (low + high) / 2
    start, end = right + middle - 0.06, left + middle + 0.84
    _arrow(figure, (start, y), (end, y), _SWITCH, "")
    figure.text((start + end) / 2 / _WIDTH, (y + 0.04) / _HEIGHT, "switches", fontsize=6.5, ha="center", va="bottom",
                color=_SWITCH, weight="bold")  # fmt: skip
    note = (
        "Each frame is the place of one window's maximum, its switch. Pooling sends\n"
        "the maximum up; unpooling puts the signal back there, and zero elsewhere.\n"
        "Where windows overlap, one place can be the maximum of several:\n"
        "what arrives there is added."
    )
    figure.text(left / _WIDTH, (large - 0.16) / _HEIGHT, note, va="top", fontsize=6, color="#333333", linespacing=1.4)


def _grid(
    figure: Figure,
    corner: tuple[float, float],
    cell: float,
    values: Tensor,
    signed: bool,
    frames: list[tuple[tuple[int, ...], int]],
) -> None:
    """Numbers on their shades; `frames` are places with the number of their window, which has a colour."""
    rows, columns = values.shape
    where = (corner[0] / _WIDTH, corner[1] / _HEIGHT, columns * cell / _WIDTH, rows * cell / _HEIGHT)
    ax = figure.add_axes(where)
    shades = (_signed(values) if signed else _grey(values))[..., :1].astype(float)
    # Pale, so that numbers can be read: zero of a signed map stays the middle.
    shown = np.repeat(255 - (255 - shades) * 0.55, 3, axis=2).astype(np.uint8)
    ax.imshow(shown, interpolation="nearest", aspect="auto")
    for place in np.ndindex(rows, columns):
        number = float(values[place])
        text = "0" if number == 0 else f"{number:.2f}".replace("0.", ".") if signed else f"{number:.1f}"
        weight = "bold" if any(tuple(at) == place for at, _ in frames) else "normal"
        ax.text(place[1], place[0], text, ha="center", va="center", fontsize=4.6, weight=weight)
    _frames(ax, frames)
    ax.set_xticks([])
    ax.set_yticks([])


def _frames(ax: Axes, frames: list[tuple[tuple[int, ...], int]]) -> None:
    seen: dict[tuple[int, ...], int] = {}
    for at, window in frames:
        inset = 0.05 + 0.1 * seen.get(at, 0)  # a second window with its maximum here: a frame inside the first
        seen[at] = seen.get(at, 0) + 1
        side = 1 - 2 * inset
        colour = COLOURS[window % len(COLOURS)]
        ax.add_patch(Rectangle((at[1] - side / 2, at[0] - side / 2), side, side, fill=False, ec=colour, lw=0.9))
