"""Comparisons made by hand, for what is saved and drawn of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch

from deconvviz.analyses.comparison.result import Comparison, Comparisons


@pytest.fixture
def make() -> Callable[..., Comparison]:
    """Makes a comparison of four methods, with other fields where they are given."""
    return _make


@pytest.fixture
def several() -> Callable[[], Comparisons]:
    """Makes three of them."""
    return _several


def _make(seed: int = 0, mode: str = "class", **changes: object) -> Comparison:
    g = torch.Generator().manual_seed(seed)
    names = ("guided", "grad-cam", "edges", "random")
    maps = torch.randn(4, 30, 40, generator=g)
    maps[1:3] = maps[1:3].abs()
    found = Comparison(
        names, maps, torch.rand(4, 8, generator=g), torch.rand(4, 8, generator=g), 0.9, 0.1, 5.5, 1, mode,
        ("sensitivity", "contribution", "baseline", "baseline"), ("a", "b", "c", "d"), (0, 0, 30, 40), "features.29",
        "conv5", sizes=(0.1, 0.5), sensitivity_n=torch.tensor([[0.5, math.nan], [0.1, 0.3], [0, 0.2], [-0.1, 0.1]]),
        infidelity=torch.tensor([0.5, 0.25, 1.0, 0.75]), image=torch.rand(3, 30, 40, generator=g),
        labels=("cat", "a $dollar_dog"), policy={"steps": 8}, model={"name": "zfnet"},
    )  # fmt: skip
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]


def _several() -> Comparisons:
    return Comparisons((_make(0), _make(1), _make(2)), ("a.jpg", "b.jpg", "c.jpg"), model={"name": "zfnet"})
