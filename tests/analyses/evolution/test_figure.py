"""The evolution's figures: every panel in its place, jumps marked, curves through the numbers, nothing cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from deconvviz.analyses.evolution.result import Evolution, EvolutionLayer
from deconvviz.errors import DeconvvizValueError
from deconvviz.results.base import signed_pictures
from deconvviz.results.style import styled


def layer(name: str, epochs: int, units: int, size: int, channels: int = 3) -> EvolutionLayer:
    generator = torch.Generator().manual_seed(size)
    pixels = torch.randn(epochs, units, channels, size, size, generator=generator)
    pixels *= torch.linspace(1, 40, epochs).view(-1, 1, 1, 1, 1)
    pictures = torch.randint(0, 3, (epochs, units), generator=generator)
    likeness = torch.rand(epochs, 9, generator=generator).sort(0).values
    return EvolutionLayer(
        f"features.{name}", name, torch.arange(units) * 37, torch.rand(epochs, units), pictures,
        torch.zeros(epochs, units, 2), torch.zeros(epochs, units, 4), pixels, pixels, likeness, likeness[:, :units],
    )  # fmt: skip


def make(layers: int = 5, epochs: tuple[int, ...] = (1, 2, 5, 10, 20, 30, 40, 64), units: int = 3) -> Evolution:
    parts = tuple(layer(f"conv{k}", len(epochs), units, 4 * k + 3) for k in range(1, layers + 1))
    return Evolution(epochs, parts, ("a", "b", "c"), policy={"method": "deconvnet"}, model={"name": "zfnet"})


def panels(figure: Figure) -> list[list[AxesImage]]:
    """The pictures of each layer."""
    return [list(ax.images) for ax in figure.axes]


@pytest.mark.parametrize("scale", ["panel", "unit", "layer"])
def test_each_panel_is_one_projection_by_one_rule_of_contrast(scale: str) -> None:
    result = make(2, (1, 2, 5), 2)
    shown = [np.asarray(image.get_array()) for block in panels(result.figure(scale=scale)) for image in block]
    assert len(shown) == 2 * 3 * 2
    for n, part in enumerate(result.layers):
        for e in range(3):
            for k in range(2):
                together = {
                    "panel": part.pixels[e, k][None], "unit": part.pixels[:, k], "layer": part.pixels.flatten(0, 1),
                }[scale]  # fmt: skip
                place = {"panel": 0, "unit": e, "layer": 2 * e + k}[scale]
                expected = signed_pictures(together, 98, "shared")[place]
                assert np.array_equal(shown[6 * n + 2 * e + k], expected)


def test_rows_are_units_columns_are_epochs_and_jumps_are_marked() -> None:
    result = make(1)
    part = result.layers[0]
    figure = result.figure()
    corners = [(image.get_extent()[0], image.get_extent()[3]) for image in panels(figure)[0]]
    assert corners == [(e, k) for e in range(8) for k in range(3)]
    (marks,) = figure.axes[0].collections
    marked = sorted([round(path.vertices[0, 0]), int(path.vertices[0, 1])] for path in marks.get_paths())
    assert marked == part.jumps.nonzero().tolist() and marked
    still = dataclasses.replace(part, pictures=torch.zeros_like(part.pictures))
    figure = dataclasses.replace(result, layers=(still,)).figure()
    assert not figure.axes[0].collections[0].get_paths()
    assert not any("Orange" in text.get_text() for text in figure.texts)


@pytest.mark.parametrize("made", [make(), make(1, (1,), 1), make(2, (1, 2), 6), make(4, units=2)])
def test_words_lie_inside_and_apart(made: Evolution, words_apart: Callable[[Figure], None]) -> None:
    figure = made.figure()
    words_apart(figure)
    areas = [ax.bbox for ax in figure.axes]
    assert not any(a.overlaps(b) for i, a in enumerate(areas) for b in areas[i + 1 :])


@pytest.mark.parametrize("made", [make(), make(1, (0, 1, 2), 2), make(3, (7,), 2)])
def test_curves_go_through_the_similarities_and_name_when_a_layer_settles(
    made: Evolution, drawn: Callable[[Figure], RendererAgg]
) -> None:
    figure = made.figure("convergence", level=0.8)
    settled = made.settled(0.8)
    for ax, measure in zip(figure.axes, ("features", "projections"), strict=True):
        lines = [line for line in ax.lines if len(line.get_xdata()) == len(made.epochs) and line.get_marker() == "o"]
        for line, part in zip(lines, made.layers, strict=True):
            assert tuple(line.get_xdata()) == made.epochs
            assert np.allclose(line.get_ydata(), part.similarity(measure).numpy())
    legend = figure.axes[0].get_legend()
    assert legend is not None
    said = [t.get_text() for t in legend.get_texts()]
    assert said == [f"{name}: ≥ 0.8 from epoch {epoch}" for name, epoch in settled.items()]
    renderer = drawn(figure)
    with styled():
        areas = [ax.get_tightbbox(renderer) for ax in figure.axes]
        ticks = [t.get_window_extent(renderer) for t in figure.axes[0].get_xticklabels() if t.get_text()]
    assert all(a.x0 >= 0 and a.y0 >= 0 and a.x1 <= figure.bbox.x1 and a.y1 <= figure.bbox.y1 for a in areas)
    assert not any(a.overlaps(b) for n, a in enumerate(ticks) for b in ticks[n + 1 :])


def test_an_unknown_scale_is_named() -> None:
    with pytest.raises(DeconvvizValueError, match="'panel', 'unit', 'layer'"):
        make(1, (1,), 1).figure(scale="all")
