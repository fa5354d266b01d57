"""The page about one picture: its classes, what drives the answer, the units that it comes through, the checks."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from deconvviz.results.base import numbers, rgb
from deconvviz.results.style import COLOURS, axes_at, headline, new_figure, shorten, show, styled

if TYPE_CHECKING:
    from deconvviz.analyses.explanation.result import Explanation, Stage

_WIDTH, _EDGE, _GAP = 7.4, 0.09, 0.1  # inches
_HEAD, _TITLE, _BAR = 0.44, 0.17, 0.5  # headline; above a panel; a colour bar with its numbers
_TALLEST, _OPACITY = 2.0, 0.6
_PANEL, _LABEL, _STAGE = 0.82, 0.17, 0.3  # a unit's panels, the line above them, the line above a stage
_WORDS = 1.75  # what the checks say, at the right


def draw(result: Explanation) -> Figure:
    """Draw `result` and return the figure.

    Occlusion is the probability of the class with each place covered, 0 to 1 in every picture. Grad-CAM has no unit:
    its largest value is 1. A projection's contrast is its own; its frame has the colour of its place in the photograph
    above, which is drawn for the last stage.
    """
    down = _overview_height(result)
    count = len(result.stages[0].projection) if result.stages else 0
    columns = max(1, int((_WIDTH - _WORDS - 2 * _EDGE) // (2 * _PANEL + 0.03 + _GAP)))
    lines = -(-count // columns)
    stage = _STAGE + lines * (_PANEL + _LABEL)
    height = down + len(result.stages) * stage + 0.34
    with styled():
        figure = new_figure(_WIDTH, height)
        _headline(figure, result)
        _overview(figure, result, height - _HEAD)
        for n, one in enumerate(reversed(result.stages)):
            _stage(figure, result, one, height - down - n * stage, columns, n == 0)
        for n, line in enumerate(_FOOT):
            _text(figure, _EDGE, 0.22 - 0.11 * n, line, fontsize=5.5, color="#555555")
    return figure


_FOOT = (
    "Each unit: its projection, and its receptive field in the photograph. adds: Σ activation × derivative of the "
    "logit over its map.",
    "without it: change of the logit with the map set to zero, exact. Checks: mean |cosine|; rank correlation with all "
    "weights below random. 1: the same.",
)


def draw_overview(result: Explanation) -> Figure:
    """Draw the picture, its classes, occlusion and Grad-CAM alone, without a headline."""
    with styled():
        figure = new_figure(_WIDTH, _overview_height(result) - _HEAD + _EDGE)
        _overview(figure, result, figure.get_figheight() - _EDGE)
    return figure


# The picture --------------------------------------------------------------------------------------------------------


def _panel_size(result: Explanation) -> tuple[float, float]:
    """Width and height of the picture in each panel of the first row."""
    rows, columns = result.image.shape[-2:]
    width = min((_WIDTH - 2 * _EDGE - 3 * _GAP - 1.75) / 3, _TALLEST * columns / rows)
    return width, width * rows / columns


def _overview_height(result: Explanation) -> float:
    return _HEAD + _TITLE + _panel_size(result)[1] + _BAR


def _headline(figure: Figure, result: Explanation) -> None:
    label, share = result.label(result.target), {n: s for n, _, s in result.classes()}[result.target]
    title = f"Why {label}? {result.model_name}"
    note = f"{label}: probability {share:.3g}, logit {float(result.logits[result.target]):.3g}"
    headline(figure, _EDGE, shorten(title, _WIDTH - 2 * _EDGE, 8, "bold"), shorten(note, _WIDTH - 2 * _EDGE, 5.5))


def _overview(figure: Figure, result: Explanation, top: float) -> None:
    """The row of the picture, its classes, occlusion and Grad-CAM, down from `top`."""
    width, height = _panel_size(result)
    bottom = top - _TITLE - height
    photograph = axes_at(figure, _EDGE, bottom, width, height)
    show(photograph, rgb(result.photograph()))
    if result.stages:
        for k, box in enumerate(result.stages[-1].projection.boxes.tolist()):
            _frame(photograph, box, _colour(k))
    _over(photograph, f"fields of {result.stages[-1].name}'s units" if result.stages else "the picture")
    _classes(axes_at(figure, _EDGE + width + _GAP + 0.05, bottom, 1.6, height), result)
    x = _EDGE + width + _GAP + 1.75
    _occlusion(figure, result, (x, bottom, width, height))
    if result.cam is not None:
        _cam(figure, result, (x + width + _GAP, bottom, width, height))


def _classes(ax: Axes, result: Explanation) -> None:
    """The most probable classes, as bars from 0 to 1 with their names in them."""
    classes = result.classes()
    for n, (number, name, share) in enumerate(classes):
        ax.barh(n, share, height=0.86, color=COLOURS[4] if number == result.target else "#dddddd", lw=0)
        style: dict[str, Any] = {"va": "center", "fontsize": 6, "parse_math": False}
        ax.text(0.02, n, shorten(name, 1.15, 6), weight="bold" if number == result.target else "normal", **style)
        ax.text(0.98, n, f"{share:.3f}", ha="right", **style)
    ax.set(xlim=(0, 1), ylim=(len(classes) - 0.5, -0.5), yticks=[])
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=5.5)
    ax.tick_params(length=2, pad=1.5)
    _over(ax, "what it thinks: probability")


def _occlusion(figure: Figure, result: Explanation, where: tuple[float, float, float, float]) -> None:
    """The probability of the class by where the occluder's centre is, from 0 to 1."""
    o = result.occlusion
    ax = axes_at(figure, *where)
    _grey(ax, result)
    values = numbers(o.probability).astype(float)
    lines = [o.origins[:: o.shape[1], 0], o.origins[: o.shape[1], 1]]
    rows, columns = (numbers(line) + (side - 1) / 2 for line, side in zip(lines, o.window, strict=True))
    norm = Normalize(0, 1)
    ax.pcolormesh(
        _edges(columns), _edges(rows), values, cmap="viridis", norm=norm, alpha=_OPACITY, lw=0, rasterized=True
    )
    _over(ax, f"probability, {o.window[0]}×{o.window[1]} covered", where[2])
    most = int((o.baseline[o.target] - o.logits[:, o.target]).argmax())
    top, left = o.origins[most].tolist()
    _frame(ax, [top, left, top + o.window[0], left + o.window[1]], "white")
    change = float(o.logits[most, o.target] - o.baseline[o.target])
    _text(figure, where[0], where[1] - 0.37, f"frame: the logit changes most, by {change:+.2g}", fontsize=5.5)
    _bar(figure, where, ScalarMappable(norm, "viridis"), (0, 0.5, 1))


def _cam(figure: Figure, result: Explanation, where: tuple[float, float, float, float]) -> None:
    """Grad-CAM, its largest value 1."""
    assert result.cam is not None
    ax = axes_at(figure, *where)
    _grey(ax, result)
    values = numbers(result.cam).astype(float)
    norm = Normalize(0, 1)
    ax.imshow(values / (values.max() or 1.0), cmap="magma", norm=norm, alpha=_OPACITY, interpolation="nearest")
    _over(ax, f"Grad-CAM, {result.cam_layer}", where[2])
    _bar(figure, where, ScalarMappable(norm, "magma"), (0, 0.5, 1))


def _grey(ax: Axes, result: Explanation) -> None:
    ax.imshow(result.photograph().mean(-1), cmap="gray", vmin=0, vmax=255)
    ax.set(xticks=[], yticks=[])


def _edges(centres: Any) -> Any:
    """The edges of cells around centres: half way between them."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middles = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middles[0]], middles, [2 * centres[-1] - middles[-1]]])


def _bar(
    figure: Figure, where: tuple[float, float, float, float], drawn: ScalarMappable, ticks: tuple[float, ...]
) -> None:
    ax = axes_at(figure, where[0], where[1] - 0.14, where[2], 0.07)
    bar = Colorbar(ax, drawn, orientation="horizontal", ticks=list(ticks))
    bar.ax.set_xticklabels([f"{tick:g}" for tick in ticks], fontsize=5.5)
    bar.ax.tick_params(length=2, pad=1.5)


# The stages ---------------------------------------------------------------------------------------------------------


def _stage(figure: Figure, result: Explanation, stage: Stage, top: float, columns: int, coloured: bool) -> None:
    p = stage.projection
    field = (p.boxes[:, 2:] - p.boxes[:, :2]).amax(0).tolist()
    said = f"{stage.maps} maps of {stage.size[0]}×{stage.size[1]}, receptive fields up to {field[0]}×{field[1]}"
    how = f"{said}; {p.policy['method']}"
    _text(figure, _EDGE, top - 0.1, shorten(stage.name, 1.6, 7, "bold"), fontsize=7, weight="bold")
    _text(figure, _EDGE + 1.7, top - 0.1, shorten(how, _WIDTH - _EDGE - 1.8, 5.5), fontsize=5.5, color="#555555")
    images, crops = p.images(), p.crops()
    pitch = 2 * _PANEL + 0.03 + _GAP
    for k in range(len(p)):
        line, column = divmod(k, columns)
        x = _EDGE + column * pitch
        y = top - _STAGE - (line + 1) * (_PANEL + _LABEL) + 0.1
        upper, left, lower, right = p.boxes[k].tolist()
        colour = _colour(k) if coloured else "#888888"
        projected = axes_at(figure, x, y, _PANEL, _PANEL)
        show(projected, images[k, upper:lower, left:right], colour)
        if not bool(p.pixels[k].any()):
            said = "nothing\ncomes back"  # as by guided, of a unit at the upper end of a ReLU6
            projected.text(0.5, 0.5, said, ha="center", va="center", fontsize=5.5, transform=projected.transAxes)
        show(axes_at(figure, x + _PANEL + 0.03, y, _PANEL, _PANEL), crops[k], colour)
        head = f"unit {int(p.units[k])}: adds {stage.contributions[k]:+.2g}, without it {-stage.drops[k]:+.2g}"
        _text(figure, x, y + _PANEL + 0.07, shorten(head, pitch - _GAP, 5.5), fontsize=5.5)
    for n, line_ in enumerate(_words(stage)):
        _text(figure, _WIDTH - _EDGE - _WORDS + 0.08, top - _STAGE - 0.07 - 0.115 * n, line_, fontsize=5.5)


# What a statement that does not hold is about, in short.
_BLIND = {
    "picture": "this picture", "unit": "which unit", "weights": "the weights alone", "switches": "what the layer sees",
    "places": "the weights by its brightness",
}  # fmt: skip


def _words(stage: Stage) -> list[str]:
    """What the checks of a stage come to, in short lines."""
    s = stage.sanity
    if s is None:
        return []
    rows = (
        ("max pools on the way", str(s.switches)),
        ("the same in other pictures", _short(s.between_pictures)),
        ("the same of other units", _short(s.between_units)),
        ("the same, weights random", _short(float(s.similarity[-1]))),
    )
    lines = [f"{name}: {value}" for name, value in rows]
    blind = [_BLIND[one.about] for one in s.statements() if not one.shows]
    if blind:
        lines += textwrap.wrap("does not show " + ", ".join(blind), 38)
    return lines


def _short(value: float) -> str:
    return "–" if value != value else f"{value:.2f}"


# Small things -------------------------------------------------------------------------------------------------------


def _colour(k: int) -> str:
    return COLOURS[k % len(COLOURS)]


def _frame(ax: Axes, box: list[int], colour: str) -> None:
    top, left, bottom, right = box
    ax.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, ec=colour, lw=0.9))


def _over(ax: Axes, title: str, room: float = 1.6) -> None:
    ax.set_title(shorten(title, room, 6.5), fontsize=6.5, loc="left", pad=2.5, parse_math=False)


def _text(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    across, down = figure.get_size_inches()
    figure.text(x / across, y / down, text, **{"va": "center", "parse_math": False, **style})
