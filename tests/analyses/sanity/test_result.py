"""The result of `sanity`: its sentences by the thresholds, saving and loading, its figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from deconvviz.analyses.sanity.measures import MEASURES
from deconvviz.analyses.sanity.result import Sanity
from deconvviz.analyses.sanity.words import APART, RELATED, SAME


def made(count: int = 3, layers: int = 4, **changed: float) -> Sanity:
    """A result with numbers of one's own: `pictures`, `units`, `signal`, `switches`, and `random`, `magnitudes` at the
    end of the cascade."""
    g = torch.Generator().manual_seed(0)
    names = (*(f"stage{n}.block{n}.conv" for n in range(layers, 0, -1)),)
    cascading = torch.linspace(0.9, changed.get("random", 0.1), layers, dtype=torch.float64)
    table = cascading[:, None, None].repeat(1, count, len(MEASURES))
    table[-1, :, 1] = changed.get("magnitudes", 0.1)
    each = {
        name: torch.full((count,), changed.get(name, 0.1), dtype=torch.float64)
        for name in ("pictures", "units", "signal", "switches")
    }
    return Sanity(
        "features.5", "conv5", torch.arange(count), torch.zeros(count, 2).long(), torch.ones(count),
        torch.tensor([[0, 0, 20, 30]] * count), names, MEASURES, table, table.clone(), table[0], table[-1],
        each["pictures"], each["units"], each["signal"], each["switches"], int(changed.get("pools", 2)),
        ("one", "two"), torch.randn(2, 5, 3, 32, 40, generator=g), ("a", "b", "c", "another unit", "this signal, its"),
        image=torch.rand(3, 32, 40, generator=g), policy={"method": "deconvnet"}, model={"name": "net"},
    )  # fmt: skip


BELOW = 1e-3
CASES = (
    ("pictures", "picture", SAME, False, "Anything of this picture"),
    ("pictures", "picture", SAME - BELOW, False, "This picture rather than another"),
    ("pictures", "picture", RELATED - BELOW, True, "in part"),
    ("pictures", "picture", APART - BELOW, True, "This picture: others give something else"),
    ("units", "unit", SAME, False, "all units give the same"),
    ("units", "unit", RELATED, False, "Clearly which unit"),
    ("units", "unit", APART, True, "in part"),
    ("units", "unit", 0.0, True, "The unit: others give something else"),
    ("random", "weights", RELATED, False, "random ones give much the same"),
    ("random", "weights", RELATED - BELOW, False, "The network's weights alone"),
    ("random", "weights", APART - BELOW, True, "little is left once they are random down to stage1.block1.conv"),
    ("magnitudes", "places", RELATED, False, "is strong there, too"),
    ("magnitudes", "places", APART, False, "is strong there in part"),
    ("magnitudes", "places", 0.0, True, "is strong elsewhere"),
    ("switches", "switches", SAME, False, "leave no mark"),
    ("signal", "switches", RELATED, False, "What the layer sees, for the most part"),
    ("signal", "switches", 0.3, True, "More of its switches"),
    ("switches", "switches", 0.3, True, "More of the layer's map"),
)


@pytest.mark.parametrize("number, about, value, shows, words", CASES)
def test_sentences_by_thresholds(number: str, about: str, value: float, shows: bool, words: str) -> None:
    (said,) = [one for one in made(**{number: value}).statements() if one.about == about]
    assert said.shows == shows and words in said.text and f"{value:.2f}" in said.text


def test_what_cannot_be_said_is_not_said() -> None:
    nan = float("nan")
    assert made(pictures=nan, units=nan, random=nan, magnitudes=nan, switches=nan).statements() == ()


def test_saves_and_loads(tmp_path: Path) -> None:
    result = made(pictures=float("nan"))
    assert Sanity.load(result.save(tmp_path / "s.npz")) == result
    assert result.facts()["between_pictures"] is None and len(result.facts()["statements"]) == 4  # type: ignore[arg-type]
    assert result.table().rows[-1][0] == "another picture" and len(result.table().rows) == 6


@pytest.mark.parametrize("count, layers", [(3, 4), (1, 1), (2, 16)])
def test_nothing_overlaps_or_is_cut(count: int, layers: int, words_apart: Callable[[Figure], None]) -> None:
    result = made(count, layers, magnitudes=0.8, random=0.7, units=0.95)
    words_apart(dataclasses.replace(result, examples=result.examples[:count]).figure())
