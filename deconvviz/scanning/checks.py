"""Whether a store is what was written: SQLite's own check of its pages, and a checksum of every block of rows.

A block is what one commit changes as a whole: the facts, a layer's units, the places of one unit, 1,000 pictures.
"""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from deconvviz.errors import StoreError

PICTURES = 1000
# The number of a block and its rows, in an order of their own. The schema is a part, too: it says what a mean is.
_PARTS = {
    "schema": "SELECT 0, type, name, tbl_name, sql FROM sqlite_master {} ORDER BY type, name",
    "facts": "SELECT 0, key, value FROM facts {} ORDER BY key",
    "layers": "SELECT 0, * FROM layers {} ORDER BY id",
    "pictures": "SELECT id / 1000, * FROM pictures {} ORDER BY id",
    "units": "SELECT layer, layer, unit, count, total, parts, maximum, fires, histogram FROM units {} "
    "ORDER BY layer, unit",
    "top": "SELECT layer * 4294967296 + unit, * FROM top {} ORDER BY layer, unit, rank",
    "runs": "SELECT id, id, started, ended, folder, pictures, seconds, processes, machine FROM runs {} ORDER BY id",
}
# Those of the runs stand beside them: all else depends on the network and the pictures only.
_STORED = "SELECT part, block, sum FROM checks UNION ALL SELECT 'runs', id, sum FROM runs"


def place_block(layer: int, unit: int) -> int:
    """The block of a unit's places."""
    return layer * 2**32 + unit


def renew(db: sqlite3.Connection, part: str, blocks: Iterable[int] | None = None) -> None:
    """Note the checksums of these blocks as they are now; of all of the part for None."""
    for block, digest in _sums(db, part, None if blocks is None else sorted(set(blocks))):
        if part == "runs":
            db.execute("UPDATE runs SET sum = ? WHERE id = ?", (digest, block))
        else:
            db.execute("INSERT OR REPLACE INTO checks VALUES (?, ?, ?)", (part, block, digest))


def renew_all(db: sqlite3.Connection) -> None:
    """Note the checksums of everything."""
    for part in _PARTS:
        renew(db, part)


def verify(db: sqlite3.Connection, path: Path, has_checks: bool) -> None:
    """Raise `StoreError` if a page or a block is not what was written; a store of the first format has pages only.

    All of it is read, in one transaction.
    """
    try:
        (said,) = db.execute("PRAGMA integrity_check(1)").fetchone()
        if said != "ok":
            raise StoreError(f"{path} is damaged: {' '.join(said.split())}")
        parts = [part for part in _PARTS if has_checks or part != "schema"]
        found = {(part, block): digest for part in parts for block, digest in _sums(db, part, None)}
        if not has_checks:
            return
        stored = {(part, block): digest for part, block, digest in db.execute(_STORED)}
    except (sqlite3.Error, ValueError, OverflowError) as error:
        if isinstance(error, StoreError) or "locked" in str(error) or "unable to open" in str(error):
            raise
        raise StoreError(f"{path} is damaged: {error}") from error
    wrong = sorted({key[0] for key in found.keys() | stored.keys() if found.get(key) != stored.get(key)}, key=str)
    if wrong:
        raise StoreError(f"{path} is damaged: its {wrong[0]} are not what was written; make it anew, or take a copy")


def _sums(db: sqlite3.Connection, part: str, blocks: list[int] | None) -> Iterator[tuple[int, bytes]]:
    for condition, values in [("", ())] if blocks is None else [(_where(part), _values(part, b)) for b in blocks]:
        rows = db.execute(_PARTS[part].format(condition), values)
        for block, group in itertools.groupby(rows, key=lambda row: int(row[0])):
            digest = hashlib.blake2b(digest_size=16)
            for row in group:
                digest.update(repr(row).encode("utf-8", "surrogatepass"))
            yield block, digest.digest()


def _where(part: str) -> str:
    return {
        "pictures": "WHERE id BETWEEN ? AND ?", "units": "WHERE layer = ?", "top": "WHERE layer = ? AND unit = ?",
        "runs": "WHERE id = ?",
    }[part]  # fmt: skip


def _values(part: str, block: int) -> tuple[int, ...]:
    if part == "pictures":
        return block * PICTURES, block * PICTURES + PICTURES - 1
    return (block >> 32, block & (2**32 - 1)) if part == "top" else (block,)
