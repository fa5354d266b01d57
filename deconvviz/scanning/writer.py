"""Writing a store: no interruption can spoil it, for every commit takes it from one finished prefix of the pictures to
a longer one."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deconvviz.errors import StoreError
from deconvviz.scanning import checks
from deconvviz.scanning.checks import PICTURES
from deconvviz.scanning.lock import Lock
from deconvviz.scanning.rows import BINS, FORMAT, GUARDS, SCHEMA, StoreLayer, path_to
from deconvviz.scanning.store import Store, check_format, check_single
from deconvviz.scanning.tally import Tally, sum_of


def blank(path: Path) -> bool:
    """Whether a new store may be made here: no file, or one in which nothing was ever committed."""
    if not path.exists() or not path.is_file():
        return not path.exists()
    if not path.stat().st_size:
        return True
    if not is_database(path):
        return False
    db = sqlite3.connect(path, isolation_level=None)
    try:
        return bool(db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,))
    except sqlite3.Error:
        return False
    finally:
        db.close()


@dataclass
class Commit:
    """What one commit adds: the `tally` of the units after `done` pictures, and what is known of the new pictures.

    `top` holds (layer, unit, places) for every unit whose list changed; `pictures` (id, label, width, height, error).
    """

    done: int
    tally: Tally
    top: Sequence[tuple[int, int, Sequence[tuple[int, int, int, float]]]]
    pictures: Sequence[tuple[int, str | None, int | None, int | None, str | None]]


class Writer(Store):
    """A store, open for writing by one scan; every method is one transaction, all of it or nothing."""

    new = False  # whether nothing stands in the file yet
    run = 0  # number of the run that `begin` has noted
    _lock: Lock | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str], lock: Lock | None = None) -> Writer:
        """Open or make a store, and hold its `lock` (taken here if it is not given) until it is closed.

        Raises `StoreError` for a file that is something else, that cannot be written, or that another scan holds.
        """
        path = Path(path)
        lock = lock or lock_of(path)
        try:
            return cls._opened(path, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _opened(cls, path: Path, lock: Lock) -> Writer:
        if path.exists() and path.stat().st_size and not is_database(path):
            raise StoreError(f"{path} is not a store of deconvviz: file is not a database")
        try:
            db = _connect(path)
        except sqlite3.Error as error:
            raise StoreError(f"cannot write the store {path}: {error}") from error
        store = Writer(path, db)
        store._lock = lock
        try:
            if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                store.new = True
            else:
                check_format(db, path)
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

    def close(self) -> None:
        """Close the file and give up its lock."""
        super().close()
        if self._lock is not None:
            self._lock.release()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is written inside is written together, or nothing of it; one inside another is part of it."""
        if self._db.in_transaction:
            yield self._db
            return
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
        with self.transaction() as db:
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise StoreError(f"another scan has just begun to write {self.path}")
            _make(db, SCHEMA + GUARDS)
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
            checks.renew_all(db)
        self.new = False

    def begin(
        self, started: str, folder: str | None, processes: int, machine: Mapping[str, Any],
        pictures: Sequence[tuple[str | None, str | None]], labels: Mapping[int, str | None] | None = None,
        known: int | None = None,
    ) -> None:  # fmt: skip
        """Note a new run, new pictures (path, label) under the next numbers, and changed labels of old ones.

        `known` is how many pictures stood in the store when that was decided; `StoreError` if it has others now.
        """
        with self.transaction() as db:
            if known is not None and self.count != known:
                raise StoreError(f"another scan has just changed {self.path}; try again")
            self._guard(db)
            made = db.execute(
                "INSERT INTO runs (started, folder, pictures, seconds, processes, machine) VALUES (?, ?, ?, 0, ?, ?)",
                (started, path_to(folder), self.done, processes, json.dumps(machine)),
            )
            self.run = made.lastrowid or 0
            db.executemany(
                "UPDATE pictures SET label = ? WHERE id = ?", [(path_to(v), n) for n, v in (labels or {}).items()]
            )
            start = self.count
            db.executemany(
                "INSERT INTO pictures (id, path, label) VALUES (?, ?, ?)",
                ((start + n, path_to(p), path_to(label)) for n, (p, label) in enumerate(pictures)),
            )
            checks.renew(db, "pictures", {n // PICTURES for n in (*(labels or {}), *range(start, self.count))})
            checks.renew(db, "runs", [self.run])

    def _guard(self, db: sqlite3.Connection) -> None:
        """Give a store of the first format what the second one has."""
        if self.facts["format"] != FORMAT:
            check_single(db, self.path)
            _make(db, "ALTER TABLE runs ADD COLUMN sum BLOB;\n" + GUARDS)
            db.execute("UPDATE facts SET value = ? WHERE key = 'format'", (json.dumps(FORMAT),))
            checks.renew_all(db)

    def parts(self) -> NDArray[np.int64] | None:
        """What `Tally.parts` was at the last commit, (U, n); None before the first."""
        rows = [r[0] for r in self._db.execute("SELECT parts FROM units ORDER BY layer, unit")]
        return None if None in rows else np.array([np.frombuffer(r, "<i8") for r in rows])

    def commit(self, before: int, commit: Commit, seconds: float, ended: str | None = None) -> None:
        """Go from `before` to `commit.done` pictures in one transaction.

        Raises `StoreError` if the store is not at `before` (another scan writes it) or cannot be written.
        """
        with self.transaction() as db:
            if self.done != before:
                raise StoreError(f"another scan writes {self.path} at the same time")
            db.execute("UPDATE facts SET value = ? WHERE key = 'done'", (json.dumps(commit.done),))
            _write_units(db, commit.tally)
            db.executemany(
                "INSERT OR REPLACE INTO top VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (layer, unit, rank, *place)
                    for layer, unit, places in commit.top
                    for rank, place in enumerate(places)
                ],
            )
            db.executemany(
                "UPDATE pictures SET label = coalesce(?, label), width = ?, height = ?, error = ? WHERE id = ?",
                [
                    (path_to(label), width, height, error and error.encode("utf-8", "replace").decode(), n)
                    for n, label, width, height, error in commit.pictures
                ],
            )
            db.execute(
                "UPDATE runs SET pictures = ?, seconds = ?, ended = ? WHERE id = ?",
                (commit.done, seconds, ended, self.run),
            )
            for part in ("facts", "units"):
                checks.renew(db, part)
            checks.renew(db, "top", (checks.place_block(layer, unit) for layer, unit, _ in commit.top))
            checks.renew(db, "pictures", (n // PICTURES for n, *_ in commit.pictures))
            checks.renew(db, "runs", [self.run])


def _write_units(db: sqlite3.Connection, tally: Tally) -> None:
    keys = db.execute("SELECT layer, unit FROM units ORDER BY layer, unit").fetchall()
    parts, bins = ([row.tobytes() for row in table.astype("<i8")] for table in (tally.parts, tally.histogram))
    peaks = [peak if tally.count else None for peak in tally.maximum.tolist()]
    columns = (sum_of(tally.parts).tolist(), parts, peaks, tally.fires.tolist(), bins, keys)
    db.executemany(
        "UPDATE units SET count = ?, total = ?, parts = ?, maximum = ?, fires = ?, histogram = ? "
        "WHERE layer = ? AND unit = ?",
        [(tally.count, *row, *key) for *row, key in zip(*columns, strict=True)],
    )


def is_database(path: Path) -> bool:
    """Whether a file begins as those of SQLite do."""
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def lock_of(path: Path) -> Lock:
    """The lock of a store that may not exist yet. Raises `StoreError` if another scan holds it."""
    if not path.absolute().parent.is_dir():
        raise StoreError(f"the folder {path.parent} does not exist")
    return Lock.take(path)


def _make(db: sqlite3.Connection, schema: str) -> None:
    for statement in schema.split(";\n"):
        if statement.strip():
            db.execute(statement)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=30)
