"""The store of a scan: one SQLite file that can be read while it grows; see `Writer` for how it grows."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote

import numpy as np

from deconvviz.errors import (
    DeconvvizError,
    DeconvvizTypeError,
    DeconvvizValueError,
    StoreError,
    UnknownNameError,
    in_one_line,
    suggest,
)
from deconvviz.results.table import Table
from deconvviz.scanning import checks
from deconvviz.scanning.rows import (
    BINS,
    FIRST,
    FORMAT,
    Place,
    ScanRun,
    StoreLayer,
    StorePicture,
    UnitStatistics,
    path_from,
)

_TOP = "SELECT * FROM top "
_PICTURE = "SELECT * FROM pictures "
_AMONG = {"all": "1", "unreadable": "error IS NOT NULL", "top": "id IN (SELECT picture FROM top)"}


F = TypeVar("F", bound=Callable[..., Any])


def _readable(method: F) -> F:
    """What a file that is damaged all the same (a store of the first format has no checksums) raises: `StoreError`."""

    @functools.wraps(method)
    def read(self: Store, *given: Any, **named: Any) -> Any:
        try:
            return method(self, *given, **named)
        except DeconvvizError:
            raise
        except (sqlite3.Error, ValueError, LookupError, TypeError, OverflowError) as error:
            raise StoreError(f"cannot read the store {self.path}: {in_one_line(error)}") from error

    return cast(F, read)


class Store:
    """A store, open for reading: `Store.open(path)`, best in a `with` statement.

    Works while a scan writes, on a read-only file and in a read-only folder. Each call reads what is committed then;
    inside `with store.snapshot():` all calls see one and the same state.

    >>> _ = deconvviz.scan(deconvviz.load("zfnet"), "photos", ["conv2"], top=2, store="places.db").close()
    >>> with deconvviz.Store.open("places.db") as store:
    ...     strongest = store.top("conv2", 7)[0]
    ...     print(store.complete, strongest.rank, store.units("conv2").share.shape)
    True 0 (256,)
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

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """All readings inside see the same state, whatever a scan commits meanwhile."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.rollback()

    def __repr__(self) -> str:
        try:
            facts, layers = self.facts, self.layers()
        except (sqlite3.Error, StoreError):
            return f"Store({self.path}, closed)"
        name, done = facts["model"]["name"], facts["done"]
        return f"Store({self.path}: {name}, {len(layers)} layers, {done} of {self.count} pictures)"

    def table(self) -> Table:
        """The layers of the store: how many units each has, how many of them have fired, and the strongest of all."""
        rows = [(x.title, x.operator, x.maps, *self._fired(x)) for x in self.layers()]
        return Table(("layer", "operator", "units", "have fired", "strongest"), rows, repr(self))

    def _fired(self, layer: StoreLayer) -> tuple[str, str]:
        maxima = self.units(layer).maximum
        found = maxima[np.isfinite(maxima)]
        return str(int((found > 0).sum())), f"{found.max():.4g}" if len(found) else "-"

    def _repr_html_(self) -> str | None:
        """The store as a notebook shows it; once closed it is a line."""
        try:
            return self.table().html()
        except (sqlite3.Error, StoreError):
            return None

    # Facts ------------------------------------------------------------------------------------------------------------

    @property
    @_readable
    def facts(self) -> dict[str, Any]:
        """What the store knows of itself: model, weights, preprocessing, aliases, top, pictures done, …"""
        return {key: json.loads(value) for key, value in self._db.execute("SELECT key, value FROM facts ORDER BY key")}

    @property
    @_readable
    def done(self) -> int:
        """Number of pictures that are scanned; they are those with the lowest numbers."""
        return int(self.facts["done"])

    @property
    def complete(self) -> bool:
        """Whether every picture that the store knows is scanned."""
        return self.done == self.count

    @property
    @_readable
    def count(self) -> int:
        """Number of pictures, read or not."""
        return int(self._db.execute("SELECT count(*) FROM pictures").fetchone()[0])

    @property
    @_readable
    def folder(self) -> Path | None:
        """The folder of the latest run, in which the pictures' paths start; None for a data set."""
        row = self._db.execute("SELECT folder FROM runs ORDER BY id DESC LIMIT 1").fetchone()
        path = path_from(row[0]) if row else None
        return None if path is None else Path(path)

    @_readable
    def runs(self) -> tuple[ScanRun, ...]:
        """The runs that made this store, first one first."""
        return tuple(ScanRun.of(row) for row in self._db.execute("SELECT * FROM runs ORDER BY id"))

    # Layers and units -------------------------------------------------------------------------------------------------

    @_readable
    def layers(self) -> tuple[StoreLayer, ...]:
        """The layers, in the order of the network."""
        return tuple(StoreLayer.of(row) for row in self._db.execute("SELECT * FROM layers ORDER BY id"))

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

    @_readable
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

    @_readable
    def top(self, layer: int | str | StoreLayer, unit: int) -> tuple[Place, ...]:
        """The strongest places of a unit, the strongest first. Raises `DeconvvizValueError` for an unknown unit."""
        at = self.layer(layer)
        if isinstance(unit, bool) or not isinstance(unit, int) or not 0 <= unit < at.maps:
            raise DeconvvizValueError(f"unit {unit!r} does not exist in {at.title}; allowed: 0 to {at.maps - 1}")
        rows = self._db.execute(_TOP + "WHERE layer = ? AND unit = ? ORDER BY rank", (at.id, unit))
        return tuple(Place(*r) for r in rows)

    @_readable
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
            found = self._some(last, _AMONG[among])
            yield from found
            if not found:
                return
            last = found[-1].id

    @_readable
    def _some(self, after: int, condition: str) -> list[StorePicture]:
        rows = self._db.execute(_PICTURE + f"WHERE id > ? AND {condition} ORDER BY id LIMIT 1000", (after,))
        return [StorePicture.of(row) for row in rows]

    @_readable
    def picture(self, number: int) -> StorePicture:
        """A picture by its number. Raises `DeconvvizValueError` if there is none."""
        row = self._db.execute(_PICTURE + "WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise DeconvvizValueError(f"picture {number} does not exist; allowed: 0 to {self.count - 1}")
        return StorePicture.of(row)

    @_readable
    def units_of(self, picture: int) -> tuple[Place, ...]:
        """The units among whose strongest places this picture is, by layer, unit and rank."""
        rows = self._db.execute(_TOP + "WHERE picture = ? ORDER BY layer, unit, rank", (picture,))
        return tuple(Place(*r) for r in rows)


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
            db.execute("BEGIN")
            check_whole(db, path)
            db.execute("ROLLBACK")
            return db
        except sqlite3.Error as error:
            db.close()
            problem = error
        except BaseException:
            db.close()
            raise
    raise StoreError(f"cannot read the store {path}: {problem}")


def check_whole(db: sqlite3.Connection, path: Path) -> None:
    """Raise `StoreError` if the file is no store, or not as it was written, or of two scans at once."""
    checks.verify(db, path, has_checks=check_format(db, path) != FIRST)
    check_single(db, path)


def check_single(db: sqlite3.Connection, path: Path) -> None:
    """Raise `StoreError` if a picture stands in the store twice."""
    doubled = db.execute(
        "SELECT count(*), min(name) FROM (SELECT path AS name FROM pictures WHERE path IS NOT NULL "
        "GROUP BY path HAVING count(*) > 1)"
    ).fetchone()
    if doubled[0]:
        raise StoreError(
            f"{path} was written by two scans at once (an earlier version let them): {doubled[0]:,} pictures stand in "
            f"it more than once (the first: {path_from(doubled[1])}), and all counts are too high; make it anew"
        )


def check_format(db: sqlite3.Connection, path: Path) -> int:
    """The format of a store. Raises `StoreError` if the file is none of those that are known here."""
    try:
        row = db.execute("SELECT value FROM facts WHERE key = 'format'").fetchone()
        told = None if row is None else json.loads(row[0])
    except sqlite3.DatabaseError as error:
        if "unable to open" in str(error) or "locked" in str(error) or "readonly" in str(error):
            raise
        raise StoreError(f"{path} is not a store of deconvviz: {error}") from None
    except (ValueError, TypeError) as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    if told not in (FIRST, FORMAT):
        raise StoreError(f"{path} was written by another version of deconvviz")
    return int(told)
