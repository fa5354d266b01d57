"""Two scans of one store at one time: one writes, the other one says who does; nothing is ever doubled."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import deconvviz
from deconvviz import Network, StoreError
from deconvviz.scanning.lock import SUFFIX, Lock
from deconvviz.scanning.store import Store

Forked = Callable[[Callable[[], object]], int]
Write = Callable[..., list[Path]]


def test_races_of_two_and_three_scans(
    net: Network, folder: Path, tmp_path: Path, write_pictures: Write, forked: Forked, hostile: int
) -> None:
    def scan(path: Path) -> None:
        deconvviz.scan(net, folder, ["1", "2"], store=path, batch=4, workers=0, save_every=0).close()

    def refused() -> None:
        try:
            scan(path)
        except StoreError as error:
            assert "is being written by another scan (" in str(error)  # of one that has just begun no more is known
            os._exit(3)

    path, chance = tmp_path / "s.db", random.Random(0)
    lost = 0
    for race in range(6 * hostile):
        if race % 4 == 2:
            write_pictures(folder, 4, start=200 + 10 * race)  # the folder has grown
        if race % 4 == 0:
            path.unlink(missing_ok=True)
        children = []
        for _ in range(2 + race % 2):
            children.append(forked(refused))
            time.sleep(chance.uniform(0, 0.01))
        ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert 0 in ended and set(ended) <= {0, 3}
        lost += ended.count(3)
        with Store.open(path) as store:
            names = [p.path for p in store.pictures()]
            assert store.complete and len(names) == len(set(names)) and store.units(0).count == store.count - 1
    assert lost, "no two scans ever met"
    assert not list(tmp_path.glob(f"*{SUFFIX}"))


def test_the_lock_dies_with_its_process(tmp_path: Path, forked: Forked) -> None:
    path, ready = tmp_path / "s.db", tmp_path / "ready"

    def hold() -> None:
        Lock.take(path)
        ready.touch()
        time.sleep(60)

    child = forked(hold)
    while not ready.exists():
        time.sleep(0.01)
    with pytest.raises(StoreError, match=rf"another scan \(process {child} on .*, since 20.*\)"):
        Lock.take(path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert path.with_name(path.name + SUFFIX).exists(), "what it left is no lock"
    lock = Lock.take(path)
    lock.release()
    lock.release()
    assert not path.with_name(path.name + SUFFIX).exists()


def test_a_child_of_the_holder_neither_holds_nor_releases(tmp_path: Path, forked: Forked) -> None:
    lock = Lock.take(tmp_path / "s.db")

    def try_it() -> None:
        lock.release()
        with pytest.raises(StoreError, match=f"process {os.getppid()} on"):
            Lock.take(tmp_path / "s.db")

    assert os.waitstatus_to_exitcode(os.waitpid(forked(try_it), 0)[1]) == 0
    with pytest.raises(StoreError, match="this one"):
        Lock.take(tmp_path / "s.db")
    lock.release()


def test_the_lock_is_given_up_when_a_scan_fails(net: Network, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(deconvviz.UnknownNameError):
        deconvviz.scan(net, folder, ["nine"], store=tmp_path / "s.db")
    assert [p.name for p in tmp_path.iterdir()] == [folder.name], "nothing is written"
    deconvviz.scan(net, folder, ["1"], store=tmp_path / "s.db", batch=4).close()
    assert not (tmp_path / f"s.db{SUFFIX}").exists()
