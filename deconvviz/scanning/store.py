"""The store of a scan: one SQLite file that can be read while it grows and that no interruption can spoil.

The table `runs` alone knows times and places of this machine; everything else depends on the network and the pictures
only. Every commit takes the store from one finished prefix of the pictures to a longer one.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, StoreError, UnknownNameError, suggest

FORMAT = 1
# Edges of the histogram of a unit's maxima, two bins an octave; below the first and above the last is a bin, too,
# and the first bin of all counts the pictures on which the unit does not fire (maximum <= 0).
EDGES: NDArray[np.float64] = 2.0 ** np.arange(-20, 20.5, 0.5)
BINS = len(EDGES) + 2

_SCHEMA = """
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
    seconds REAL NOT NULL, processes INTEGER NOT NULL, machine TEXT NOT NULL);
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
        shares: NDArray[np.float64] = self.fires / max(self.count, 1)
        return shares

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Which units fire on no picture, (U,)."""
        silent: NDArray[np.bool_] = self.fires == 0
        return silent


@dataclass(frozen=True)
class Run:
    """One run of a scan: when, over which folder, how many pictures were done at its end, and on what."""

    id: int
    started: str
    ended: str | None
    folder: str | None
    pictures: int
    seconds: float
    processes: int
    machine: dict[str, Any]


class Store:
    """A store, open for reading: `Store.open(path)`, best in a `with` statement.

    Works while a scan writes, on a read-only file and in a read-only folder. Each call reads what is committed then;
    inside `with store.snapshot():` all calls see one and the same state.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Store:
        """Open an existing store for reading. Raises `StoreError` for what is not one."""
        path = Path(path)
        if not path.is_file():
            raise StoreError(f"no such store: {path}")
        return Store(path, _read_only(path))

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """All readings inside see the same state, whatever a scan commits meanwhile."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.rollback()

    # Facts ------------------------------------------------------------------------------------------------------------

    @property
    def facts(self) -> dict[str, Any]:
        """What the store knows of itself: model, weights, preprocessing, aliases, top, pictures done, …"""
        return {key: json.loads(value) for key, value in self._db.execute("SELECT key, value FROM facts ORDER BY key")}

    @property
    def done(self) -> int:
        """Number of pictures that are scanned; they are those with the lowest numbers."""
        return int(self.facts["done"])

    @property
    def complete(self) -> bool:
        """Whether every picture that the store knows is scanned."""
        return self.done == self.count

    @property
    def count(self) -> int:
        """Number of pictures, read or not."""
        return int(self._db.execute("SELECT count(*) FROM pictures").fetchone()[0])

    @property
    def folder(self) -> Path | None:
        """The folder of the latest run, in which the pictures' paths start; None for a data set."""
        row = self._db.execute("SELECT folder FROM runs ORDER BY id DESC LIMIT 1").fetchone()
        return None if row is None or row[0] is None else Path(_path_from(row[0]))

    def runs(self) -> tuple[Run, ...]:
        """The runs that made this store, first one first."""
        rows = self._db.execute(
            "SELECT id, started, ended, folder, pictures, seconds, processes, machine FROM runs ORDER BY id"
        )
        return tuple(_run(row) for row in rows)

    # Layers and units -------------------------------------------------------------------------------------------------

    def layers(self) -> tuple[StoreLayer, ...]:
        """The layers, in the order of the network."""
        rows = self._db.execute(
            "SELECT id, name, alias, operator, maps, height, width, stride_rows, stride_columns, field_rows, "
            "field_columns, position FROM layers ORDER BY id"
        )
        return tuple(_layer(row) for row in rows)

    def layer(self, layer: int | str | StoreLayer) -> StoreLayer:
        """A layer by its number in the store, its alias or its module path. Raises `UnknownNameError`."""
        layers = self.layers()
        if isinstance(layer, StoreLayer):
            layer = layer.id
        if isinstance(layer, int):
            for found in layers:
                if found.id == layer:
                    return found
            raise UnknownNameError(f"no layer number {layer} in {self.path}; allowed: 0 to {len(layers) - 1}")
        if not isinstance(layer, str):
            raise DeconvvizTypeError(f"layer is a {type(layer).__name__}; allowed: a name or a number")
        aliases: dict[str, str] = self.facts["aliases"]
        by_alias = [x for x in layers if x.alias is not None and aliases.get(layer) == x.name]
        by_name = [x for x in layers if x.name == layer and x.alias is None] + [x for x in layers if x.name == layer]
        for found in [*by_alias, *by_name]:
            return found
        known = [x.title for x in layers]
        hint = suggest(layer, known) or f"; allowed: {', '.join(known[:12])}"
        raise UnknownNameError(f"layer '{layer}' is not in {self.path}{hint}")

    def units(self, layer: int | str | StoreLayer) -> UnitStatistics:
        """Statistics of all units of a layer."""
        at = self.layer(layer)
        rows = self._db.execute(
            "SELECT count, mean, maximum, fires, histogram FROM units WHERE layer = ? ORDER BY unit", (at.id,)
        ).fetchall()
        counts = b"".join(r[4] for r in rows)
        return UnitStatistics(
            count=rows[0][0] if rows else 0,
            mean=np.array([r[1] for r in rows], dtype=np.float64),
            maximum=np.array([r[2] for r in rows], dtype=np.float64),
            fires=np.array([r[3] for r in rows], dtype=np.int64),
            histogram=np.frombuffer(counts, "<i8").astype(np.int64).reshape(-1, BINS),
        )

    def top(self, layer: int | str | StoreLayer, unit: int) -> tuple[Place, ...]:
        """The strongest places of a unit, the strongest first. Raises `DeconvvizValueError` for an unknown unit."""
        at = self.layer(layer)
        if isinstance(unit, bool) or not isinstance(unit, int) or not 0 <= unit < at.maps:
            raise DeconvvizValueError(f"unit {unit!r} does not exist in {at.title}; allowed: 0 to {at.maps - 1}")
        rows = self._db.execute(_TOP + "WHERE layer = ? AND unit = ? ORDER BY rank", (at.id, unit))
        return tuple(Place(*r) for r in rows)

    def tops(self, layer: int | str | StoreLayer) -> list[tuple[Place, ...]]:
        """The strongest places of every unit of a layer, in the order of the units."""
        at = self.layer(layer)
        found: list[list[Place]] = [[] for _ in range(at.maps)]
        for row in self._db.execute(_TOP + "WHERE layer = ? ORDER BY unit, rank", (at.id,)):
            found[row[1]].append(Place(*row))
        return [tuple(places) for places in found]

    # Pictures ---------------------------------------------------------------------------------------------------------

    def pictures(self, among: str = "all") -> Iterator[StorePicture]:
        """The pictures by number: "all", those that could not be read ("unreadable"), or that some unit keeps ("top").

        They are read in pieces, so that a million of them fit into little memory.
        """
        if among not in _AMONG:
            raise UnknownNameError(f"among is {among!r}; allowed: {', '.join(map(repr, _AMONG))}")
        last = -1
        while True:
            rows = self._db.execute(
                _PICTURE + f"WHERE id > ? AND {_AMONG[among]} ORDER BY id LIMIT 1000", (last,)
            ).fetchall()
            for row in rows:
                yield _picture(row)
            if not rows:
                return
            last = rows[-1][0]

    def picture(self, number: int) -> StorePicture:
        """A picture by its number. Raises `DeconvvizValueError` if there is none."""
        row = self._db.execute(_PICTURE + "WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise DeconvvizValueError(f"picture {number} does not exist; allowed: 0 to {self.count - 1}")
        return _picture(row)

    def units_of(self, picture: int) -> tuple[Place, ...]:
        """The units among whose strongest places this picture is, by layer, unit and rank."""
        rows = self._db.execute(_TOP + "WHERE picture = ? ORDER BY layer, unit, rank", (picture,))
        return tuple(Place(*r) for r in rows)


_TOP = "SELECT layer, unit, rank, picture, row, col, activation FROM top "
_PICTURE = "SELECT id, path, label, width, height, error FROM pictures "
_AMONG = {"all": "1", "unreadable": "error IS NOT NULL", "top": "id IN (SELECT picture FROM top)"}


def _pair(a: int | None, b: int | None) -> tuple[int, int] | None:
    return None if a is None or b is None else (a, b)


def _run(row: tuple[Any, ...]) -> Run:
    number, started, ended, folder, pictures, seconds, processes, machine = row
    kept = None if folder is None else _path_from(folder)
    return Run(number, started, ended, kept, pictures, seconds, processes, json.loads(machine))


def _layer(row: tuple[Any, ...]) -> StoreLayer:
    number, name, alias, operator, maps, *measures, position = row
    size, stride, field = (_pair(*measures[k : k + 2]) for k in (0, 2, 4))
    return StoreLayer(number, name, alias, operator, maps, size, stride, field, position)


def _picture(row: tuple[Any, ...]) -> StorePicture:
    return StorePicture(row[0], None if row[1] is None else _path_from(row[1]), *row[2:])


def _path_to(path: str) -> str | bytes:
    """A path as SQLite keeps it: text, or bytes for a name that is not UTF-8."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def _path_from(stored: str | bytes) -> str:
    return os.fsdecode(stored) if isinstance(stored, bytes) else stored


def _read_only(path: Path) -> sqlite3.Connection:
    """Open for reading; where nothing may be written beside the file, as one that does not change."""
    problem: Exception | None = None
    for how in ("mode=ro", "mode=ro&immutable=1"):
        log = path.with_name(path.name + "-wal")
        if "immutable" in how and log.exists() and log.stat().st_size:
            break  # an immutable reading would miss what stands in the log
        db = sqlite3.connect(
            f"file:{quote(os.fsencode(path.absolute()))}?{how}", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            db.execute("PRAGMA query_only = 1")
            _check_format(db, path)
            return db
        except sqlite3.Error as error:
            db.close()
            problem = error
        except BaseException:
            db.close()
            raise
    raise StoreError(f"cannot read the store {path}: {problem}")


def blank(path: Path) -> bool:
    """Whether a new store may be made here: no file, or one in which nothing was ever committed."""
    if not path.exists() or not path.is_file():
        return not path.exists()
    if not path.stat().st_size:
        return True
    db = sqlite3.connect(path, isolation_level=None)
    try:
        return bool(db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,))
    except sqlite3.Error:
        return False
    finally:
        db.close()


def _check_format(db: sqlite3.Connection, path: Path) -> None:
    try:
        row = db.execute("SELECT value FROM facts WHERE key = 'format'").fetchone()
    except sqlite3.DatabaseError as error:
        if "unable to open" in str(error) or "locked" in str(error) or "readonly" in str(error):
            raise
        raise StoreError(f"{path} is not a store of deconvviz: {error}") from None
    if row is None or json.loads(row[0]) != FORMAT:
        raise StoreError(f"{path} was written by another version of deconvviz")


# Writing --------------------------------------------------------------------------------------------------------------


@dataclass
class Progress:
    """What one commit adds: the state of the units after `done` pictures, and what is known of the new pictures.

    The arrays go over the units of all layers in order; `parts` (U, n) are what a scan needs to go on with its sums.
    `top` holds (layer, unit, places) for every unit whose list changed; `pictures` (id, label, width, height, error).
    """

    done: int
    count: int
    total: NDArray[np.float64]
    maximum: NDArray[np.float64]
    fires: NDArray[np.int64]
    histogram: NDArray[np.int64]
    top: Sequence[tuple[int, int, Sequence[tuple[int, int, int, float]]]]
    pictures: Sequence[tuple[int, str | None, int | None, int | None, str | None]]
    parts: NDArray[np.int64] | None = None


class Writer(Store):
    """A store, open for writing by one scan; every method is one transaction, all of it or nothing."""

    run: int = 0

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Writer:
        """Open or make a store. Raises `StoreError` for a file that is something else, or cannot be written."""
        path = Path(path)
        if not path.absolute().parent.is_dir():
            raise StoreError(f"the folder {path.parent} does not exist")
        try:
            db = _connect(path)
        except sqlite3.Error as error:
            raise StoreError(f"cannot write the store {path}: {error}") from error
        store = Writer(path, db)
        try:
            if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                store._new = True
            else:
                _check_format(db, path)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error as error:
            db.close()
            what = "is not a store of deconvviz" if "not a database" in str(error) else "cannot be written"
            raise StoreError(f"{path} {what}: {error}") from error
        except BaseException:
            db.close()
            raise
        return store

    _new = False

    @property
    def new(self) -> bool:
        """Whether nothing stands in the file yet."""
        return self._new

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreError(
                f"cannot write the store {self.path}: {error}; what was committed before is intact"
            ) from error

    def create(self, facts: Mapping[str, Any], layers: Sequence[StoreLayer]) -> None:
        """Make the tables of a new store; no picture is done."""
        with self._transaction() as db:
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise StoreError(f"another scan has just begun to write {self.path}")
            for statement in _SCHEMA.split(";\n"):
                if statement.strip():
                    db.execute(statement)
            every = {**facts, "format": FORMAT, "done": 0}
            db.executemany("INSERT INTO facts VALUES (?, ?)", [(k, json.dumps(every[k])) for k in sorted(every)])
            db.executemany(
                f"INSERT INTO layers VALUES ({','.join('?' * 12)})",
                [
                    (x.id, x.name, x.alias, x.operator, x.maps, *(x.size or (None, None)), *(x.stride or (None, None)),
                     *(x.field or (None, None)), x.position)
                    for x in layers
                ],
            )  # fmt: skip
            nothing = np.zeros(BINS, "<i8").tobytes()
            db.executemany(
                "INSERT INTO units (layer, unit, count, total, maximum, fires, histogram) VALUES (?, ?, 0, 0, ?, 0, ?)",
                [(x.id, unit, None, nothing) for x in layers for unit in range(x.maps)],
            )
        self._new = False

    def begin(
        self, started: str, folder: str | None, processes: int, machine: Mapping[str, Any],
        pictures: Sequence[tuple[str | None, str | None]], labels: Mapping[int, str | None] | None = None,
    ) -> None:  # fmt: skip
        """Note a new run, new pictures (path, label) under the next numbers, and changed labels of old ones."""
        with self._transaction() as db:
            kept = None if folder is None else _path_to(folder)
            made = db.execute(
                "INSERT INTO runs (started, folder, pictures, seconds, processes, machine) VALUES (?, ?, ?, 0, ?, ?)",
                (started, kept, self.done, processes, json.dumps(machine)),
            )
            self.run = made.lastrowid or 0
            db.executemany("UPDATE pictures SET label = ? WHERE id = ?", [(v, n) for n, v in (labels or {}).items()])
            start = self.count
            db.executemany(
                "INSERT INTO pictures (id, path, label) VALUES (?, ?, ?)",
                ((start + n, None if p is None else _path_to(p), label) for n, (p, label) in enumerate(pictures)),
            )

    def parts(self) -> NDArray[np.int64] | None:
        """What `Progress.parts` was at the last commit, (U, n); None before the first."""
        rows = [r[0] for r in self._db.execute("SELECT parts FROM units ORDER BY layer, unit")]
        return None if None in rows else np.array([np.frombuffer(r, "<i8") for r in rows])

    def commit(self, before: int, progress: Progress, seconds: float, ended: str | None = None) -> None:
        """Go from `before` to `progress.done` pictures in one transaction.

        Raises `StoreError` if the store is not at `before` (another scan writes it) or cannot be written.
        """
        with self._transaction() as db:
            if self.done != before:
                raise StoreError(f"another scan writes {self.path} at the same time")
            db.execute("UPDATE facts SET value = ? WHERE key = 'done'", (json.dumps(progress.done),))
            _write_units(db, progress)
            db.executemany(
                "INSERT OR REPLACE INTO top VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (layer, unit, rank, *place)
                    for layer, unit, places in progress.top
                    for rank, place in enumerate(places)
                ],
            )
            db.executemany(
                "UPDATE pictures SET label = coalesce(?, label), width = ?, height = ?, error = ? WHERE id = ?",
                [(label, width, height, error, n) for n, label, width, height, error in progress.pictures],
            )
            db.execute(
                "UPDATE runs SET pictures = ?, seconds = ?, ended = ? WHERE id = ?",
                (progress.done, seconds, ended, self.run),
            )


def _write_units(db: sqlite3.Connection, progress: Progress) -> None:
    keys = db.execute("SELECT layer, unit FROM units ORDER BY layer, unit").fetchall()
    parts = [None] * len(keys) if progress.parts is None else [p.tobytes() for p in progress.parts.astype("<i8")]
    peaks = [peak if progress.count else None for peak in progress.maximum.tolist()]
    bins = [b.tobytes() for b in progress.histogram.astype("<i8")]
    columns = (progress.total.tolist(), parts, peaks, progress.fires.tolist(), bins, keys)
    db.executemany(
        "UPDATE units SET count = ?, total = ?, parts = ?, maximum = ?, fires = ?, histogram = ? "
        "WHERE layer = ? AND unit = ?",
        [(progress.count, *row, *key) for *row, key in zip(*columns, strict=True)],
    )


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=30)
