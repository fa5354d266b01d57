"""Several processes share a scan; the store is the very same as one process makes."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import deconvviz
from deconvviz import Network, StoreError
from deconvviz.scanning.store import Store
from deconvviz.scanning.writer import blank

Content = Callable[[Path], dict[str, list[tuple[object, ...]]]]
Write = Callable[..., list[Path]]


def together(size: int, work: Callable[[int], object]) -> list[int]:
    """Run `work(rank)` in `size` child processes and return their numbers."""
    children = []
    for rank in range(size):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of forking a process with threads: the child uses none of them
            child = os.fork()
        if not child:
            status = 1
            try:
                torch.set_num_threads(1)
                warnings.simplefilter("ignore")
                work(rank)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    return children


def statuses(children: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def join(rank: int, size: int, meeting: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)


@pytest.fixture
def expected(net: Network, folder: Path, tmp_path: Path, content: Content, write_pictures: Write) -> object:
    write_pictures(folder, 20, start=100)
    deconvviz.scan(net, folder, ["1", "2"], top=4, store=tmp_path / "one.db", batch=3).close()
    return content(tmp_path / "one.db")


@pytest.mark.parametrize("size", [2, 3])
def test_as_one_process(
    net: Network, folder: Path, tmp_path: Path, content: Content, expected: object, size: int
) -> None:
    path = tmp_path / "many.db"

    def work(rank: int) -> None:
        join(rank, size, tmp_path / "meeting")
        for save_every in (0, 10):
            with deconvviz.scan(net, folder, ["1", "2"], top=4, store=path, batch=3, save_every=save_every) as store:
                assert store.complete and store.runs()[-1].processes == size
        dist.destroy_process_group()

    assert statuses(together(size, work)) == [0] * size
    assert content(path) == expected


def test_as_torchrun_starts_them(
    net: Network, folder: Path, tmp_path: Path, content: Content, expected: object
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def work(rank: int) -> None:
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        os.environ.update({k: str(v) for k, v in places.items()}, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        deconvviz.scan(net, folder, ["1", "2"], top=4, store=tmp_path / "many.db", batch=3).close()
        assert not dist.is_initialized()

    assert statuses(together(2, work)) == [0, 0]
    assert content(tmp_path / "many.db") == expected


def test_killed_together_and_gone_on_with_fewer(
    net: Network, folder: Path, tmp_path: Path, content: Content, expected: object
) -> None:
    path = tmp_path / "many.db"

    def slow(rank: int) -> None:
        join(rank, 3, tmp_path / "three")
        passes = itertools.count(1)

        def stop_at_third(*_: object) -> None:
            if next(passes) > 3:  # the first may be the recording's
                threading.Event().wait()

        net.module.conv2.register_forward_hook(stop_at_third)
        deconvviz.scan(net, folder, ["1", "2"], top=4, store=path, batch=3, workers=0, save_every=0)

    children = together(3, slow)
    while all(os.waitpid(child, os.WNOHANG) == (0, 0) for child in children):
        time.sleep(0.02)
        if not blank(path):
            with Store.open(path) as store:
                if store.done:
                    break
    for child in children:
        os.kill(child, signal.SIGKILL)
    assert set(statuses(children)) == {-signal.SIGKILL}
    with Store.open(path) as store:
        assert 0 < store.done < 31 and store.done % 9 == 0

    def work(rank: int) -> None:
        join(rank, 2, tmp_path / "two")
        deconvviz.scan(net, folder, ["1", "2"], top=4, store=path, batch=3).close()

    assert statuses(together(2, work)) == [0, 0]
    assert content(path) == expected


def test_an_error_of_the_first_is_one_of_all(net: Network, folder: Path, tmp_path: Path, expected: object) -> None:
    def work(rank: int) -> None:
        join(rank, 2, tmp_path / "meeting")
        with pytest.raises(StoreError, match="made with top 4, not 5"):
            deconvviz.scan(net, folder, ["1", "2"], top=5, store=tmp_path / "one.db")

    assert statuses(together(2, work)) == [0, 0]
