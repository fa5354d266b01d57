"""The projection figure: the photograph with its receptive fields, then each unit by its crop (Fig. 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from deconvviz.results.style import COLOURS, axes_at, headline, new_figure, shorten, show, styled

if TYPE_CHECKING:
    from deconvviz.analyses.projection.result import Projection

_PANEL, _GAP, _LABEL, _HEAD, _LINE = 0.86, 0.09, 0.2, 0.42, 0.12  # inches
_SINGLE = 1.45  # a projection without a crop
_SMALL, _LARGE = 2.2, 3 * _PANEL + 2 * _LABEL  # sides of the photograph: as high as its rows, within these
_STRIP = 0.9  # the whole picture under the photograph, at most as high
# Nine colours, and a kind of line for each time that they begin again.
_LINES: tuple[Any, ...] = ("-", (0, (4, 1.6)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))


def draw(result: Projection, scale: str = "panel", percentile: float = 99.5, columns: int = 3) -> Figure:
    """Draw `result` and return the figure: photograph at the left, K pairs (projection, crop) at the right.

    `scale` and `percentile` are those of `Projection.images`; `columns` is the number of pairs in a row beside the
    photograph; more than three such rows go on below it, over the whole width. Each projection is cut to the box of its
    receptive field, as its crop is; where every box is the whole picture there are no crops. Under the photograph
    stands all of the picture, dark where the network does not see it, if that is known.
    """
    with styled():
        page = _Page.of(result, columns)
        figure = new_figure(page.width, page.height)
        room = page.width - 2 * _GAP
        headline(figure, _GAP, _title(result), *(shorten(note, room, 5.5) for note in page.notes))
        _photograph(figure, result, page.photograph)
        if page.strip is not None:
            _whole(figure, result, page.strip)
        images, crops = result.images(percentile, scale), result.crops()
        for k in range(len(result)):
            top, left, bottom, right = result.boxes[k].tolist()
            x, y = page.cell(k)
            _show(axes_at(figure, x, y, page.panel, page.panel), images[k, top:bottom, left:right], k)
            if page.pairs:
                _show(axes_at(figure, x + page.panel + 0.03, y, page.panel, page.panel), crops[k], k)
            line = (y + page.panel + 0.03) / page.height
            number: dict[str, Any] = {"va": "bottom", "fontsize": 6.5, "weight": "bold", "color": _colour(k)}
            figure.text(x / page.width, line, f"{k + 1}", **number)
            indent = 0.06 * len(f"{k + 1}") + 0.06
            label = shorten(_label(result, k), page.pitch - _GAP / 2 - indent, 6)
            figure.text((x + indent) / page.width, line, label, va="bottom", fontsize=6)
    return figure


# Where things lie ---------------------------------------------------------------------------------------------------

_Where = tuple[float, float, float, float]  # left, bottom, width, height


@dataclass(frozen=True)
class _Page:
    """Where all of a figure lies, in inches from its lower left corner.

    Cells of `panel` (two panels if there are `pairs`) stand `pitch` apart: `beside` in each of the first `rows` rows,
    from `start`; then `below` in a row over the whole width.
    """

    width: float
    height: float
    head: float
    notes: list[str]
    panel: float
    pairs: bool
    pitch: float
    start: float
    beside: int
    rows: int
    below: int
    photograph: _Where
    strip: _Where | None

    @classmethod
    def of(cls, result: Projection, columns: int) -> _Page:
        count = len(result)
        pairs = any(box != [0, 0, *result.image.shape[-2:]] for box in result.boxes.tolist())
        panel = _PANEL if pairs else _SINGLE
        pitch, step = (2 * panel + 0.03 if pairs else panel) + _GAP, panel + _LABEL
        notes = _notes(result, pairs)
        head = _HEAD + _LINE * (len(notes) - 1)
        beside = max(1, min(columns, count))
        rows = math.ceil(count / beside)
        flows = rows > 3
        # The photograph is as high as its rows; or as wide as two cells, which go on under it.
        side = 2 * pitch - _GAP if flows else min(max(rows * step - _LABEL, _SMALL), _LARGE)
        across, down = side / max(1.0, _aspect(result)), side * min(1.0, _aspect(result))
        start = (2 * pitch if flows else across + 2 * _GAP) + _GAP
        strip = _strip(result, across)
        tall = down + _LABEL + (0.0 if strip is None else 0.08 + strip[1] + _LABEL)
        if flows:
            rows = min(rows, math.ceil(tall / step))
        rest = max(math.ceil((count - rows * beside) / (beside + 2)), 0) if flows else 0
        body = max(rows * step, tall) + rest * step
        width = max(start + beside * pitch, 4.2)  # the note's own width
        height = head + body + _GAP
        bottom = height - head - _LABEL - down
        return cls(
            width, height, head, notes, panel, pairs, pitch, start, beside, rows, beside + 2,
            (_GAP, bottom, across, down),
            None if strip is None else (_GAP, bottom - 0.08 - strip[1], *strip),
        )  # fmt: skip

    def cell(self, k: int) -> tuple[float, float]:
        """The lower left corner of the k-th projection."""
        under = k - self.rows * self.beside
        row, column = divmod(k, self.beside) if under < 0 else divmod(under, self.below)
        row += 0 if under < 0 else self.rows
        y = self.height - self.head - (row + 1) * (self.panel + _LABEL)
        return (self.start if under < 0 else _GAP) + column * self.pitch, y


def _strip(result: Projection, across: float) -> tuple[float, float] | None:
    """Width and height of the whole picture, if it is shown."""
    if result.whole is None or result.region is None:
        return None
    aspect = result.whole.shape[0] / result.whole.shape[1]
    down = min(across * aspect, _STRIP)
    return down / aspect, down


def _aspect(result: Projection) -> float:
    height, width = result.image.shape[-2:]
    return min(float(height) / float(width), 2.0)


# What is said -------------------------------------------------------------------------------------------------------


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


def _notes(result: Projection, pairs: bool) -> list[str]:
    """The lines under the title: what is shown, what the network makes of the picture, and what is left out."""
    what = "beside its piece of the photograph" if pairs else "of units that read the whole picture"
    place = "" if _placeless(result) else " · (row, column)"
    passed = result.policy.get("passed_over")
    over = f"distinct places: {passed} units at places shown before are left out" if passed else ""
    lines = [f"projection (zero is mid-grey) {what}; unit · activation{place}", result.answer_in_words(), over]
    return [line for line in lines if line]


def _label(result: Projection, k: int) -> str:
    row, column = result.places[k].tolist()
    place = "" if _placeless(result) else f" · ({row}, {column})"
    return f"unit {int(result.units[k])} · {float(result.activations[k]):.3g}{place}"


def _placeless(result: Projection) -> bool:
    """Whether the layer has one place only, as a fully connected one: to name it would say nothing."""
    whole = [0, 0, *result.image.shape[-2:]]
    return not result.places.any() and all(box == whole for box in result.boxes.tolist())


def _colour(k: int) -> str:
    return COLOURS[k % len(COLOURS)]


def _line(k: int) -> Any:
    return _LINES[k // len(COLOURS) % len(_LINES)]


# The photograph and its boxes ---------------------------------------------------------------------------------------


def _whole(figure: Figure, result: Projection, where: _Where) -> None:
    picture = result.whole_picture()
    assert picture is not None
    show(axes_at(figure, *where), picture, "#444444")
    width, height = figure.get_size_inches()
    said = "the picture: the network sees what is bright"
    figure.text(where[0] / width, (where[1] - 0.03) / height, said, va="top", fontsize=5.5, color="#555555")


def _photograph(figure: Figure, result: Projection, where: _Where) -> None:
    ax = axes_at(figure, *where)
    show(ax, result.photograph(), "#444444", interpolation="nearest")
    ax.set_anchor("NW")
    height, width = result.image.shape[-2:]
    a_pixel = where[3] / height  # inches
    tall = 0.115 / a_pixel  # one number's height, in pixels of the picture
    placed: list[tuple[float, float, float]] = []
    drawn: list[_Edges] = []
    for k, box in enumerate(result.boxes.tolist()):
        if box == [0, 0, height, width]:
            continue  # the whole picture: a box would say nothing
        top, left, low, right = drawn_at = _in_sight(box, drawn, 0.024 / a_pixel)
        drawn.append(drawn_at)
        frame = Rectangle(
            (left - 0.5, top - 0.5),
            right - left,
            low - top,
            fill=False,
            ec=_colour(k),
            lw=1.1,
            ls=_line(k),
            clip_on=False,
        )
        ax.add_patch(frame).set_path_effects([_outline(1.9)])
        wide = tall * (0.35 + 0.55 * len(str(k + 1)))
        x, y = _free(box, (height, width), (tall, wide), placed)
        placed.append((x, y, wide))
        style = {"fontsize": 6.5, "weight": "bold", "va": "top", "path_effects": [_outline(1.8)]}
        ax.text(x, y, str(k + 1), color=_colour(k), **style)  # type: ignore[arg-type]


_Edges = tuple[float, float, float, float]  # top, left, bottom, right


def _in_sight(box: list[int], drawn: list[_Edges], line: float) -> _Edges:
    """Return where a box is drawn: each edge moved inwards until it lies `line` pixels from every edge along it.

    At most by a quarter of the box, which is still one: many boxes at one place are more than can be told apart.
    """
    found = [float(edge) for edge in box]
    for side in range(4):
        across = side % 2  # 0: a horizontal edge, at a row
        begin, end = box[1 - across], box[3 - across]
        inwards = 1 if side < 2 else -1
        least = (box[2 + across] - box[across]) / 4
        along = [d for d in drawn if d[1 - across] < end and d[3 - across] > begin]
        for n in range(int(least / line) + 1):
            at = box[side] + inwards * n * line
            if all(abs(at - other) >= 0.99 * line for d in along for other in (d[across], d[2 + across])):
                found[side] = at
                break
    return found[0], found[1], found[2], found[3]


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


def _show(ax: Axes, picture: NDArray[np.uint8], k: int) -> None:
    show(ax, picture, _colour(k), interpolation="nearest")
    ax.spines[:].set_linestyle(_line(k))
    ax.set_anchor("NW")  # a box cut at the border is not square: keep it under its label
