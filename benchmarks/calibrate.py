"""What `deconvviz/engine/costs.py` would say if it were measured on this machine.

    python benchmarks/calibrate.py [--rounds 5] [--only STEP WEIGHT …]

Prints for every constant the value in the file, what this machine would choose, and the ratio of the two. The prices
are operations of a plain convolution, so that a fast machine and a slow one should agree; where a ratio is beyond 3 the
choice of batches and ways may be a few per cent off. Run it on a quiet machine. No answer depends on any of them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvviz.analyses.projection import project
from deconvviz.engine import costs
from deconvviz.engine.recorder import record
from deconvviz.engine.replay.replay import Replay
from deconvviz.engine.replay.run import run
from deconvviz.engine.replay.schedule import Schedule
from deconvviz.engine.replay.winograd import Winograd
from deconvviz.engine.windows import Patch, RecordedMap, Windows, paste

ROUNDS = 5


def seconds(call: Callable[[], object]) -> float:
    """The median time of a call, after one that warms up."""
    call()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def maps(*shape: int) -> Tensor:
    """Random numbers, channels last as a replay has them."""
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


def squares(count: int, side: int, full: int, apart: int = 1) -> Windows:
    """`count` square windows in a map of `full` × `full`, each `apart` further on."""
    corners = (np.arange(count) * apart) % (full - side + 1)
    return Windows(corners, corners.copy(), side, side, (full, full))


@lru_cache(maxsize=1)
def rate() -> float:
    """Operations a second of a plain convolution as a replay has many: 256 maps, windows of 14 × 14."""
    x, weight = maps(24, 256, 16, 16), maps(256, 256, 3, 3)
    return 2.0 * 24 * 14 * 14 * weight.numel() / seconds(lambda: F.conv2d(x, weight))


def multiplications(call: Callable[[], object]) -> float:
    """What a call costs in multiplications of a plain convolution (each with its addition)."""
    return seconds(call) * rate() / 2


@contextmanager
def constant(name: str, value: float) -> Iterator[None]:
    """Another value for one constant."""
    kept = getattr(costs, name)
    setattr(costs, name, value)
    try:
        yield
    finally:
        setattr(costs, name, kept)


def fastest(name: str, values: list[int], call: Callable[[], object]) -> float:
    """The value of a constant with which a call is fastest."""
    times = {}
    for value in values:
        with constant(name, value):
            times[value] = seconds(call)
    return float(min(times, key=lambda v: times[v]))


def first_faster(sizes: list[int], one: Callable[[int], object], other: Callable[[int], object]) -> float:
    """The first size for which the second way is faster."""
    return float(next((n for n in sizes if seconds(lambda n=n: other(n)) < seconds(lambda n=n: one(n))), sizes[-1]))


# Batches of a replay ------------------------------------------------------------------------------------------------


def step() -> float:
    """A replay of twenty convolutions that have next to nothing to multiply."""
    count = 20
    module = nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(count)), nn.Flatten(), nn.Linear(4 * 32 * 32, 1))
    rec = record(module.eval(), torch.randn(1, 4, 32, 32))
    assert rec.output is not None
    replay = Replay(rec, (rec.output,))
    schedule = Schedule(replay, np.arange(4), np.arange(4), (4, 4), 16)

    def once() -> None:
        def first(index: np.ndarray) -> Patch:
            at = Windows(index // 4, index % 4, 4, 4, (32, 32))
            return Patch(maps(len(index), 4, 4, 4), at)

        with torch.no_grad():
            list(run(schedule, first, lambda *_: None))

    return seconds(once) / (count + 2) * rate()


def weight() -> float:
    """A convolution with many weights and one place to make, less its arithmetic."""
    x, filters = maps(1, 512, 3, 3), maps(512, 512, 3, 3)
    return max(seconds(lambda: F.conv2d(x, filters)) * rate() / filters.numel() - 2, 0)


def spread() -> float:
    """Windows laid over whole maps."""
    table, at, windows = maps(1, 128, 56, 56), squares(16, 28, 56), maps(16, 128, 28, 28)

    def once() -> None:
        whole = table.new_empty(16, 56, 56, 128).permute(0, 3, 1, 2)
        whole.copy_(table.expand(16, -1, -1, -1))
        paste(whole, Windows.whole(16, at.size), windows, at)

    return seconds(once) * rate() / (16 * table.numel())


def plain() -> float:
    """A max pool, for each number that it makes."""
    x = maps(24, 128, 28, 28)
    return seconds(lambda: F.max_pool2d(x, 3, 2)) * rate() / (24 * 128 * 13 * 13)


def numbers() -> float:
    """The largest block of fresh memory that is hardly slower, number by number, than the fastest."""
    sizes = [1 << n for n in range(19, 26)]
    each = [seconds(lambda n=n: torch.ones(n).mul(2.0)) / n for n in sizes]
    return float(max(n for n, t in zip(sizes, each, strict=True) if t <= 1.25 * min(each)))


# Windows ------------------------------------------------------------------------------------------------------------


def nearly_whole() -> float:
    """The share of a map from which gathering its windows costs what the convolution of the rest would."""
    table, at, filters = RecordedMap(maps(1, 128, 28, 28)), squares(16, 26, 28), maps(128, 128, 3, 3)
    x = maps(16, 128, 28, 28)
    gathering = seconds(lambda: table.on(at)) / (26 * 26)
    convolution = seconds(lambda: F.conv2d(x, filters, padding=1)) / (28 * 28)
    return convolution / (convolution + gathering)


def difference() -> float:
    """A convolution that spreads changed windows against one of windows with their surroundings, place by place."""
    filters, changed, around = maps(128, 128, 3, 3), maps(24, 128, 14, 14), maps(24, 128, 16, 16)
    spreading = seconds(lambda: F.conv2d(changed, filters, padding=2)) / 14**2
    return spreading / (seconds(lambda: F.conv2d(around, filters)) / 14**2)


def large_sum() -> float:
    """From how many numbers on sums of windows in place, one by one, are faster than gathered ones."""
    sides = [4, 8, 12, 16, 24, 32, 48]
    value = maps(1, 64, 56, 56)
    table = RecordedMap(value)

    def gathered(side: int) -> None:
        at, inner = squares(16, side, 56), squares(16, side // 2, 56)
        windows = table.on(at)
        paste(windows, at, value.new_zeros(16, 64, side // 2, side // 2), inner)
        windows.add_(windows)

    def in_place(side: int) -> None:
        at, inner = squares(16, side, 56), squares(16, side // 2, 56)
        windows = value.new_zeros(16, side, side, 64).permute(0, 3, 1, 2)
        paste(windows, at, value.new_zeros(16, 64, side // 2, side // 2), inner, add=True)
        table.add_around(windows, at, inner)

    return 64 * first_faster(sides, gathered, in_place) ** 2


def copied_blocks() -> float:
    """From how many blocks on copies by index are faster than one by one."""

    def pasted(blocks: int) -> None:
        onto, patch = maps(256, 64, 8, 8), maps(256, 64, 6, 6)
        at = squares(256, 8, 56, 0)
        shift = np.arange(256) * blocks // 256 % 2
        paste(onto, at, patch, Windows(at.rows + shift, at.cols, 6, 6, at.size))

    def way(value: int) -> Callable[[int], None]:
        def call(blocks: int) -> None:
            with constant("COPIED_BLOCKS", value):
                pasted(blocks)

        return call

    return first_faster([2, 4, 8, 16, 32, 64, 128, 256], way(1 << 30), way(0))


# Tiles --------------------------------------------------------------------------------------------------------------


def tile_product() -> float:
    """A product at the points against as many multiplications of a convolution."""
    rows, filters = torch.randn(768, 512), torch.randn(512, 512)
    return multiplications(lambda: torch.addmm(filters[0], rows, filters)) / (768 * 512 * 512)


def tile_transform() -> float:
    """A transform: 36 points from 36 places."""
    spread_, cells = torch.randn(36, 36), torch.randn(36, 64 * 512)
    return multiplications(lambda: spread_ @ cells) / (36 * 36 * 64 * 512)


def tile_number() -> float:
    """A number carried from one place in memory to another."""
    table, index = torch.randn(4096, 512), torch.randperm(4096)
    return multiplications(lambda: table.index_select(0, index)) / table.numel()


def carried() -> float:
    """A number that is gathered for one window."""
    x = maps(1, 128, 60, 60)
    window = x[:, :, 5:45, 5:45]
    return seconds(lambda: window.clone(memory_format=torch.channels_last)) * rate() / window.numel()


def gather() -> float:
    """Calls that gather a window and lay a change into it, with next to nothing to carry."""
    x, change = maps(1, 4, 8, 8), maps(1, 4, 2, 2)

    def once() -> None:
        window = x[:, :, 1:5, 1:5].clone(memory_format=torch.channels_last)
        window[:, :, 1:3, 1:3].copy_(change)

    return seconds(once) * rate()


def tile_call() -> float:
    """A whole call, with next to nothing to do."""
    fast, x = Winograd(torch.randn(8, 8, 3, 3), None), maps(1, 8, 6, 6)
    return multiplications(lambda: fast(x))


def tile_filter() -> float:
    """A filter brought to the points."""
    filters = torch.randn(512, 512, 3, 3)
    return multiplications(lambda: Winograd(filters, None).filters) / 512**2


def tile_part() -> float:
    """How many numbers are worked on at once."""
    fast, x = Winograd(torch.randn(256, 256, 3, 3), None), maps(48, 256, 14, 14)
    with constant("TILE_PART_OF_FILTER", 0):
        return fastest("TILE_PART", [1 << n for n in range(17, 24)], lambda: fast(x, (1, 1)))


# Projections --------------------------------------------------------------------------------------------------------


def signal() -> float:
    """From how many numbers on a batch of units is split on its way back through 3×3 convolutions."""
    layers = [nn.Conv2d(3, 64, 3, padding=1), *(nn.Conv2d(64, 64, 3, padding=1) for _ in range(5))]
    module = nn.Sequential(*(part for conv in layers for part in (conv, nn.ReLU()))).eval()
    x = torch.randn(1, 3, 112, 112)
    sizes = [n * 250_000 for n in (1, 2, 4, 8, 16, 32)]
    return fastest("SIGNAL", sizes, lambda: project(module, x, "11", units=range(64)))


MEASURES: dict[str, Callable[[], float]] = {
    "STEP": step, "WEIGHT": weight, "SPREAD": spread, "PLAIN": plain, "NUMBERS": numbers,
    "NEARLY_WHOLE": nearly_whole, "DIFFERENCE": difference, "LARGE_SUM": large_sum, "COPIED_BLOCKS": copied_blocks,
    "CARRIED": carried, "GATHER": gather,
    "TILE_PRODUCT": tile_product, "TILE_TRANSFORM": tile_transform, "TILE_NUMBER": tile_number,
    "TILE_CALL": tile_call, "TILE_FILTER": tile_filter, "TILE_PART": tile_part, "SIGNAL": signal,
}  # fmt: skip


def main() -> None:
    """Measure and print."""
    global ROUNDS
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="times that each call is measured; the median counts"
    )
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES), metavar="NAME")
    given = parser.parse_args()
    ROUNDS = given.rounds
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {rate() / 1e9:.0f} GFLOP/s by convolutions")
    print(f"{'constant':16}{'costs.py':>14}{'here':>14}{'here / file':>14}")
    for name in given.only:
        here, kept = MEASURES[name](), getattr(costs, name)
        print(f"{name:16}{kept:14.4g}{here:14.4g}{here / kept:14.2f}", flush=True)


if __name__ == "__main__":
    main()
