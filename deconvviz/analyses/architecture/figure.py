"""Fig. 3: a network as a row of slabs, as high as their maps and as thick as there are many."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from deconvviz.analyses.architecture.result import times
from deconvviz.results.style import COLOURS, new_figure, styled

if TYPE_CHECKING:
    from deconvviz.analyses.architecture.result import Architecture, Block

_TALL, _LOW = 1.35, 0.3  # inches: the height of the picture, and of the smallest map
_SLANT = 0.32  # of the height, how far a slab's side goes up and to the right
_GAP, _BELOW, _ABOVE, _SIDE = 0.6, 0.52, 0.15, 0.15
_FACE = {"input": "#dddddd", "convolution": COLOURS[4], "linear": COLOURS[5]}


def draw(result: Architecture) -> Figure:
    """Draw `result`: one slab a block, maps and sizes under it, the operators between two of them above."""
    shapes = [(_thickness(block), _height(block, result.blocks[0])) for block in result.blocks]
    lefts, x = [], _SIDE + 0.1
    for block, (thick, tall) in zip(result.blocks, shapes, strict=True):
        lefts.append(x)
        x += _across(block, thick, tall) + _GAP
    width = x - _GAP + _SIDE + 0.25
    highest = max(tall * (1 + _SLANT) for _, tall in shapes)
    height = _BELOW + highest + _ABOVE
    with styled():
        figure = new_figure(width, height)
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set(xlim=(0, width), ylim=(0, height))
        ax.axis("off")
        middle = _BELOW + highest / 2
        for k, (block, (thick, tall)) in enumerate(zip(result.blocks, shapes, strict=True)):
            _slab(ax, block, lefts[k], middle, thick, tall)
            _under(ax, block, lefts[k] + _across(block, thick, tall) / 2)
            if k:
                previous = lefts[k - 1] + _across(result.blocks[k - 1], *shapes[k - 1])
                _between(ax, result.blocks[k - 1], block, (previous, lefts[k]), middle, height)
    return figure


def _height(block: Block, first: Block) -> float:
    """By the root of the side: sizes from 6 to 224 stay apart and can be seen."""
    if block.size is None:
        return min(0.12 * math.log2(max(block.maps, 2)) - 0.2, _TALL) if block.maps > 8 else _LOW / 2
    whole = max(first.size or (1, 1))
    return max(_TALL * math.sqrt(max(block.size) / whole), _LOW)


def _thickness(block: Block) -> float:
    if block.kind == "input":
        return 0.05
    return 0.05 * math.sqrt(block.maps / 32) + 0.03 if block.size is not None else 0.12


def _across(block: Block, thick: float, tall: float) -> float:
    """How wide a slab is drawn, its side included; a vector has none."""
    return thick + (_SLANT * tall if block.size is not None else 0.0)


def _slab(ax: Axes, block: Block, x: float, middle: float, thick: float, tall: float) -> None:
    lean = _across(block, thick, tall) - thick
    low = middle - (tall + lean) / 2
    face, edge = _FACE[block.kind], "#333333"
    front = [(x, low), (x + thick, low), (x + thick, low + tall), (x, low + tall)]
    side = [(x + thick, low), (x + thick + lean, low + lean), (x + thick + lean, low + tall + lean),
            (x + thick, low + tall)]  # fmt: skip
    top = [
        (x, low + tall),
        (x + thick, low + tall),
        (x + thick + lean, low + tall + lean),
        (x + lean, low + tall + lean),
    ]
    for corners, shade in ((top, 0.35), (side, 0.6), (front, 1.0)):
        if lean or corners is front:
            ax.add_patch(Polygon(corners, closed=True, facecolor="white", edgecolor="none"))
            ax.add_patch(Polygon(corners, closed=True, facecolor=face, alpha=shade, edgecolor="none"))
            ax.add_patch(Polygon(corners, closed=True, fill=False, edgecolor=edge, linewidth=0.5, joinstyle="round"))


def _under(ax: Axes, block: Block, x: float) -> None:
    head = "picture" if block.kind == "input" else block.alias or block.name
    if block.layers > 1:
        head = f"{block.layers} convolutions"
    lines = [str(block.maps) if block.size is None else f"{block.maps} maps" if block.kind != "input" else "RGB"]
    if block.kind == "input" and block.maps != 3:
        lines = ["grey"]
    if block.size is not None:
        lines.append(times(block.size))
    ax.text(x, 0.4, head, ha="center", va="center", fontsize=6.5, weight="bold", parse_math=False)
    for n, line in enumerate(lines):
        ax.text(x, 0.26 - 0.13 * n, line, ha="center", va="center", fontsize=6, color="#333333")


def _between(ax: Axes, before: Block, block: Block, ends: tuple[float, float], middle: float, height: float) -> None:
    """An arrow, the filter under it, and what comes before it above."""
    x = sum(ends) / 2
    arrow = {"arrowstyle": "-|>", "mutation_scale": 6, "shrinkA": 0, "shrinkB": 0, "linewidth": 0.8, "color": "#333333"}
    ax.annotate("", (ends[1] - 0.05, middle), (ends[0] + 0.05, middle), arrowprops=arrow)
    own = []
    if block.kernel is not None and block.stride is not None:
        own = [times(block.kernel)] + ([f"stride {block.stride[0]}"] if block.stride != (1, 1) else [])
    for n, line in enumerate(own):
        ax.text(x, middle - 0.11 - 0.11 * n, line, ha="center", va="center", fontsize=5.5, color="#333333")
    words = [part for after in before.after for part in after.split(", ")]
    for n, line in enumerate(reversed(words)):
        ax.text(x, middle + 0.11 + 0.11 * n, line, ha="center", va="center", fontsize=5.5, color=COLOURS[0])
