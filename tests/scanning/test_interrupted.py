"""A scan that is killed, stopped, or out of disk goes on later and ends with the very same content."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import deconvviz
from deconvviz import Network, StoreError
from deconvviz.scanning import writer
from deconvviz.scanning.store import Store

Content = Callable[[Path], dict[str, list[tuple[object, ...]]]]
Write = Callable[..., list[Path]]
Forked = Callable[[Callable[[], object]], int]


def test_killed_at_random_moments(
    net: Network, folder: Path, tmp_path: Path, content: Content, write_pictures: Write, forked: Forked, hostile: int
) -> None:
    write_pictures(folder, 50, start=100)
    path = tmp_path / "s.db"

    def scan(path: Path) -> None:
        deconvviz.scan(net, folder, ["1", "2"], store=path, batch=2, workers=0, save_every=0).close()

    scan(tmp_path / "whole.db")
    expected = content(tmp_path / "whole.db")
    begun = time.monotonic()
    scan(tmp_path / "again.db")
    whole = time.monotonic() - begun
    chance, stages, rounds = random.Random(0), [], 0
    for kills in range(400 * hostile):
        child = forked(lambda: scan(path))
        time.sleep(chance.uniform(0, 0.6 * whole * 1.05 ** max(kills - 18, 0)))  # a machine may be slower by now
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if not writer.blank(path):
            with Store.open(path) as found:
                stages.append(found.done)
                finished = found.complete and found.count > 0
            if finished:
                scan(path)
                assert content(path) == expected
                path.unlink()
                rounds += 1
        if rounds and kills > 18 * hostile and len(set(stages) - {0, 61}) > 3:
            break
    assert rounds, f"never finished: {stages}"
    assert len(set(stages) - {0, 61}) > 3, "no kill hit a scan under way"
    scan(path)
    assert content(path) == expected


def test_a_full_disk(net: Network, folder: Path, tmp_path: Path, content: Content, write_pictures: Write) -> None:
    write_pictures(folder, 40, start=100)
    deconvviz.scan(net, folder, ["1", "2"], store=tmp_path / "whole.db", batch=4).close()
    expected = content(tmp_path / "whole.db")
    path = tmp_path / "s.db"
    with Store.open(tmp_path / "whole.db") as found:
        pages = found._db.execute("PRAGMA page_count").fetchone()[0]
    plain, limits = writer._connect, iter(range(pages - 8, pages))
    stops = 0

    def narrow(path: Path) -> sqlite3.Connection:
        db = plain(path)
        db.execute(f"PRAGMA max_page_count = {next(limits, 100000)}")
        return db

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "_connect", narrow)
        while True:
            try:
                deconvviz.scan(net, folder, ["1", "2"], store=path, batch=4, save_every=0).close()
                break
            except StoreError as error:
                assert str(error).startswith(f"cannot write the store {path}: database or disk is full")
                stops += 1
    assert stops > 1 and content(path) == expected


def test_a_file_that_may_not_grow(
    net: Network, folder: Path, tmp_path: Path, write_pictures: Write, forked: Forked
) -> None:
    """The disk refuses the log itself: the limit on a file's size stands in for it."""
    write_pictures(folder, 40, start=100)
    path = tmp_path / "s.db"

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
        with pytest.raises(StoreError, match="cannot write the store .* intact"):
            deconvviz.scan(net, folder, ["1", "2"], store=path, batch=2, workers=0, save_every=0)

    assert os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1]) == 0
    with Store.open(path) as found:
        assert 0 <= found.done < 51
    with deconvviz.scan(net, folder, ["1", "2"], store=path, batch=2) as done:
        assert done.complete and done.units(0).count == 50


def test_stopped_by_hand(net: Network, folder: Path, tmp_path: Path, content: Content) -> None:
    deconvviz.scan(net, folder, ["1", "2"], store=tmp_path / "whole.db", batch=2).close()
    path = tmp_path / "s.db"

    def stop(done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deconvviz.scan(net, folder, ["1", "2"], store=path, batch=2, report=stop)
    with Store.open(path) as found:
        assert found.done == 4 and found.runs()[0].ended is None, "all that was added up is kept"
    deconvviz.scan(net, folder, ["1", "2"], store=path).close()
    assert content(path) == content(tmp_path / "whole.db")
