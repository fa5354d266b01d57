"""The tables of a store and what their rows mean: layers, pictures, places, statistics of units, runs.

The table `runs` alone knows times and places of this machine; everything else depends on the network and the pictures
only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = 2
# The first one knew no checksums, and two scans at once could double its pictures.
FIRST = 1
# Edges of the histogram of a unit's maxima, two bins an octave; below the first and above the last is a bin, too,
# and the first bin of all counts the pictures on which the unit does not fire (maximum <= 0).
EDGES: NDArray[np.float64] = 2.0 ** np.arange(-20, 20.5, 0.5)
BINS = len(EDGES) + 2

SCHEMA = """
CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE layers (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, alias TEXT, operator TEXT NOT NULL, maps INTEGER NOT NULL,
    height INTEGER, width INTEGER, stride_rows INTEGER, stride_columns INTEGER,
    field_rows INTEGER, field_columns INTEGER, position INTEGER NOT NULL);
CREATE TABLE pictures (
    id INTEGER PRIMARY KEY, path TEXT, label TEXT, width INTEGER, height INTEGER, error TEXT);
CREATE TABLE units (
    layer INTEGER NOT NULL, unit INTEGER NOT NULL, count INTEGER NOT NULL, total REAL NOT NULL, parts BLOB,
    maximum REAL, fires INTEGER NOT NULL, histogram BLOB NOT NULL,
    mean REAL GENERATED ALWAYS AS (total / nullif(count, 0)) VIRTUAL,
    PRIMARY KEY (layer, unit)) WITHOUT ROWID;
CREATE TABLE top (
    layer INTEGER NOT NULL, unit INTEGER NOT NULL, rank INTEGER NOT NULL, picture INTEGER NOT NULL,
    row INTEGER NOT NULL, col INTEGER NOT NULL, activation REAL NOT NULL,
    PRIMARY KEY (layer, unit, rank)) WITHOUT ROWID;
CREATE INDEX top_of_picture ON top (picture, layer, unit, rank);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, started TEXT NOT NULL, ended TEXT, folder TEXT, pictures INTEGER NOT NULL,
    seconds REAL NOT NULL, processes INTEGER NOT NULL, machine TEXT NOT NULL, sum BLOB);
"""
# What the second format has besides.
GUARDS = """
CREATE UNIQUE INDEX path_of_picture ON pictures (path);
CREATE TABLE checks (part TEXT NOT NULL, block INTEGER NOT NULL, sum BLOB NOT NULL, PRIMARY KEY (part, block))
    WITHOUT ROWID;
"""


@dataclass(frozen=True)
class StoreLayer:
    """A layer of the store, in the order of the network.

    `name` is the module path, `alias` the short name it was asked by (None for a path), `size` (height, width) of a
    map or None for (N, C) outputs; `stride` and `field` (rows, columns) in input pixels, None where not known.
    """

    id: int
    name: str
    alias: str | None
    operator: str
    maps: int
    size: tuple[int, int] | None
    stride: tuple[int, int] | None
    field: tuple[int, int] | None
    position: int

    @classmethod
    def of(cls, row: Sequence[Any]) -> StoreLayer:
        """A row of `layers`."""
        number, name, alias, operator, maps, *measures, position = row
        size, stride, field = (_pair(*measures[k : k + 2]) for k in (0, 2, 4))
        return cls(number, name, alias, operator, maps, size, stride, field, position)

    @property
    def title(self) -> str:
        """The short name if there is one, else the module path."""
        return self.alias or self.name


@dataclass(frozen=True)
class StorePicture:
    """A picture of the store: `path` below the folder (None for an item of a data set), `label` if known.

    `width` and `height` are those of the file, None before it is read; `error` says why it could not be read.
    """

    id: int
    path: str | None
    label: str | None
    width: int | None
    height: int | None
    error: str | None

    @classmethod
    def of(cls, row: Sequence[Any]) -> StorePicture:
        """A row of `pictures`."""
        number, path, label, *known = row
        return cls(number, path_from(path), path_from(label), *known)

    @property
    def title(self) -> str:
        """The path, or `picture 12`; always text that can be encoded."""
        name = f"picture {self.id}" if self.path is None else self.path
        return name.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True)
class Place:
    """One of the strongest places of a unit: which picture, row and column in the map, and how strong."""

    layer: int
    unit: int
    rank: int
    picture: int
    row: int
    col: int
    activation: float


@dataclass(frozen=True, eq=False)
class UnitStatistics:
    """Statistics of the U units of a layer over the `count` pictures that could be read.

    `mean` (U,) over pictures and places; `maximum` (U,); `fires` (U,) the number of pictures with an activation above
    zero; `histogram` (U, BINS) counts pictures by the unit's maximum on them: bin 0 for no activation above zero, bin
    i for maxima from EDGES[i - 2] up to EDGES[i - 1]. Without any picture `mean` and `maximum` are NaN.
    """

    count: int
    mean: NDArray[np.float64]
    maximum: NDArray[np.float64]
    fires: NDArray[np.int64]
    histogram: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def share(self) -> NDArray[np.float64]:
        """Share of the pictures on which each unit fires, (U,)."""
        return self.fires / max(self.count, 1)

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Which units fire on no picture, (U,)."""
        return np.equal(self.fires, 0)


@dataclass(frozen=True)
class ScanRun:
    """One run of a scan: when, over which folder, how many pictures were done at its end, and on what."""

    id: int
    started: str
    ended: str | None
    folder: str | None
    pictures: int
    seconds: float
    processes: int
    machine: dict[str, Any]

    @classmethod
    def of(cls, row: Sequence[Any]) -> ScanRun:
        """A row of `runs`."""
        number, started, ended, folder, pictures, seconds, processes, machine, *_ = row
        return cls(number, started, ended, path_from(folder), pictures, seconds, processes, json.loads(machine))


# From a row of SQLite and back ----------------------------------------------------------------------------------------


def _pair(a: int | None, b: int | None) -> tuple[int, int] | None:
    return None if a is None or b is None else (a, b)


def path_to(path: str | None) -> str | bytes | None:
    """A path or the name of a folder, if there is one, as SQLite keeps it: text, or bytes if it is not UTF-8."""
    try:
        (path or "").encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(path or "")
    return path


def path_from(stored: str | bytes | None) -> str | None:
    """What `path_to` made this of."""
    return os.fsdecode(stored) if isinstance(stored, bytes) else stored
