"""Results: what a field holds is read from its annotation; old files load; each is drawn by the file beside it."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

import deconvviz
from deconvviz import DeconvvizValueError, Result
from deconvviz.results.base import LayerResult, OnePictureResult, PictureResult


class Pair(NamedTuple):
    name: str
    sides: tuple[int, ...]
    note: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class SmallPart(LayerResult):
    values: Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Whole(OnePictureResult):
    parts: tuple[SmallPart, ...]
    pairs: tuple[Pair, ...]
    size: tuple[int, int]
    values: Tensor | None = None
    best: SmallPart | None = None
    sides: tuple[int, int] | None = None
    names: tuple[str | None, ...] = ()
    counts: dict[str, float] = dataclasses.field(default_factory=dict)


def part(seed: int = 0) -> SmallPart:
    values = torch.tensor([seed, float("nan")])
    return SmallPart("features.0", "conv1", values, model={"name": "net"})


def whole() -> Whole:
    pairs = (Pair("a", (1, 2), "b"), Pair("c", ()))
    image = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    return Whole((part(), part(1)), pairs, (3, 4), image=image, mean=(0.5,) * 3, names=("x", None), policy={"k": [1]})


def test_every_kind_of_field_comes_back(tmp_path: Path) -> None:
    made = dataclasses.replace(whole(), values=torch.ones(2), best=part(2), sides=(1, 2), counts={"a": 1.5})
    for result in (whole(), made):
        loaded = Whole.load(result.save(tmp_path / "a.npz"))
        assert loaded == result and loaded.pairs == result.pairs and loaded.parts == result.parts
        for name in ("size", "sides", "names", "mean", "values", "best", "counts", "policy", "labels"):
            assert name == "values" or getattr(loaded, name) == getattr(result, name)
        assert (loaded.values is None) == (result.values is None)
    assert whole() != made and whole() != dataclasses.replace(whole(), parts=(part(),))


def test_kinds_are_names_in_words(tmp_path: Path) -> None:
    assert (SmallPart.kind, Whole.kind) == ("small part", "whole")
    path = part().save(tmp_path / "a.npz")
    with pytest.raises(DeconvvizValueError, match="is not a saved whole"):
        Whole.load(path)


def test_a_file_without_fields_that_came_later_has_their_defaults(tmp_path: Path) -> None:
    facts = {"format": 1, "kind": "small part", "layer": "features.0", "alias": None}
    np.savez(tmp_path / "old.npz", facts=np.array(json.dumps(facts)), values=np.arange(3.0))
    loaded = SmallPart.load(tmp_path / "old.npz")
    assert loaded.values.tolist() == [0, 1, 2] and (loaded.alias, loaded.model, loaded.policy) == (None, {}, {})
    assert (loaded.name, loaded.model_name) == ("features.0", "model")


def subclasses(kind: type[Result]) -> set[type[Result]]:
    return {found for sub in kind.__subclasses__() for found in (sub, *subclasses(sub))}


def test_every_result_is_drawn_by_the_figure_beside_it() -> None:
    for name in deconvviz.__all__:
        getattr(deconvviz, name)
    kinds = [kind for kind in subclasses(Result) if kind.__module__.startswith("deconvviz.analyses")]
    assert len(kinds) > 12 and len({kind.kind for kind in kinds}) == len(kinds)
    for kind in kinds:
        room = kind.__module__.rpartition(".")[0]
        assert kind.__module__ == f"{room}.result"
        assert callable(getattr(importlib.import_module(f"{room}.figure"), kind.drawn_by))


def test_what_is_shared_is_said_once() -> None:
    """Provenance is given by name, so that a field of a result's own can come before it."""
    for kind in (Result, PictureResult, OnePictureResult):
        assert all(f.kw_only for f in dataclasses.fields(kind))


def test_a_repr_is_one_line_with_sizes() -> None:
    made = dataclasses.replace(whole(), values=torch.ones(2), best=part(2))
    assert repr(made) == "Whole(whole: image (3, 4, 5), values (2,), best SmallPart, 2 parts)"
    assert repr(part()) == "SmallPart(small part: values (2,))"


def test_every_public_result_shows_itself() -> None:
    kinds = [kind for name in deconvviz.__all__ if isinstance(kind := getattr(deconvviz, name), type)]
    results = [kind for kind in kinds if issubclass(kind, Result)]
    assert len(results) > 10
    for kind in results:
        # None of them has the `repr` of `dataclass`, with every number of every tensor.
        assert kind.__repr__ is Result.__repr__ and callable(kind._repr_html_) and callable(kind._repr_png_)
