"""The sanity page: projections side by side, how alike they are by layer, and what that means in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from deconvviz.results.base import signed_pictures
from deconvviz.results.style import COLOURS, axes_at, headline, inches, new_figure, shorten, show, styled

if TYPE_CHECKING:
    from deconvviz.analyses.sanity.result import Sanity
    from deconvviz.analyses.sanity.words import Statement

_WIDTH, _EDGE, _GAP = 7.4, 0.09, 0.05  # inches
_HEAD, _LABEL, _CHART, _AXIS = 0.52, 0.3, 1.35, 0.76  # title; above panels; a chart; what stands under it
_BETWEEN = 0.5  # panels and charts: the legend
_LINE, _SIZE = 0.125, 6.5  # of the sentences
_MARKS = ("o", "s", "^", "D")


def draw(result: Sanity) -> Figure:
    """Draw `result` and return the figure.

    Projections are each on a contrast of their own: only their looks are compared. Shades behind the curves are the
    thresholds of the sentences.
    """
    count = result.examples.shape[1] + 1
    side = (_WIDTH - 2 * _EDGE - (count - 1) * _GAP) / count
    rows = len(result.examples)
    columns = [_lines([s for s in result.statements() if s.shows is shows]) for shows in (True, False)]
    words = (max(map(len, columns)) + 1.6) * _LINE
    height = _HEAD + _LABEL + rows * (side + _GAP) + _BETWEEN + _CHART + _AXIS + words + _EDGE
    with styled():
        figure = new_figure(_WIDTH, height)
        headline(figure, _EDGE, shorten(_title(result), _WIDTH - 2 * _EDGE, 8, "bold"), *_notes(result))
        top = height - _HEAD - _LABEL
        _pictures(figure, result, top, side)
        bottom = top - rows * (side + _GAP) - _BETWEEN - _CHART
        _charts(figure, result, bottom)
        for n, (title, lines) in enumerate(zip(("What this shows", "What this does not show"), columns, strict=True)):
            x = _EDGE + n * _WIDTH / 2
            _write(figure, x, bottom - _AXIS, title, lines)
    return figure


def _title(result: Sanity) -> str:
    return f"Can these projections be believed? {result.model_name}, {result.name}, {result.method}"


def _notes(result: Sanity) -> list[str]:
    pools = "1 max pool" if result.switches == 1 else f"{result.switches or 'no'} max pools"
    several = "1 unit" if len(result) == 1 else f"{len(result)} units"
    first = f"{several}, each at one place; {pools} on the way. {result.answer_in_words()}"
    second = f"compared with: {', '.join(result.companions)}"
    return [shorten(note, _WIDTH - 2 * _EDGE, 5.5) for note in (first, second)]


def _pictures(figure: Figure, result: Sanity, top: float, side: float) -> None:
    """A row for each unit that is shown: its part of the photograph, then its projections."""
    names = ("photograph", *result.example_names)
    photograph = result.photograph()
    for row, examples in enumerate(result.examples):
        upper, left, lower, right = result.boxes[row].tolist()
        y = top - row * (side + _GAP) - side
        drawn = signed_pictures(examples[:, :, upper:lower, left:right])
        for column, name in enumerate(names):
            x = _EDGE + column * (side + _GAP)
            ax = axes_at(figure, x, y, side, side)
            show(ax, photograph[upper:lower, left:right] if column == 0 else drawn[column - 1], "#888888")
            if row == 0:
                for n, line in enumerate(_fit(name, side, 5.5)[-2:][::-1]):
                    _text(figure, x + side / 2, top + 0.06 + 0.1 * n, line, ha="center", fontsize=5.5)
            if column == 0:
                ax.text(0.04, 0.05, f"unit {int(result.units[row])}", transform=ax.transAxes, va="bottom",
                        fontsize=5.5, color="white", bbox={"fc": "#000000aa", "ec": "none", "pad": 0.8})  # fmt: skip


def _charts(figure: Figure, result: Sanity, bottom: float) -> None:
    wide = (_WIDTH - 0.45 - 0.35 - 1.55 - 2 * _EDGE) / 2
    chance = torch.stack([result.unit_chance.nanmean(0), result.picture_chance.nanmean(0)])
    left = axes_at(figure, 0.4, bottom, wide, _CHART)
    _curves(left, result, result.cascading.nanmean(1), chance)
    left.set_title("random from the top down to here", fontsize=6.5, loc="left", pad=3)
    at = (0.4 / _WIDTH, (bottom + _CHART + 0.2) / figure.get_figheight())
    figure.legend(*left.get_legend_handles_labels(), loc="lower left", bbox_to_anchor=at, ncols=len(result.measures),
                  fontsize=5.5, frameon=False, handlelength=1.8, borderpad=0, borderaxespad=0)  # fmt: skip
    left.set_ylabel("alike, 1: the same", labelpad=1, fontsize=5.5)
    middle = axes_at(figure, 0.4 + wide + 0.25, bottom, wide, _CHART)
    _curves(middle, result, result.independent.nanmean(1), chance)
    middle.set_title("this layer alone random", fontsize=6.5, loc="left", pad=3)
    middle.set_yticklabels([])
    _bars(axes_at(figure, _WIDTH - 0.85 - _EDGE, bottom, 0.85, _CHART), result)


def _curves(ax: Axes, result: Sanity, curves: Tensor, chance: Tensor) -> None:
    """One line a measure against the layers; at the right what another unit, and another picture, come to."""
    names = [*result.layers, "another unit", "another picture"]
    count = len(result.layers)
    for m, measure in enumerate(result.measures):
        style: dict[str, Any] = {"color": COLOURS[m], "marker": _MARKS[m % len(_MARKS)], "ms": 2.2, "lw": 0.9}
        ax.plot(range(count), curves[:, m].tolist(), label=measure, **style)
        ax.plot([count + 0.3, count + 1.3], chance[:, m].tolist(), **{**style, "lw": 0, "mfc": "white"})
    _shades(ax.axhspan, result)
    ax.axvline(count - 0.35, color="#888888", lw=0.5)
    ax.set_xticks([*range(count), count + 0.3, count + 1.3], [shorten(n, 0.62, 5) for n in names], rotation=55,
                  ha="right", rotation_mode="anchor", fontsize=5)  # fmt: skip
    low = min(0.0, float(curves[:, :].nan_to_num(0).min()), float(chance.nan_to_num(0).min()))
    ax.set_ylim(low - 0.04, 1.04)
    ax.tick_params(length=2, pad=1.5, labelsize=5.5, axis="y")


def _bars(ax: Axes, result: Sanity) -> None:
    """The four mean |cosines|."""
    rows = (
        ("in other pictures", result.between_pictures),
        ("other units", result.between_units),
        ("other signal,\nthese switches", result.through_own_switches),
        ("this signal,\nother switches", result.through_other_switches),
    )
    for n, (_, value) in enumerate(rows):
        if value == value:
            ax.barh(n, value, height=0.6, color="#666666")
        ax.text(0.04 if value != value or value < 0.6 else value - 0.04, n, "–" if value != value else f"{value:.2f}",
                va="center", ha="left" if value != value or value < 0.6 else "right", fontsize=5.5,
                color="white" if value >= 0.6 else "black",
                bbox=None if value >= 0.6 else {"fc": "white", "ec": "none", "pad": 0.4, "alpha": 0.7})  # fmt: skip
    _shades(ax.axvspan, result)
    ax.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), yticks=range(len(rows)))
    ax.set_yticklabels([name for name, _ in rows], fontsize=5.5)
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=5.5)
    ax.tick_params(length=2, pad=1.5)
    ax.set_title("mean |cosine| with", fontsize=6.5, loc="right", pad=3)


def _shades(span: Any, result: Sanity) -> None:
    ends = (*result.thresholds, 1.0)
    for low, high, grey in zip(ends, ends[1:], ("#f3f3f3", "#e6e6e6", "#d6d6d6"), strict=False):
        span(low, high, color=grey, lw=0, zorder=0)


# Words ----------------------------------------------------------------------------------------------------------------


def _lines(said: Sequence[Statement]) -> list[tuple[str, bool]]:
    """The lines of some sentences, and whether each begins one."""
    room = _WIDTH / 2 - 2 * _EDGE - 0.3
    found: list[tuple[str, bool]] = []
    for one in said:
        found += [(line, n == 0) for n, line in enumerate(_fit(one.text, room, _SIZE))]
    return found or [("nothing that these checks could tell", True)]


def _fit(text: str, room: float, size: float) -> list[str]:
    """A text in lines no wider than `room` inches."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and inches(longer, size) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _write(figure: Figure, x: float, top: float, title: str, lines: Sequence[tuple[str, bool]]) -> None:
    _text(figure, x, top, title, weight="bold", fontsize=7)
    for n, (line, begins) in enumerate(lines):
        y = top - (n + 1.2) * _LINE
        if begins:
            _text(figure, x, y, "•", fontsize=_SIZE)
        _text(figure, x + 0.1, y, line, fontsize=_SIZE)


def _text(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    across, down = figure.get_size_inches()
    figure.text(x / across, y / down, text, **{"va": "center", "parse_math": False, **style})
