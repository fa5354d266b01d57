"""The store: what is written comes back, what is not a store is an error, nothing half-written is ever seen."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from deconvviz.errors import DeconvvizValueError, StoreError, UnknownNameError
from deconvviz.scanning.rows import BINS, Place, StoreLayer
from deconvviz.scanning.store import Store
from deconvviz.scanning.tally import StrongestPlaces, Tally, exact_parts
from deconvviz.scanning.writer import Commit, Writer

LAYERS = (
    StoreLayer(0, "features.0", "conv1", "Conv2d", 2, (5, 4), (2, 2), (7, 7), 1),
    StoreLayer(1, "fc", None, "Linear", 1, None, None, None, 9),
)
FACTS = {"top": 2, "aliases": {"1": "features.0", "conv1": "features.0"}}


def progress(done: int, count: int) -> Commit:
    rising = np.arange(3)
    return Commit(
        done=done,
        tally=Tally(
            count=count,
            parts=exact_parts(np.array([[1.5, 0.0, -2.0]]) * count),
            maximum=np.array([3.0, 0.0, -1.0]),
            fires=np.array([count, 0, 0]),
            histogram=np.eye(3, BINS, dtype=np.int64) * (rising[:, None] + count),
            places=StrongestPlaces.empty(3, 2),
        ),
        top=[(0, 0, [(1, 4, 3, 3.0), (0, 2, 2, 2.5)]), (1, 0, [(1, 0, 0, -1.0)])],
        pictures=[(0, "cat", 10, 20, None), (1, None, None, None, "torn")],
    )


def write(path: Path) -> Writer:
    writer = Writer.open(path)
    assert writer.new
    writer.create(FACTS, LAYERS)
    names = [("a/x.png", "a"), (os.fsdecode(b"b/\xff<i>.png"), "b")]
    writer.begin("2026-01-01", "/photos", 1, {"torch": "2"}, names)
    return writer


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    writer = write(tmp_path / "s.db")
    writer.commit(0, progress(2, 2), 1.5)
    writer.close()
    with Store.open(tmp_path / "s.db") as store:
        assert store.layers() == LAYERS and store.facts["top"] == 2 and store.folder == Path("/photos")
        assert store.layer("1") == store.layer("conv1") == store.layer("features.0") == store.layer(0) == LAYERS[0]
        units = store.units("conv1")
        assert units.count == 2 and units.mean.tolist() == [1.5, 0] and units.maximum.tolist() == [3, 0]
        assert units.share.tolist() == [1, 0] and units.dead.tolist() == [False, True]
        assert units.histogram.tolist() == (np.eye(2, BINS) * [[2], [3]]).tolist()
        first = Place(0, 0, 0, 1, 4, 3, 3.0)
        assert store.top("1", 0) == (first, Place(0, 0, 1, 0, 2, 2, 2.5)) and store.top(0, 1) == ()
        assert store.tops(0) == [store.top(0, 0), ()]
        assert store.units_of(1) == (first, Place(1, 0, 0, 1, 0, 0, -1.0))
        assert [p.label for p in store.pictures()] == ["cat", "b"]
        assert store.picture(0).path == "a/x.png" and store.picture(0).width == 10
        torn = store.picture(1)
        assert torn.path == os.fsdecode(b"b/\xff<i>.png") and torn.title == "b/?<i>.png"
        assert list(store.pictures("unreadable")) == [torn] and len(list(store.pictures("top"))) == 2
        assert store.complete and store.runs()[0].pictures == 2


def test_a_new_store_has_no_means(tmp_path: Path) -> None:
    write(tmp_path / "s.db").close()
    with Store.open(tmp_path / "s.db") as store:
        units = store.units(0)
        assert np.isnan(units.mean).all() and np.isnan(units.maximum).all() and not units.share.any()
        assert not store.complete


def test_names_that_are_not_there(tmp_path: Path) -> None:
    write(tmp_path / "s.db").close()
    with Store.open(tmp_path / "s.db") as store:
        with pytest.raises(UnknownNameError, match="did you mean 'conv1'"):
            store.layer("conv2")
        with pytest.raises(UnknownNameError, match="0 to 1"):
            store.layer(2)
        with pytest.raises(DeconvvizValueError, match="unit 2 does not exist in conv1; allowed: 0 to 1"):
            store.top(0, 2)
        with pytest.raises(DeconvvizValueError, match="picture 5 does not exist"):
            store.picture(5)
        with pytest.raises(UnknownNameError, match="'unreadable'"):
            list(store.pictures("broken"))


def test_a_reader_sees_commits_and_a_snapshot_does_not(tmp_path: Path) -> None:
    writer = write(tmp_path / "s.db")
    with Store.open(tmp_path / "s.db") as store:
        with store.snapshot():
            assert store.done == 0
            writer.commit(0, progress(1, 1), 0.0)
            assert store.done == 0
        assert store.done == 1 and not store.complete
    writer.close()


def test_a_store_is_read_where_nothing_may_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    writer = write(folder / "s.db")
    writer.commit(0, progress(2, 2), 0.0)
    writer.close()
    (folder / "s.db").chmod(0o444)
    folder.chmod(0o555)
    try:
        with Store.open(folder / "s.db") as store:
            assert store.done == 2
    finally:
        folder.chmod(0o755)


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    write(tmp_path / "s.db").close()
    with Store.open(tmp_path / "s.db") as store, pytest.raises(sqlite3.OperationalError, match="readonly"):
        store._db.execute("DELETE FROM facts")


@pytest.mark.parametrize("opener", [Store, Writer])
def test_files_that_are_no_store(tmp_path: Path, opener: type[Store]) -> None:
    other = tmp_path / "other.db"
    for content in (b"not a database at all, but long enough to be looked at" * 40, b"x"):
        other.write_bytes(content)
        with pytest.raises(StoreError, match="is not a store"):
            opener.open(other)
        assert other.read_bytes() == content
    db = sqlite3.connect(tmp_path / "shop.db")
    db.execute("CREATE TABLE customers (name)")
    db.close()
    with pytest.raises(StoreError, match="is not a store"):
        opener.open(tmp_path / "shop.db")
    with pytest.raises(StoreError, match="no such store|does not exist"):
        opener.open(tmp_path / "nowhere" / "s.db")


def test_another_version_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "s.db").close()
    db = sqlite3.connect(tmp_path / "s.db")
    db.execute("UPDATE facts SET value = 99 WHERE key = 'format'")
    db.commit()
    db.close()
    with pytest.raises(StoreError, match="another version"):
        Store.open(tmp_path / "s.db")


def test_there_is_one_writer(tmp_path: Path) -> None:
    first = write(tmp_path / "s.db")
    (tmp_path / "link.db").symlink_to("s.db")
    for name in ("s.db", "link.db"):
        with pytest.raises(StoreError, match=rf"written by another scan \(process {os.getpid()}, this one\); wait"):
            Writer.open(tmp_path / name)
    first.commit(0, progress(1, 1), 0.0)
    assert first.done == 1
    first.close()
    second = Writer.open(tmp_path / "s.db")
    assert not second.new
    with pytest.raises(StoreError, match="another scan writes"):  # not what it went on from
        second.commit(0, progress(1, 1), 0.0)
    with pytest.raises(StoreError, match=r"another scan has just changed .*; try again"):
        second.begin("2026-01-02", "/photos", 1, {}, [("new.png", None)], known=1)
    assert second.count == 2 and len(second.runs()) == 1
    second.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.db", "s.db"]


def test_a_path_stands_in_a_store_once(tmp_path: Path) -> None:
    writer = write(tmp_path / "s.db")
    with pytest.raises(StoreError, match="UNIQUE"):
        writer.begin("2026-01-02", "/photos", 1, {}, [("new.png", None), ("a/x.png", None)])
    assert writer.count == 2 and len(writer.runs()) == 1, "all of it or nothing"
    writer.close()


def as_first_format(path: Path) -> sqlite3.Connection:
    """The same store as the first version wrote it."""
    db = sqlite3.connect(path, isolation_level=None)
    for statement in (
        "DROP TABLE checks", "DROP INDEX path_of_picture", "ALTER TABLE runs DROP COLUMN sum",
        "UPDATE facts SET value = '1' WHERE key = 'format'",
    ):  # fmt: skip
        db.execute(statement)
    return db


def test_an_old_store_is_read_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    writer = write(path)
    writer.commit(0, progress(1, 1), 1.0)
    writer.close()
    as_first_format(path).close()
    with Store.open(path) as store:
        assert store.facts["format"] == 1 and store.done == 1 and store.runs()[0].seconds == 1.0
    writer = Writer.open(path)
    writer.begin("2026-01-02", "/photos", 1, {}, [("new.png", None)])
    writer.commit(1, progress(2, 2), 1.0)
    writer.close()
    with Store.open(path) as store:
        assert store.facts["format"] == 2 and store.count == 3 and [r.id for r in store.runs()] == [1, 2]


def test_a_store_that_two_old_scans_doubled_is_said(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    write(path).close()
    db = as_first_format(path)
    db.execute("INSERT INTO pictures (id, path) VALUES (2, 'a/x.png')")
    db.close()
    said = r"two scans at once .*: 1 pictures .* \(the first: a/x.png\).*make it anew"
    with pytest.raises(StoreError, match=said):
        Store.open(path)
    writer = Writer.open(path)
    with pytest.raises(StoreError, match=said):
        writer.begin("2026-01-02", "/photos", 1, {}, [])
    writer.close()


def test_every_damaged_bit_that_changes_something_is_said(tmp_path: Path, hostile: int) -> None:
    """Against what a whole store says: a damaged one says the same, or is an error of ours."""
    path, bad = tmp_path / "s.db", tmp_path / "bad.db"
    writer = write(path)
    writer.commit(0, progress(2, 2), 1.5)
    writer.close()
    whole, said, chance = path.read_bytes(), everything(path), np.random.default_rng(0)
    errors = 0
    for _ in range(150 * hostile):
        data = bytearray(whole)
        at = int(chance.integers(16, len(data)))
        data[at : at + 8] = chance.integers(0, 256, 8, dtype=np.uint8).tobytes()
        bad.write_bytes(data)
        try:
            assert everything(bad) == said, f"damage at {at} changed what is read"
        except StoreError:
            errors += 1
    assert errors > 10


def everything(path: Path) -> str:
    """All that a store says."""
    with Store.open(path) as store:
        units = [[v.tobytes() for v in (u.mean, u.maximum, u.fires, u.histogram)] for u in map(store.units, (0, 1))]
        pictures = [list(store.pictures(among)) for among in ("all", "unreadable", "top")]
        tops = [store.tops(0), store.tops(1), store.units_of(0), store.units_of(1)]
        return repr((store.facts, store.layers(), store.runs(), store.folder, units, pictures, tops, store.complete))


def test_a_full_disk_leaves_the_last_commit(tmp_path: Path) -> None:
    writer = write(tmp_path / "s.db")
    writer.commit(0, progress(1, 1), 0.0)
    pages = writer._db.execute("PRAGMA page_count").fetchone()[0]
    writer._db.execute(f"PRAGMA max_page_count = {pages}")
    large = progress(2, 2)
    large.pictures = [(0, "x" * 100_000, 1, 1, None)]
    with pytest.raises(StoreError, match=r"full; what was committed before is intact"):
        writer.commit(1, large, 0.0)
    assert writer.done == 1 and writer.picture(0).label == "cat"
    writer._db.execute("PRAGMA max_page_count = 100000")
    writer.commit(1, large, 0.0)
    assert writer.done == 2
    writer.close()
