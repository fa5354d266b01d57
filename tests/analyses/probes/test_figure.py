"""The probes' figure: lines through the accuracies, nothing cut or overlapping."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure

from deconvviz.analyses.probes.result import Probes
from deconvviz.results.style import styled

NOTE = (
    "The network was trained on these categories: the classifiers train on pictures that it has seen, and are tested "
    "on pictures that it has not."
)


def make(layers: int, counts: int, splits: int, note: str = NOTE) -> Probes:
    accuracy = torch.rand(layers, counts, splits, generator=torch.Generator().manual_seed(layers)).sort(1).values
    names = tuple(f"conv{k}" for k in range(1, layers + 1))
    counted = tuple(15 * k for k in range(1, counts + 1))
    return Probes(
        names, counted, accuracy, (9,) * layers, (9,) * (counts + 1), ("a",) * 101, note, model={"name": "zfnet"}
    )


@pytest.mark.parametrize("splits", [1, 4])
def test_lines_go_through_the_means_and_bars_are_the_deviation(splits: int) -> None:
    result = make(6, 2, splits)
    (ax,) = result.figure().axes
    assert len(ax.containers) == 2
    for p, bars in enumerate(ax.containers):
        line, _, spread = bars.lines  # type: ignore[attr-defined]
        assert np.allclose(line.get_ydata(), 100 * result.mean[:, p].numpy())
        if splits > 1:
            ends = np.array([path.vertices[:, 1] for path in spread[0].get_paths()])
            assert np.allclose((ends[:, 1] - ends[:, 0]) / 2, 100 * result.spread[:, p].numpy(), atol=1e-3)
        else:
            assert not spread
    assert [t.get_text() for t in ax.get_xticklabels()] == list(result.layers)
    chance = [line for line in ax.lines if np.allclose(line.get_ydata(), 100 / 101)]
    assert len(chance) == 1


@pytest.mark.parametrize(
    "result", [make(6, 2, 1), make(1, 1, 2), make(12, 3, 3, ""), make(4, 5, 1), make(3, 2, 1, "Short.")]
)
def test_words_lie_inside_and_apart(
    result: Probes, drawn: Callable[[Figure], RendererAgg], inside_and_apart: Callable[..., None]
) -> None:
    figure = result.figure()
    renderer = drawn(figure)
    with styled():
        boxes = [text.get_window_extent(renderer) for text in figure.texts]
        ax = figure.axes[0]
        legend = ax.get_legend()
        assert legend is not None
        key = legend.get_window_extent(renderer)
        values = [t.get_window_extent(renderer) for t in ax.texts]
        assert not any(key.overlaps(v) for v in values) and not key.overlaps(ax.bbox)
        boxes.append(ax.get_tightbbox(renderer))
    inside_and_apart(figure, boxes)
