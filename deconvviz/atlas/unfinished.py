"""Panels of units that are not complete yet, kept in a file beside the site so that an interruption loses little."""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path

import numpy as np

from deconvviz.atlas.sheets import Pixels
from deconvviz.errors import AtlasError

NAME = ".unfinished.db"
# Panels between two commits: a few seconds of work.
BATCH = 64


class Unfinished:
    """Tiles (projection and crop) by key of the unit and rank, until the unit has all of them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        try:
            self._db = self._open()
        except sqlite3.OperationalError as error:
            what = "another build is writing there" if "locked" in str(error) else str(error)
            raise AtlasError(f"cannot write {self.path}: {what}") from error
        except sqlite3.DatabaseError:
            # A file that is no database holds nothing that cannot be computed again.
            self._unlink()
            self._db = self._open()
        self._waiting = 0

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=0)
        try:
            # The lock is held until the file is closed: one build at a time writes into the folder.
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("BEGIN IMMEDIATE")
            db.execute(
                "CREATE TABLE IF NOT EXISTS tiles (key TEXT, rank INTEGER, height INTEGER, width INTEGER, "
                "pair BLOB, PRIMARY KEY (key, rank))"
            )
            db.commit()
        except BaseException:
            db.close()
            raise
        return db

    def ranks(self) -> dict[str, set[int]]:
        """The ranks that are kept, by unit."""
        found: dict[str, set[int]] = {}
        for key, rank in self._db.execute("SELECT key, rank FROM tiles"):
            found.setdefault(key, set()).add(rank)
        return found

    def add(self, key: str, rank: int, projection: Pixels, crop: Pixels) -> None:
        """Keep one pair of tiles (h, w, 4)."""
        pair = zlib.compress(projection.tobytes() + crop.tobytes(), 1)
        self._run("INSERT OR REPLACE INTO tiles VALUES (?, ?, ?, ?, ?)", (key, rank, *projection.shape[:2], pair))
        self._waiting += 1
        if self._waiting >= BATCH:
            self.commit()

    def pairs(self, key: str) -> dict[int, tuple[Pixels, Pixels]]:
        """All pairs of a unit, by rank."""
        found = {}
        for rank, height, width, pair in self._db.execute(
            "SELECT rank, height, width, pair FROM tiles WHERE key = ? ORDER BY rank", (key,)
        ):
            both = np.frombuffer(zlib.decompress(pair), np.uint8).reshape(2, height, width, 4)
            found[int(rank)] = (both[0], both[1])
        return found

    def drop(self, key: str) -> None:
        """Forget a unit: its sheet is written."""
        self._run("DELETE FROM tiles WHERE key = ?", (key,))

    def commit(self) -> None:
        """Make all of it last."""
        try:
            self._db.commit()
        except sqlite3.Error as error:
            raise AtlasError(f"cannot write {self.path}: {error}; run again to go on") from error
        self._waiting = 0

    def close(self) -> None:
        """Commit and close."""
        try:
            self.commit()
        finally:
            self._db.close()

    def remove(self) -> None:
        """Close and delete: the site is complete."""
        self._db.close()
        self._unlink()

    def _unlink(self) -> None:
        for end in ("", "-wal", "-shm", "-journal"):
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)

    def _run(self, statement: str, values: tuple[object, ...]) -> None:
        try:
            self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise AtlasError(f"cannot write {self.path}: {error}; run again to go on") from error
