"""What the pages tell, as plain values: read once from the store, in the order of the pages, all text printable."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deconvviz.errors import StoreError
from deconvviz.scanning.rows import EDGES, Place, StoreLayer, StorePicture
from deconvviz.scanning.store import Store

# How sheets look: another number, and those of an earlier version are made again.
LOOK = 2
# Without classes the pictures are shown in groups of so many.
GROUP = 200
# A unit is dense if it fires on so large a share of the pictures, sparse if on no larger one.
DENSE, SPARSE = 0.9, 0.1


@dataclass(frozen=True)
class AtlasUnit:
    """One unit: its statistics, and its strongest places with the strongest first.

    `fires` is the share (0..1) of the pictures it fires on, `histogram` the counts of the store; `label` the class
    that a unit of the last layer stands for; `classes` the group of its places' pictures and how many, the most first;
    `key` says in ten letters what its pictures depend on.
    """

    number: int
    label: str | None
    mean: float
    maximum: float
    fires: float
    histogram: tuple[int, ...]
    places: tuple[Place, ...]
    classes: tuple[tuple[int, int], ...]
    key: str

    @property
    def dead(self) -> bool:
        """Whether it fires on no picture."""
        return self.fires == 0

    @property
    def dense(self) -> bool:
        """Whether it fires on nearly all pictures."""
        return self.fires >= DENSE

    @property
    def sparse(self) -> bool:
        """Whether it fires on few pictures, though on some."""
        return 0 < self.fires <= SPARSE


@dataclass(frozen=True)
class AtlasLayer:
    """A layer: `number` is its place in the order of the network, from 1; files are named by it."""

    number: int
    stored: StoreLayer
    aliases: tuple[str, ...]
    units: tuple[AtlasUnit, ...]
    labels: tuple[str, ...] | None
    field: tuple[int, int]  # height and width of a panel: the receptive field, at most the input

    @property
    def name(self) -> str:
        """The name that pages show."""
        return printable(self.stored.title)

    @property
    def dead(self) -> int:
        """How many units fire on no picture."""
        return sum(unit.dead for unit in self.units)


@dataclass(frozen=True)
class AtlasPicture:
    """A picture that some unit keeps: `places` are those of all units in it, by layer, unit and rank."""

    number: int
    stored: StorePicture
    group: int
    places: tuple[Place, ...]

    @property
    def name(self) -> str:
        """The name that pages show."""
        return printable(self.stored.title)


@dataclass
class PictureGroup:
    """The pictures of one class, or some pictures in a row where no classes are known."""

    number: int
    name: str
    pictures: list[AtlasPicture] = field(default_factory=list)
    # Those of whose places this class has a majority.
    units: list[tuple[AtlasLayer, AtlasUnit, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Contents:
    """Everything that an atlas shows but the pictures themselves."""

    model: str
    facts: Mapping[str, Any]
    pictures_scanned: int
    pictures_known: int
    unreadable: tuple[StorePicture, ...]
    top: int  # places of the unit that has most of them
    layers: tuple[AtlasLayer, ...]
    pictures: Mapping[int, AtlasPicture]
    groups: tuple[PictureGroup, ...]
    classes: bool  # whether the groups are classes

    @property
    def units(self) -> int:
        """Number of units in all layers."""
        return sum(len(layer.units) for layer in self.layers)


def majority(unit: AtlasUnit, contents: Contents) -> int | None:
    """The class of more than half of a unit's strongest places, if there is one."""
    if contents.classes and unit.classes and 2 * unit.classes[0][1] > len(unit.places):
        return unit.classes[0][0]
    return None


def printable(text: str) -> str:
    """`text` without what cannot be encoded or seen: lone surrogates, control characters, direction marks."""
    encoded = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c.isprintable() else "�" for c in encoded)


def read(store: Store) -> Contents:
    """Read everything from the store; best inside `store.snapshot()`.

    Raises:
        StoreError: no picture is scanned yet.
    """
    facts = store.facts
    if not store.done:
        raise StoreError(f"no picture is scanned yet in {store.path}; finish the scan first")
    stored = store.layers()
    # A place without activation excites nothing: a unit that never fires shows none.
    tops = [[tuple(p for p in places if p.activation > 0) for places in store.tops(layer)] for layer in stored]
    found: dict[int, list[Place]] = {}
    for place in (place for units in tops for places in units for place in places):
        found.setdefault(place.picture, []).append(place)
    kept = {picture.id: picture for picture in store.pictures("top") if picture.id in found}
    groups, group_of, classes = _groups(list(kept.values()))
    layers = tuple(
        _layer(store, facts, number, layer, units, kept, group_of)
        for number, (layer, units) in enumerate(zip(stored, tops, strict=True), 1)
    )
    pictures = {n: AtlasPicture(n, picture, group_of[n], tuple(found[n])) for n, picture in kept.items()}
    unreadable = tuple(store.pictures("unreadable"))
    contents = Contents(
        model=printable(str(facts["model"]["name"])),
        facts=facts,
        pictures_scanned=store.done - len(unreadable),
        pictures_known=store.count,
        unreadable=unreadable,
        top=max((len(unit.places) for layer in layers for unit in layer.units), default=0),
        layers=layers,
        pictures=pictures,
        groups=tuple(groups),
        classes=classes,
    )
    for picture in pictures.values():
        groups[picture.group].pictures.append(picture)
    for layer in layers:
        for unit in layer.units:
            if (group := majority(unit, contents)) is not None:
                groups[group].units.append((layer, unit, unit.classes[0][1]))
    return contents


def _groups(pictures: Sequence[StorePicture]) -> tuple[list[PictureGroup], dict[int, int], bool]:
    """The groups, the group of every picture, and whether groups are classes."""
    classes = len({picture.label for picture in pictures} - {None}) > 1
    if classes:
        name_of = {p.id: printable(p.label or "no class") for p in pictures}
        names = sorted(set(name_of.values()), key=lambda name: (name.lower(), name))
        at = {name: n for n, name in enumerate(names)}
        group_of = {picture: at[name] for picture, name in name_of.items()}
    else:
        starts = range(0, len(pictures), GROUP)
        names = [f"Pictures {start + 1} to {min(start + GROUP, len(pictures))}" for start in starts]
        group_of = {p.id: n // GROUP for n, p in enumerate(pictures)}
    return [PictureGroup(n, name) for n, name in enumerate(names)], group_of, classes


def _layer(
    store: Store,
    facts: Mapping[str, Any],
    number: int,
    stored: StoreLayer,
    tops: Sequence[tuple[Place, ...]],
    pictures: Mapping[int, StorePicture],
    group_of: Mapping[int, int],
) -> AtlasLayer:
    statistics = store.units(stored)
    labels = _labels(facts, stored)
    units = []
    for n, places in enumerate(tops):
        counted = Counter(group_of[place.picture] for place in places)
        units.append(
            AtlasUnit(
                number=n,
                label=labels[n] if labels else None,
                mean=float(statistics.mean[n]),
                maximum=float(statistics.maximum[n]),
                fires=float(statistics.share[n]),
                histogram=tuple(statistics.histogram[n].tolist()),
                places=places,
                classes=tuple(sorted(counted.items(), key=lambda c: (-c[1], c[0]))),
                key=_key(facts, stored, n, places, pictures),
            )
        )
    aliases = sorted(alias for alias, path in facts.get("aliases", {}).items() if path == stored.name)
    _, high, wide = facts["input"]
    # A panel is no larger than the input.
    field = (min(stored.field[0], high), min(stored.field[1], wide)) if stored.field else (high, wide)
    return AtlasLayer(number, stored, tuple(map(printable, aliases)), tuple(units), labels, field)


def _labels(facts: Mapping[str, Any], layer: StoreLayer) -> tuple[str, ...] | None:
    """The classes of the network, if this layer has one value for each of them."""
    labels = facts.get("labels") or ()
    if layer.size is None and labels and len(labels) == layer.maps:
        return tuple(printable(str(label)) for label in labels)
    return None


def _key(
    facts: Mapping[str, Any],
    layer: StoreLayer,
    unit: int,
    places: Sequence[Place],
    pictures: Mapping[int, StorePicture],
) -> str:
    """What a unit's pictures depend on, as ten letters: what is the same need not be computed again."""
    network = [LOOK, facts["model"]["sha256"], facts["preprocessing"], facts["top"]]
    where = [(repr(pictures[p.picture].path), p.row, p.col, p.activation) for p in places]
    return hashed([network, layer.name, unit, where])


def hashed(value: object) -> str:
    """Ten letters that stand for a plain value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]


def histogram_bars(histogram: Sequence[int]) -> tuple[list[tuple[float, float, int]], int]:
    """The bins (from, to, count) from the first to the last that is not empty, and the pictures without a response.

    The first and the last bin of the store have no lower and no upper end: 0 and infinity.
    """
    edges = [0.0, *EDGES.tolist(), float("inf")]
    bars = [(edges[i], edges[i + 1], count) for i, count in enumerate(histogram[1:])]
    filled = [i for i, bar in enumerate(bars) if bar[2]]
    return (bars[filled[0] : filled[-1] + 1] if filled else []), histogram[0]
