"""The figure of `compare`: one scale for all maps, curves from their beginning, nothing over anything else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deconvviz.analyses.comparison.figure import draw
from deconvviz.analyses.comparison.result import Comparison, Comparisons
from deconvviz.errors import UnknownNameError

Make, Several = Callable[..., Comparison], Callable[[], Comparisons]


def maps(figure: Figure) -> list[Axes]:
    """The panels of the methods, without the picture."""
    return [ax for ax in figure.axes if ax.images][1:]


def curves(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.get_title()]


def test_all_maps_are_on_one_scale(make: Make) -> None:
    """Full colour is six times an even share: of a map that is one everywhere but in one pixel."""
    one = torch.ones(30, 40)
    one[3, 5] = 12
    result = make(maps=torch.stack([one, 1000 * one, -one, torch.zeros(30, 40)]))
    even = float(one.mean())
    shown = [ax.images[0].get_array() for ax in maps(draw(result))]
    for values, sign in zip(shown[:3], (1, 1, -1), strict=True):
        assert values is not None
        assert values[3, 5] == pytest.approx(sign * 12 / even / 6) and values[0, 0] == pytest.approx(sign / even / 6)
    assert not np.any(shown[3])
    assert all(ax.images[0].get_clim() == (-1, 1) for ax in maps(draw(result)))


def test_a_scale_for_each_panel_says_its_own(make: Make) -> None:
    figure = draw(make(), scale="panel")
    assert sum(text.get_text().startswith("full colour: ±") for text in figure.texts) == 4
    with pytest.raises(UnknownNameError, match="did you mean 'share'"):
        draw(make(), scale="shared")


def test_of_a_unit_only_its_field_counts(make: Make) -> None:
    one = torch.full((30, 40), 5.0)
    one[:10, :10] = 1
    result = make(maps=one.expand(4, -1, -1), mode="unit", place=(2, 2), box=(0, 0, 10, 10))
    figure = draw(result)
    (frame,) = maps(figure)[0].patches
    assert frame.get_extents().width > 0 and maps(figure)[0].images[0].get_array()[0, 0] == pytest.approx(1 / 6)  # type: ignore[index]
    assert curves(figure)[0].get_xlabel() == "% of the receptive field deleted"


def test_curves_begin_with_the_picture_and_the_blurred_one(make: Make) -> None:
    result = make()
    lost, won = curves(draw(result))
    for m in range(4):
        assert lost.lines[m].get_ydata() == pytest.approx([0.9, *result.deletion[m].tolist()])
        assert won.lines[m].get_ydata() == pytest.approx([0.1, *result.insertion[m].tolist()])
        assert lost.lines[m].get_xdata() == pytest.approx(np.linspace(0, 100, 9))
    assert len({line.get_color() for line in lost.lines}) == 4


def test_several_pictures_give_means_with_bands(several: Several) -> None:
    figure = draw(several())
    lost, _ = curves(figure)
    mean = several().deletion.mean(0)
    assert lost.lines[0].get_ydata() == pytest.approx([0.9, *mean[0].tolist()]) and len(lost.collections) == 4
    assert not [ax for ax in figure.axes if ax.images]


def many(make: Make) -> Comparison:
    names = tuple(f"a_$long$_method {n}" for n in range(11))
    curve = torch.linspace(0, 1, 8).expand(11, -1)
    return make(
        methods=names, maps=torch.randn(11, 30, 40), deletion=curve, insertion=curve, kinds=("contribution",) * 11,
        says=names, sensitivity_n=None, infidelity=None, sizes=(),
    )  # fmt: skip


def single(make: Make) -> Comparison:
    nothing: dict[str, Any] = {name: torch.zeros(1, 8) for name in ("deletion", "insertion")}
    return dataclasses.replace(
        many(make), methods=("edges",), maps=torch.zeros(1, 30, 40), kinds=("baseline",), says=("a",), **nothing
    )


CASES: dict[str, Callable[[Make], Comparison | Comparisons]] = {
    "one": lambda make: make(),
    "panel": lambda make: make(),
    "many": many,
    "several": lambda make: Comparisons((make(0), make(1)), ("a", "b")),
    "several, many": lambda make: Comparisons((many(make), many(make)), ("a", "b")),
    "tall": lambda make: make(maps=torch.randn(4, 90, 30), image=torch.rand(3, 90, 30), box=(0, 0, 90, 30)),
    "grey, unit": lambda make: make(mode="unit", place=(1, 2), box=(2, 3, 9, 11), image=torch.rand(1, 30, 40)),
    "one method": single,
}


@pytest.mark.parametrize("case", CASES)
def test_words_are_apart(case: str, make: Make, words_apart: Callable[[Figure], None]) -> None:
    words_apart(draw(CASES[case](make), **({"scale": "panel"} if case == "panel" else {})))
