"""Two scanned networks of one shape, unit by unit: the same numbers side by side, and the best partner of each unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from deconvviz.atlas.contents import AtlasLayer, AtlasUnit, Contents, printable
from deconvviz.atlas.plates import Plates
from deconvviz.atlas.similar import Matrix
from deconvviz.errors import AtlasError


@dataclass(frozen=True)
class Match:
    """A unit of the second network beside one of the first.

    `shared` are pictures that both have among their strongest, of the `most` that they could share; `looks` is the
    cosine of their mean projections and crops.
    """

    unit: AtlasUnit
    shared: int
    most: int
    looks: float


@dataclass(frozen=True)
class UnitPair:
    """A unit of the first network, the one of its number in the second, and the one that is most like it there.

    `alike` (0..1 and a little) is the share of pictures in common, of equal ones the more similar looks first; without
    common pictures the looks alone.
    """

    unit: AtlasUnit
    same: Match
    partner: Match | None
    alike: float

    @property
    def moved(self) -> bool:
        """Whether another number is more like it than its own."""
        return self.partner is not None and self.partner.unit.number != self.unit.number


@dataclass(frozen=True)
class ComparedLayer:
    """A layer that both have; `number` is its place among them, from 1."""

    number: int
    first: Plates
    second: Plates
    pairs: Sequence[UnitPair]

    @property
    def name(self) -> str:
        """The name that pages show."""
        return self.first.layer.name

    @property
    def layer(self) -> AtlasLayer:
        """The layer of the first network."""
        return self.first.layer

    @cached_property
    def alive(self) -> list[UnitPair]:
        """The pairs of which both fire."""
        return [p for p in self.pairs if not p.unit.dead and not p.same.unit.dead]

    @property
    def moved(self) -> int:
        """How many units have their best partner at another number."""
        return sum(pair.moved for pair in self.pairs)

    @property
    def shared(self) -> float:
        """The share of pictures that units of one number have in common, on average over those alive."""
        shares = [pair.same.shared / max(pair.same.most, 1) for pair in self.alive]
        return float(np.mean(shares)) if shares else 0.0

    @property
    def looks(self) -> float:
        """The cosine of the looks of units of one number, on average over those alive."""
        return float(np.mean([pair.same.looks for pair in self.alive])) if self.alive else 0.0


@dataclass(frozen=True)
class Comparison:
    """Two atlases side by side; `common` is the number of pictures that both show, by path, 0 where looks decide."""

    first: Contents
    second: Contents
    names: tuple[str, str]
    layers: Sequence[ComparedLayer]
    common: int

    @property
    def model(self) -> str:
        """What the pages call it."""
        if self.first.model == self.second.model:
            return f"{self.first.model}, twice"
        return f"{self.first.model} and {self.second.model}"

    @property
    def measure(self) -> str:
        """What `alike` means, in words."""
        if self.common:
            return "the pictures that two units have in common among their strongest; of equal ones, by looks"
        return "looks, since the two were scanned over other pictures"


def compared(first: Contents, second: Contents, plates: tuple[Sequence[Plates], Sequence[Plates]]) -> Comparison:
    """Compare two atlases layer by layer. Raises `AtlasError` if they have no layer of one name and size in common."""
    couples = [(one, other) for one in plates[0] for other in plates[1] if _same_shape(one.layer, other.layer)]
    if not couples:
        told = [", ".join(f"{x.name} ({len(x.units)})" for x in c.layers) for c in (first, second)]
        raise AtlasError(
            "the two networks have no layer of one name with as many units: the first has "
            f"{told[0]}; the second {told[1]}"
        )
    paths = [
        {p.stored.path: p.number for p in c.pictures.values() if p.stored.path is not None} for c in (first, second)
    ]
    common = {path: n for n, path in enumerate(sorted(paths[0].keys() & paths[1].keys()))}
    layers = [
        ComparedLayer(n, one, other, _pairs(one, other, _shared(first, second, (one, other), common)))
        for n, (one, other) in enumerate(couples, 1)
    ]
    return Comparison(first, second, _names(first, second), layers, len(common))


def _same_shape(one: AtlasLayer, other: AtlasLayer) -> bool:
    named = one.stored.name == other.stored.name or one.stored.title == other.stored.title
    return named and len(one.units) == len(other.units)


def _names(first: Contents, second: Contents) -> tuple[str, str]:
    """What tells the two apart, in words as short as can be."""
    facts = [contents.facts["model"] for contents in (first, second)]
    for told in (lambda f: f["name"], _weights, lambda f: f"weights {f['sha256'][:8]}"):
        a, b = (printable(str(told(fact))) for fact in facts)
        if a != b:
            return a, b
    return "the first", "the second"


def _weights(model: dict[str, Any]) -> str:
    """Weights by their file or, if they come from none, the first word of what is said of them."""
    source, _, detail = str(model["weights"]).partition(": ")
    return detail if source == "file" and detail else source


def _shared(first: Contents, second: Contents, both: tuple[Plates, Plates], common: dict[str, int]) -> Matrix:
    """How many pictures every unit of the first has in common with every unit of the second, (U, U)."""
    marks = []
    for contents, plates in zip((first, second), both, strict=True):
        mark = np.zeros((len(plates.layer.units), len(common)), np.float32)
        for unit in plates.layer.units:
            for place in unit.places:
                at = common.get(contents.pictures[place.picture].stored.path or "")
                if at is not None:
                    mark[unit.number, at] = 1
        marks.append(mark)
    table: Matrix = (marks[0] @ marks[1].T).astype(np.float64)
    return table


def _pairs(one: Plates, other: Plates, shared: Matrix) -> list[UnitPair]:
    # Rounded, so that the order does not hang on the last bit of a matrix product.
    looks = np.round(one.descriptors @ other.descriptors.T, 6)
    alive = np.array([not unit.dead for unit in other.layer.units])
    counts = [[len({p.picture for p in unit.places}) for unit in x.layer.units] for x in (one, other)]
    found = []
    for unit in one.layer.units:
        n = unit.number

        def match(m: int, n: int = n) -> Match:
            most = min(counts[0][n], counts[1][m])
            return Match(other.layer.units[m], int(shared[n, m]), most, float(looks[n, m]))

        best = None
        if not unit.dead and alive.any():
            rank = np.where(alive, shared[n] + 0.4 * looks[n], -np.inf)  # looks are less than one picture
            best = match(int(np.argmax(rank)))
            if rank[n] == rank.max():
                best = match(n)
        same = match(n)
        found.append(UnitPair(unit, same, best, _alike(unit, same, bool(shared.any()))))
    return found


def _alike(unit: AtlasUnit, same: Match, by_pictures: bool) -> float:
    if unit.dead or same.unit.dead:
        return 1.0 if unit.dead and same.unit.dead else 0.0
    if not by_pictures:
        return same.looks
    return same.shared / max(same.most, 1) + 0.01 * same.looks
