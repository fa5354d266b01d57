"""The correspondence figure: the pictures with each part covered (the paper's Fig. 8), and Δ of the parts below."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from deconvviz.results.style import COLOURS, axes_at, headline, new_figure, shorten, show, styled

if TYPE_CHECKING:
    from torch import Tensor

    from deconvviz.analyses.correspondence.result import Correspondence

_EDGE, _SIDE, _GAP, _HEAD, _TITLES = 0.1, 0.8, 0.04, 0.28, 0.2  # inches
_CHART, _BELOW, _AXIS, _LEGEND = 1.5, 0.42, 0.5, 0.3
_WORDS = 5.6  # the legend's own width
_ANSWER = 0.11  # below a picture, for what the network makes of it
_MOST = 8  # pictures drawn at most
_GREY = "#888888"


def draw(result: Correspondence, random: int = 2, chart: bool = True) -> Figure:
    """Draw `result` and return the figure: a row for each picture (eight at most), as it is, with each part covered,
    and with `random` of the random boxes; below, with `chart`, Δ of each part beside its random draws, a layer a panel.
    """
    shown = _covered(result, random)
    count, columns = len(shown), len(shown[0])
    tall = _SIDE * shown[0][0].shape[0] / shown[0][0].shape[1]
    step = tall + _GAP + _ANSWER * bool(result.answers)
    grid = count * step
    least = max(_WORDS, _EDGE + len(result.layers) * (_AXIS + 0.55 * (len(result.parts) + 1) + 0.2)) if chart else 3.2
    width = max(2 * _EDGE + columns * (_SIDE + _GAP), least)
    height = _EDGE + _HEAD + _TITLES + grid + (_BELOW + _CHART + _LEGEND + 0.22 if chart else _EDGE)
    left = (width - columns * (_SIDE + _GAP)) / 2
    with styled():
        figure = new_figure(width, height)
        title = f"{result.model_name} · the same part covered in {len(result.images)} pictures"
        headline(figure, _EDGE, title)
        for row, pictures in enumerate(shown):
            for column, picture in enumerate(pictures):
                x = left + column * (_SIDE + _GAP)
                y = height - _EDGE - _HEAD - _TITLES - row * step - tall - _GAP
                ax = axes_at(figure, x, y, _SIDE, tall)
                show(ax, picture)
                if column == 0 and result.answers:
                    words = shorten(result.answers_in_words()[row], columns * (_SIDE + _GAP), 5)
                    figure.text(x / width, (y - 0.02) / height, words, va="top", fontsize=5, parse_math=False)
                if row == 0:
                    ax.set_title(_headings(result, columns)[column], fontsize=7, pad=3)
        if chart:
            _charts(figure, result, width)
    return figure


def _headings(result: Correspondence, columns: int) -> list[str]:
    names = ["picture", *result.parts]
    return names + ["random"] * (columns - len(names))


def _covered(result: Correspondence, random: int) -> list[list[NDArray[np.uint8]]]:
    """For each picture: itself, each part covered, and the first boxes of the first `random` draws."""
    extra = min(random, result.random_boxes.shape[0] * result.random_boxes.shape[1])
    draws = result.random_boxes.transpose(0, 1).flatten(0, 1)[:extra]  # one part's size after the other
    rows = []
    for n, image in enumerate(result.images[:_MOST]):
        boxes = [*result.boxes[:, n].tolist(), *draws[:, n].tolist()]
        covered = [image, *(_cover(image, box, result.policy.get("fill", "grey")) for box in boxes)]
        rows.append([result.as_photograph(x) for x in covered])
    return rows


def _cover(image: Tensor, box: list[int], fill: object) -> Tensor:
    top, left, bottom, right = box
    colour = image.new_zeros(len(image)) if fill == "grey" else image.new_tensor(fill)
    covered = image.clone()
    covered[:, top:bottom, left:right] = colour[:, None, None]
    return covered


def _charts(figure: Figure, result: Correspondence, width: float) -> None:
    count = len(result.layers)
    across = (width - _EDGE) / count
    top = max(float(v.max()) for v in (result.distances, result.random, result.one_place) if v.numel()) * 1.05 or 1.0
    for k, layer in enumerate(result.layers):
        ax = axes_at(figure, _EDGE + k * across + _AXIS - 0.1, _LEGEND + 0.22, across - _AXIS, _CHART)
        _points(ax, result, k)
        ax.set_title(f"Layer {layer or 'output'}", fontsize=7.5, pad=4)
        ax.set_ylabel("Δ (share of signs that differ)", labelpad=2)
        ax.set_xlim(-0.5, len(result.parts) - 0.5)
        ax.set_ylim(0, top)
        ax.set_xticks(range(len(result.parts)), list(result.parts))
        ax.tick_params(width=0.5, length=2, pad=2, labelsize=6.5)
        ax.grid(True, axis="y", color="#dddddd", linewidth=0.4)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    handles = [
        Line2D(
            [], [], marker="o", color=COLOURS[0], markersize=4, linewidth=1.0, label="part, mean ± deviation of pairs"
        )
    ]
    if result.random.shape[1]:
        handles += [
            Line2D([], [], marker="o", color=_GREY, markersize=2.5, linestyle="", label="random places, a draw each"),
            Line2D(
                [], [], marker="x", color=COLOURS[1], markersize=3, linestyle="", label="one random place, a draw each"
            ),
        ]
    where = (0.5, 0.04 / figure.get_figheight())
    figure.legend(
        handles=handles, loc="lower center", bbox_to_anchor=where, ncols=3, frameon=False, fontsize=6.5,
        handlelength=1.4, columnspacing=1.6, borderpad=0,
    )  # fmt: skip


def _points(ax: Axes, result: Correspondence, layer: int) -> None:
    """For each part its mean with the deviation of the pairs, and every draw of both random kinds beside it."""
    for p, part in enumerate(result.parts):
        mean, deviation = result.delta()[part][layer]
        ax.errorbar(p - 0.22, mean, deviation, color=COLOURS[0], marker="o", markersize=4, linewidth=1.0, capsize=2)
        kinds = ((result.random, 0.05, _GREY, "o", 2.5), (result.one_place, 0.28, COLOURS[1], "x", 3.0))
        for values, shift, colour, marker, size in kinds:
            draws = values[p, :, layer].mean(-1).numpy()
            spread = 0.08 * np.sin(np.arange(len(draws)) * 2.4)  # beside each other, the same every time
            ax.plot(
                p + shift + spread, draws, color=colour, marker=marker, markersize=size, linestyle="",
                markeredgewidth=0.6,
            )  # fmt: skip
