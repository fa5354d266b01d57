"""Throughput of a scan against the bare forward pass to the same layer with the same loader, in one run.

    python benchmarks/scan.py --images photos/

The bare pass reads the same blocks of pictures with the same number of processes, runs the network up to the layer on
all threads and throws the result away. Both take turns, several times each; the ratio of the medians is printed. The
scan writes its store, commits included. Beside the clock the processors' own time is compared, workers included: it is
what a scan costs more, and hardly depends on what else a machine does.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import torch

import deconvviz
from deconvviz.scanning.plan import make_plan
from deconvviz.scanning.run import load_blocks
from deconvviz.scanning.sources import Blocks


class _Stop(BaseException):
    """Ends the bare pass at the layer."""


def bare(net: deconvviz.Network, blocks: Blocks, path: str, workers: int | None) -> int:
    """Run every block to the module `path` and return how many pictures that were."""

    def stop(*_: object) -> None:
        raise _Stop

    handle = net.module.get_submodule(path).register_forward_hook(stop)
    count = 0
    try:
        with torch.inference_mode():
            for block in load_blocks(blocks, range(len(blocks)), workers):
                try:
                    net.module(block.inputs)
                except _Stop:
                    count += len(block.pictures)
    finally:
        handle.remove()
    return count


def scan(net: deconvviz.Network, files: list[Path], layers: list[str], batch: int, workers: int | None) -> int:
    """Scan into a new store and return how many pictures that were."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.db"
        with deconvviz.scan(net, files, layers, store=path, batch=batch, workers=workers) as store:
            return store.count


def compare(net: deconvviz.Network, files: list[Path], layers: list[str], options: argparse.Namespace) -> float:
    """Print and return the ratio for one choice of layers; `files` are read once before, for both."""
    with tempfile.TemporaryDirectory() as folder:
        plan, writer = make_plan(net, files, layers, 9, 1, options.batch, 1, Path(folder) / "plan.db")
        writer.close()
    last = plan.taps[-1].module
    assert last is not None
    blocks = Blocks(plan.source(net, files), len(plan.names), plan.batch, plan.shape, plan.dtype)
    speeds: dict[str, list[float]] = {"bare": [], "scan": []}
    costs: dict[str, list[float]] = {"bare": [], "scan": []}
    for turn in range(options.repeat + 1):
        for name in speeds:
            begun, used = time.perf_counter(), spent()
            if name == "bare":
                count = bare(net, blocks, last, options.workers)
            else:
                count = scan(net, files, layers, options.batch, options.workers)
            if turn:  # the first turn warms up
                speeds[name].append(count / (time.perf_counter() - begun))
                costs[name].append((spent() - used) / count)
    ratios = [s / b for s, b in zip(speeds["scan"], speeds["bare"], strict=True)]
    speed = {name: statistics.median(values) for name, values in speeds.items()}
    cost = {name: statistics.median(values) for name, values in costs.items()}
    print(
        f"layers {','.join(layers):10} bare {speed['bare']:6.1f} pictures/s, scan {speed['scan']:6.1f} pictures/s, "
        f"ratio {speed['scan'] / speed['bare']:.2f} (pairs {min(ratios):.2f} to {max(ratios):.2f}); "
        f"processor time {1000 * cost['bare']:.1f} and {1000 * cost['scan']:.1f} ms a picture, "
        f"ratio {cost['bare'] / cost['scan']:.2f}",
        flush=True,
    )
    return speed["scan"] / speed["bare"]


def spent() -> float:
    """Seconds of processor time of this process and of its children that have ended."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(p.ru_utime + p.ru_stime for p in parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--model", default="zfnet")
    parser.add_argument("--count", type=int, default=512, help="pictures, evenly spread over the folder")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, help="processes that read pictures; default: as a scan chooses")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--layers", action="append", help="one choice, such as 5 or 1,2,3; may be repeated")
    options = parser.parse_args()
    net = deconvviz.load(options.model)
    found = sorted(p for p in options.images.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    files = found[:: max(1, len(found) // options.count)][: options.count]
    choices = options.layers or ["1", "5", "1,2,3,4,5"]
    print(
        f"{options.model}, {len(files)} pictures, batch {options.batch}, {torch.get_num_threads()} threads", flush=True
    )
    ratios = [compare(net, files, choice.split(","), options) for choice in choices]
    print(f"lowest ratio {min(ratios):.2f}; asked for: 0.90")


if __name__ == "__main__":
    main()
