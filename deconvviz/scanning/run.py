"""`scan()`: blocks of pictures through the network, their tallies added up, commits to the store."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

from deconvviz.engine.capture import TappedModel
from deconvviz.engine.passes import ForAllThreads, eager
from deconvviz.errors import DeconvvizError, DeconvvizValueError, StoreError, check_counts
from deconvviz.network.network import Network
from deconvviz.processes import Team, team
from deconvviz.progress import Progress, Report, heard
from deconvviz.scanning.block import Part, look
from deconvviz.scanning.plan import Plan, make_plan, now
from deconvviz.scanning.rows import StoreLayer
from deconvviz.scanning.sources import Blocks, PictureBlock, PictureSource, Told
from deconvviz.scanning.store import Store
from deconvviz.scanning.tally import Tally
from deconvviz.scanning.writer import Commit, Writer

Spot = tuple[int, int, int, float]  # picture, row, column, activation
_MOST_THREADS = 16  # each holds the activations of one block


def scan(
    model: Network | nn.Module,
    images: Any,
    layers: str | nn.Module | Sequence[str | nn.Module],
    top: int = 9,
    *,
    store: str | os.PathLike[str],
    per_picture: int = 1,
    batch: int | None = None,
    workers: int | None = None,
    save_every: float = 10.0,
    progress: Progress = None,
    report: Report | None = None,
) -> Store:
    """Find the `top` strongest places of every unit of `layers` over many pictures, with statistics (Fig. 2).

    `images`: a folder (its sub-folders are class labels if there are several), a list of files, or a torch data set
    with a length (items: a preprocessed tensor (C, H, W) or a PIL image, alone or with a label). `layers`: one or more
    aliases, module paths or modules. At most `per_picture` places of one picture are kept for a unit; ties go to the
    lower picture number, then to raster order. `store` is one SQLite file: if it exists the scan goes
    on from where it ended, and takes in pictures that are new in the folder. A picture that cannot be read, or whose
    activations are not finite, is listed in the store and left out.

    Pictures run in blocks of `batch` (default 32) by their number, the last one padded, each block on one thread with
    a copy of the model that shares its weights; so the content of the store does not depend on threads, `workers`
    (processes that read pictures; None: by the processor), interruptions, or the number of processes: under
    `torchrun`, or with `torch.distributed` set up, the processes share the blocks, and the first one writes. Every
    `save_every` seconds all that is done is committed; `progress` is True for a bar, or called
    with the pictures done and in all after every block, as `report` is, its older name.

    Returns the store, open for reading. Raises `StoreError` for a store of another model, weights, preprocessing,
    layers or options, or one that cannot be written; `UnknownNameError`, `DeconvvizTypeError`, `DeconvvizValueError`,
    `ImageError` for what is given. The model is left exactly as it was.

    >>> store = deconvviz.scan(deconvviz.load("zfnet"), "photos", ["conv2"], top=2, store="scan.db")
    >>> store.count, store.layer("conv2").maps, len(store.top("conv2", 7))
    (4, 256, 2)
    >>> store.close()
    """
    check_counts(top=top, per_picture=per_picture, batch=1 if batch is None else batch)
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 0):
        raise DeconvvizValueError(f"workers is {workers!r}; allowed: None or a whole number from 0")
    net = Network.of(model)
    path = Path(store)
    with team() as processes, contextlib.ExitStack() as stack:
        plan, writer = _together(
            processes, lambda: make_plan(net, images, layers, top, per_picture, batch, processes.size, path)
        )
        if writer is None:
            Store.open(path).close()  # that this process cannot see the store is better said now than at the end
        else:
            stack.callback(writer.close)
        told = stack.enter_context(heard(report if progress is None else progress, "pictures"))
        job = _Job(net, plan, processes, writer, save_every, told)
        with one_thread_each:
            job.run(plan.source(net, images), workers)
        processes.tell(None)  # the others read the store only when it is finished
    return Store.open(path)


def _together(team: Team, make: Callable[[], tuple[Plan, Writer]]) -> tuple[Plan, Writer | None]:
    """The leader makes the plan and opens the store; an error of its is raised in every process."""
    plan: Plan | None = None
    writer: Writer | None = None
    error: DeconvvizError | None = None
    if team.leads:
        try:
            plan, writer = make()
        except DeconvvizError as caught:
            error = caught
    plan, error = team.tell((plan, error))
    if error is not None:
        raise error
    assert plan is not None
    return plan, writer


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Every operator on one thread: how its sums are cut up for several would change their last bits.

    What is compiled runs eagerly, as it was recorded.
    """
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    torch.set_num_threads(1)
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        with eager:
            yield
    finally:
        torch.set_num_threads(threads)
        cudnn.benchmark, cudnn.deterministic = before


one_thread_each = ForAllThreads(_one_thread_each)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until what is inside is done: a tally that is half added up could not be kept."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if caught:
        handler(*caught[0])


class _Job:
    """One process's part of a scan; the leader's holds the tally of everything and writes the store."""

    def __init__(
        self, net: Network, plan: Plan, team: Team, writer: Writer | None, save_every: float,
        report: Report | None,
    ) -> None:  # fmt: skip
        self.plan, self.team, self.writer = plan, team, writer
        self.save_every, self.report = save_every, report
        self.tally = plan.nothing() if writer is None else _stored(writer, plan)
        self.floor: NDArray[np.float64] = team.tell(self.tally.places.floor.copy())
        self.started = self.saved = time.monotonic()
        self.done = self.committed = plan.done
        self.changed = np.zeros(plan.units, dtype=bool)
        self.told: list[Told] = []
        self.sound = True  # whether the tally is that of the first `done` pictures
        self.probes = _probes(net, plan)

    def run(self, source: PictureSource, workers: int | None) -> None:
        """Scan what is left, period by period: each process its blocks, then all tallies to the leader."""
        plan, team = self.plan, self.team
        blocks = Blocks(source, len(plan.names), plan.batch, plan.shape, plan.dtype)
        first = plan.done // plan.batch if plan.done < len(plan.names) else len(blocks)
        period = 1
        mine = range(first + team.rank, len(blocks), team.size)
        try:
            with contextlib.closing(self._results(blocks, mine, workers)) as results:
                while first < len(blocks):
                    begun = time.monotonic()
                    last = min(first + period * team.size, len(blocks))
                    part = self._part(results, len(range(first + team.rank, last, team.size)), last)
                    self._join(part, min(last * plan.batch, len(plan.names)))
                    first, period = last, self._next(period, time.monotonic() - begun)
        except StoreError:
            raise
        except BaseException:
            with contextlib.suppress(StoreError):
                self._commit()  # what is added up so far is worth keeping
            raise
        self._commit(ended=now())

    def _results(self, blocks: Blocks, numbers: Sequence[int], workers: int | None) -> Generator[Part, None, None]:
        """What each of these blocks gives, in their order, while threads are at work on the next ones."""
        loader = load_blocks(blocks, numbers, workers)
        free: queue.SimpleQueue[TappedModel] = queue.SimpleQueue()
        for probe in self.probes:
            free.put(probe)

        def work(block: PictureBlock) -> Part:
            if block.fault is not None:
                raise block.fault
            probe = free.get()
            try:
                return look(probe, block, self.plan, self.floor)
            finally:
                free.put(probe)

        waiting: deque[Future[Part]] = deque()
        with ThreadPoolExecutor(len(self.probes)) as pool:
            try:
                for block in loader:
                    waiting.append(pool.submit(work, block))
                    if len(waiting) > len(self.probes):
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _part(self, results: Iterator[Part], count: int, last: int) -> Part:
        """The next `count` blocks of this process, added up."""
        total: Part = (self.plan.nothing(), [])
        for _ in range(count):
            tally, told = next(results)
            total[0].add(tally)
            total[1].extend(told)
            if self.report is not None and self.team.leads:
                near = self.done + len(total[1]) * self.team.size
                self.report(min(near, last * self.plan.batch, len(self.plan.names)), len(self.plan.names))
        return total

    def _join(self, part: Part, done: int) -> None:
        """Every process's part to the leader, which adds them up and commits when it is time."""
        parts = self.team.collect(part)
        if self.team.leads:
            with uninterrupted():
                self.sound = False
                for tally, told in parts:
                    self.changed |= self.tally.add(tally)
                    self.told.extend(told)
                self.done, self.sound = done, True
            if self.team.size > 1 or time.monotonic() - self.saved >= self.save_every:
                self._commit()
        self.floor = self.team.tell(self.tally.places.floor.copy())

    def _next(self, period: int, seconds: float) -> int:
        """Blocks of each process until all meet again: one process alone looks at the clock after every block."""
        wanted = 1 if self.team.size == 1 else int(period * self.save_every / max(seconds, 1e-6))
        return self.team.tell(max(1, min(wanted, 2 * period)))

    def _commit(self, ended: str | None = None) -> None:
        if self.writer is None or not self.sound or (ended is None and self.done == self.committed):
            return
        top = _rows(self.tally, self.plan, np.flatnonzero(self.changed))
        commit = Commit(self.done, self.tally, top, self.told)
        self.writer.commit(self.committed, commit, time.monotonic() - self.started, ended)
        self.committed, self.told = self.done, []
        self.changed[:] = False
        self.saved = time.monotonic()


def _probes(net: Network, plan: Plan) -> list[TappedModel]:
    """A copy of the model for each thread; one on an accelerator, whose kernels run in parallel themselves."""
    module = net.plain
    on_processor = all(p.device.type == "cpu" for p in module.parameters())
    threads = min(torch.get_num_threads(), _MOST_THREADS) if on_processor else 1
    first = TappedModel(module, plan.taps)
    return [first] if first.alone else [first, *(TappedModel(module, plan.taps) for _ in range(threads - 1))]


def load_blocks(blocks: Blocks, numbers: Sequence[int], workers: int | None) -> Iterable[PictureBlock]:
    """Read these blocks in their order; `workers` processes read ahead (None: by processor and number of blocks)."""
    if workers is None:
        cores = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        workers = min(8, max(1, cores // 2)) if len(numbers) > 2 else 0
    workers = min(workers, len(numbers))
    # A generator of its own: the loader would draw a seed from the caller's.
    own = torch.Generator()
    return DataLoader(blocks, batch_size=None, sampler=numbers, num_workers=workers, generator=own)


def _stored(writer: Writer, plan: Plan) -> Tally:
    """The tally as of the store's last commit."""
    tally = plan.nothing()
    parts = writer.parts()
    if parts is None:
        return tally
    units = [writer.units(layer) for layer in plan.layers]
    tally.count = units[0].count
    tally.parts = parts.astype(np.int64)
    tally.maximum = np.nan_to_num(np.concatenate([u.maximum for u in units]), nan=-np.inf)
    tally.fires = np.concatenate([u.fires for u in units])
    tally.histogram = np.concatenate([u.histogram for u in units])
    places = tally.places
    for layer, offset in zip(plan.layers, plan.offsets, strict=False):
        for place in (p for unit in writer.tops(layer) for p in unit):
            at = (offset + place.unit, place.rank)
            places.activations[at], places.pictures[at] = place.activation, place.picture
            places.spots[at] = place.row * _width(layer) + place.col
    return tally


def _rows(tally: Tally, plan: Plan, units: NDArray[np.intp]) -> list[tuple[int, int, list[Spot]]]:
    """The lists of some units as rows of the store."""
    owner = np.searchsorted(plan.offsets, units, side="right") - 1
    places, rows = tally.places, []
    for unit, number in zip(units.tolist(), owner.tolist(), strict=True):
        layer = plan.layers[number]
        width = _width(layer)
        columns = (places.pictures[unit], places.spots[unit], places.activations[unit])
        spots = [
            (picture, spot // width, spot % width, activation)
            for picture, spot, activation in zip(*(c.tolist() for c in columns), strict=True)
            if activation > -np.inf
        ]
        rows.append((layer.id, unit - int(plan.offsets[number]), spots))
    return rows


def _width(layer: StoreLayer) -> int:
    return 1 if layer.size is None else layer.size[1]
