"""What the pages are made from: a network, and what else was given."""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import torch

from deconvviz.analyses.features import OUTPUT, features
from deconvviz.analyses.probes.compute import SHARE, touched_pictures
from deconvviz.data.listing import listing
from deconvviz.data.pictures import in_hash_order
from deconvviz.errors import DeconvvizValueError
from deconvviz.models import registry
from deconvviz.network.network import Network
from deconvviz.paper.pages import demo_pictures, parts_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deconvviz.results.base import Result
    from deconvviz.results.table import Table

T = TypeVar("T")
USES = ("data", "run", "store", "parts", "image")


class Example(NamedTuple):
    """A picture and its class: the index in the network's output, and its name (None: not known)."""

    path: Path
    target: int | None = None
    label: str | None = None


@dataclass(frozen=True)
class Made:
    """A page: its figure, its caption (plain text), the results behind it by name, and its table if it is one."""

    figure: Figure
    caption: str
    results: dict[str, Result] = field(default_factory=dict)
    table: Table | None = None


@dataclass(frozen=True)
class Sources:
    """`load` gives the network once it is needed. `data`: a folder of categories; `run`: of a training run; `store`:
    a scan's file; `images`: pictures to use instead of some chosen from the data; `parts`: a JSON file with boxes of
    parts of pictures in the data; `progress` is called with the steps done and in all, for each computation anew."""

    load: Callable[[], Network]
    data: Path | None = None
    run: Path | None = None
    store: Path | None = None
    images: tuple[Path, ...] = ()
    parts: Path | None = None
    progress: Callable[[int, int], None] | None = None
    _made: dict[str, Any] = field(default_factory=dict, repr=False)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Compute what several pages are drawn from only once."""
        if name not in self._made:
            self._made[name] = make()
        return cast(T, self._made[name])

    @functools.cached_property
    def net(self) -> Network:
        """The network."""
        return self.load()

    @property
    def given(self) -> set[str]:
        """The names of what was given."""
        paths = {
            "data": self.data, "run": self.run, "store": self.store, "parts": parts_of(self.parts, self.data),
            "image": self.images or demo_pictures(),
        }  # fmt: skip
        return {name for name, value in paths.items() if value}

    @functools.cached_property
    def caltech(self) -> bool:
        """Whether the categories of the data are those of Caltech-101."""
        known = set(registry.card("zfnet").labels)
        return self.data is not None and set(listing(self.data).labels) == known

    def identity(self, uses: Sequence[str] = USES) -> dict[str, str]:
        """What tells these sources from others: a page made from equal ones need not be made again.

        `uses` are the sources that count. A run that has gone on, or a file that has changed, is another one.
        """
        facts = self.net.facts()
        found: dict[str, str] = {key: facts[key] for key in ("name", "sha256", "deconvviz") if key in facts}
        given = {"data": self.data, "run": self.run, "store": self.store, "parts": self.parts}
        for name, path in given.items():
            if path is not None and name in uses:
                found[name] = _state(path)
        if self.images and "image" in uses:
            found["image"] = os.pathsep.join(_state(path) for path in self.images)
        return found

    def examples(self, count: int) -> list[Example]:
        """Return up to `count` pictures: those given; or from the data, untouched ones that the network gets right; or,
        without data, those of the repository.

        Of each category the first untouched picture (in the order of a hash) is looked at; of those that are
        right, `count` are taken at equal steps through the alphabet of categories.

        Raises `DeconvvizValueError` without pictures and data, or if the network gets none right.
        """
        if self.images or self.data is None:
            pictures = self.images or demo_pictures()
            if not pictures:
                raise DeconvvizValueError("no pictures were given, and no data to choose them from")
            return [self._example(path) for path in pictures[:count]]
        right = self._right
        if not right:
            raise DeconvvizValueError(
                f"{self.net.card.name} recognises none of the categories of {self.data}; give pictures"
            )
        step = max(len(right) / count, 1.0)
        return [right[int((k + 0.5) * step)] for k in range(min(count, len(right)))]

    def _example(self, path: Path) -> Example:
        """A picture; its class is the folder it is in, if the network knows one of that name."""
        label = path.resolve().parent.name
        labels = list(self.net.card.labels)
        return Example(path, labels.index(label), label) if label in labels else Example(path)

    @functools.cached_property
    def _right(self) -> list[Example]:
        """One untouched picture of each category, where the network's first guess is right."""
        labels = list(self.net.card.labels)
        found = [Example(path, labels.index(name), name) for name, path in self.firsts.items() if name in labels]
        if not found:
            return []
        guesses = features(self.net, self._inputs([e.path for e in found]), [OUTPUT])[OUTPUT].argmax(1).tolist()
        return [example for example, guess in zip(found, guesses, strict=True) if guess == example.target]

    @functools.cached_property
    def untouched(self) -> list[tuple[str, Path]]:
        """(category, file) of pictures of the data that had no part in the network's training, as far as its weights
        tell: of each category in the order of a hash, at most an eighth.

        Raises `DeconvvizValueError` for a folder without categories.
        """
        assert self.data is not None
        found = listing(self.data)
        if not found.labels:
            raise DeconvvizValueError(f"{self.data} holds no folders of pictures, one for each category")
        touched = touched_pictures(self.net, found)
        chosen: list[tuple[str, Path]] = []
        for pictures in in_hash_order(found):
            free = [i for i in pictures if touched is None or not touched[i]]
            files = [found.pictures[i] for i in free[: math.ceil(SHARE * len(pictures))]]
            chosen += [(found.labels[found.classes[pictures[0]]], file) for file in files if isinstance(file, Path)]
        return chosen

    @property
    def firsts(self) -> dict[str, Path]:
        """The first untouched picture of each category."""
        firsts: dict[str, Path] = {}
        for label, path in self.untouched:
            firsts.setdefault(label, path)
        return firsts

    @property
    def standing(self) -> str:
        """What the pictures of `untouched` are to the network, in words."""
        if self.net.seen is None:
            return "pictures of the data; whether the network was trained on them is not known"
        return "pictures that had no part in the network's training"

    def _inputs(self, paths: Sequence[Path]) -> torch.Tensor:
        return torch.cat([self.net.preprocess(path) for path in paths])


def _state(path: Path) -> str:
    """Where a file or folder is, with the size and the time of change of the file, or of those of a run."""
    files = [path] if path.is_file() else [path / "metrics.jsonl", *sorted(path.glob("epoch*.safetensors"))]
    there = [(file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files if file.is_file()]
    return json.dumps([str(path.resolve()), there])
