"""What units do to the classes, as pages show it: of each unit the classes it speaks for and against, and of each class
the units that speak for it most."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deconvviz.atlas.contents import AtlasLayer, AtlasPicture, Contents, hashed, printable

# Classes that a unit's page shows on each side, and units that a class's page shows of each layer.
CLASSES = 5
UNITS = 8
# So many pictures, evenly from all groups, are asked what adds to their class.
PICTURES = 200

Ranked = list[tuple[int, float]]  # classes or units with what is added to a logit, the most first
Table = NDArray[np.float64]  # (classes, maps), NaN where nothing is known of a class


@dataclass(frozen=True)
class LayerEffects:
    """What the units of one layer add to the logits of classes, by their numbers.

    `direct`: on average over all pictures, exactly; else over the pictures that the network takes for the class, to
    first order.
    """

    direct: bool
    speaks_for: Sequence[Ranked]
    against: Sequence[Ranked]
    drivers: Mapping[int, Ranked]


@dataclass(frozen=True)
class Effects:
    """Those of all layers by the number in the store, the names of the classes, and how many pictures were asked.

    `counts` says how many of these the network takes for each class.
    """

    layers: Mapping[int, LayerEffects]
    counts: Mapping[int, int]
    names: Sequence[str]
    pictures: int

    def name(self, number: int) -> str:
        """A class as pages name it."""
        return self.names[number] if number < len(self.names) else f"class {number}"

    def number(self, name: str) -> int | None:
        """The class of a name, as folders write it: `stop_sign` is "stop sign"."""
        same = [n for n, known in enumerate(self.names) if _plain(known) == _plain(name)]
        return same[0] if same else None


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ").strip()


def asked(contents: Contents) -> list[AtlasPicture]:
    """The pictures that are asked: as many of every group, as evenly from all of it as they come."""
    each = -(-PICTURES // max(len(contents.groups), 1))
    found = []
    for group in contents.groups:
        count = min(each, len(group.pictures))
        found += [group.pictures[n * len(group.pictures) // count] for n in range(count)]
    return found[:PICTURES] if len(contents.groups) <= PICTURES else found[:: -(-len(found) // PICTURES)]


def key_of(contents: Contents, pictures: Iterable[AtlasPicture]) -> str:
    """What all of it depends on, as ten letters."""
    facts = contents.facts
    layers = [[x.stored.name, [unit.mean for unit in x.units]] for x in contents.layers]
    paths = [repr(picture.stored.path) for picture in pictures]
    return hashed([CLASSES, UNITS, facts["model"]["sha256"], facts["preprocessing"], layers, paths])


def direct_table(layer: AtlasLayer, weights: Table) -> Table:
    """What each unit adds to each logit on the mean of all pictures, from derivatives by its mean activation."""
    table: Table = weights * np.nan_to_num(np.array([unit.mean for unit in layer.units]))
    return table


class MeanShares:
    """Means of shares (maps,) by class."""

    def __init__(self) -> None:
        self._sums: dict[int, Table] = {}
        self.counts: dict[int, int] = {}

    def add(self, number: int, share: Table) -> None:
        """One picture of a class."""
        self._sums[number] = self._sums.get(number, 0) + share
        self.counts[number] = self.counts.get(number, 0) + 1

    def table(self) -> Table | None:
        """(classes, maps), None if there was no picture."""
        if not self._sums:
            return None
        known = next(iter(self._sums.values()))
        table = np.full((max(self._sums) + 1, len(known)), np.nan)
        for number, total in self._sums.items():
            table[number] = total / self.counts[number]
        return table


def ranked(table: Table, direct: bool) -> LayerEffects:
    """The strongest effects of each unit and on each class; those that are zero are none."""
    drivers = {c: _best(row, UNITS) for c, row in enumerate(table) if np.isfinite(row).all()}
    columns = table.T
    return LayerEffects(
        direct,
        [_best(column, CLASSES) for column in columns],
        [[(c, -v) for c, v in _best(-column, CLASSES)] for column in columns],
        {c: found for c, found in drivers.items() if found},
    )


def _best(values: Table, count: int) -> Ranked:
    """The largest values above zero, the largest first, ties by number, with four digits."""
    known = np.where(np.isfinite(values), values, -1)
    order = np.argsort(-known, kind="stable")[:count]
    return [(int(n), float(f"{known[n]:.4g}")) for n in order if known[n] > 0]


def to_json(layers: Mapping[int, LayerEffects], counts: Mapping[int, int]) -> str:
    """As a file of the site keeps it."""
    parts = {
        str(number): {
            "direct": x.direct, "for": x.speaks_for, "against": x.against,
            "drivers": {str(c): found for c, found in x.drivers.items()},
        }
        for number, x in layers.items()
    }  # fmt: skip
    pictures = {str(c): count for c, count in sorted(counts.items())}
    return json.dumps({"pictures": pictures, "layers": parts}, separators=(",", ":")) + "\n"


def from_json(text: str) -> tuple[dict[int, LayerEffects], dict[int, int]]:
    """What `to_json` was given. Raises `ValueError` and its like for anything else."""

    def pairs(found: Any) -> Ranked:
        return [(int(n), float(v)) for n, v in found]

    known = json.loads(text)
    layers = {
        int(number): LayerEffects(
            bool(x["direct"]), [pairs(p) for p in x["for"]], [pairs(p) for p in x["against"]],
            {int(c): pairs(p) for c, p in x["drivers"].items()},
        )
        for number, x in known["layers"].items()
    }  # fmt: skip
    return layers, {int(c): int(n) for c, n in known["pictures"].items()}


def names_of(contents: Contents) -> list[str]:
    """The class names of the network, if it has any."""
    return [printable(str(label)) for label in contents.facts.get("labels") or ()]
