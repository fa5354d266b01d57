"""What a kept recording answers at once: an occluder moved by hand, a unit pointed at; in plain forward passes.

`python benchmarks/explore.py [--places 50] [--models vgg16 …] [--cpu-time]`; on a quiet machine. Alternates a plain
forward pass of the network (batch 1, eval, no_grad) and the question, at random places, and prints the medians and
their ratio. Where other work shares the processor, `--cpu-time` counts the time of this process alone: use it with
OMP_NUM_THREADS=1, since threads that wait for each other count as busy.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from occlusion import network, timed
from torch import Tensor, nn

import deconvviz

# What issue and README promise: the most that a question may cost, in plain passes.
OCCLUDERS = {
    "vgg16": 0.2, "zfnet": 0.35, "resnet50": 0.8, "alexnet": 1, "googlenet": 1, "resnet18": 1, "densenet121": 1,
    "mobilenet_v2": 1, "efficientnet_b0": 1, "convnext_tiny": 1, "swin_t": 1, "vit_b_16": 1,
}  # fmt: skip
UNITS = {("zfnet", "relu5"): 0.6, ("vgg16", "features.15"): 0.15, ("vgg16", "features.29"): 1}


def alternating(
    module: nn.Module, count: int, ask: Callable[[int], Any], picture: Callable[[int], Tensor]
) -> tuple[float, float, list[float]]:
    """Median seconds of a plain pass and of a question, and the ratio of every pair."""
    plain, asked = [], []
    for n in range(-3, count):  # the first ones warm up
        x = picture(n)
        with torch.no_grad():
            a = timed(lambda x=x: module(x))[0]
        b = timed(lambda n=n: ask(n))[0]
        if n >= 0:
            plain.append(a)
            asked.append(b)
    ratios = sorted(b / a for a, b in zip(plain, asked, strict=True))
    return statistics.median(plain), statistics.median(asked), ratios


def show(what: str, found: tuple[float, float, list[float]], most: float, more: str = "") -> None:
    """Print one line."""
    plain, asked, ratios = found
    middle, quarter = statistics.median(ratios), len(ratios) // 4
    spread = f"{ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f}"
    print(
        f"{what:28} pass {plain * 1e3:7.1f} ms   asked {asked * 1e3:7.1f} ms   ratio {asked / plain:5.2f} "
        f"(of pairs {middle:5.2f}, half of them {spread})   most {most:4.2f}{more}",
        flush=True,
    )


def occluder(name: str, window: int, places: int) -> None:
    """One network's occluder at random places, and how far its logits are from the plain pass."""
    module, x = network(name), torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    seconds, live = timed(lambda: deconvviz.record(module, x).occluder(window))
    chance = random.Random(0)
    at = {n: (chance.randrange(225 - window), chance.randrange(225 - window)) for n in range(-3, places)}

    def covered(n: int) -> Tensor:
        picture, (row, col) = x.clone(), at[n]
        picture[:, :, row : row + window, col : col + window] = 0
        return picture

    found = alternating(module, places, lambda n: live.at(*at[n]), covered)
    wrong = 0.0
    for n in range(min(places, 5)):
        with torch.no_grad():
            want = module(covered(n))[0]
        wrong = max(wrong, float((live.at(*at[n]).logits - want).abs().max() / want.abs().max().clamp_min(1e-30)))
    show(f"{name}, window {window}", found, OCCLUDERS[name], f"   difference {wrong:.0e}   made in {seconds:.2f} s")


def unit(name: str, layer: str, places: int) -> None:
    """One random unit at one random place of a layer, projected."""
    module, x = network(name), torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    rec, chance = deconvviz.record(module, x), random.Random(0)
    maps, height, width = rec.maps(layer).shape

    def ask(_: int) -> deconvviz.Projection:
        place = chance.randrange(height), chance.randrange(width)
        return rec.project(layer, units=[chance.randrange(maps)], place=place)

    show(f"{name} {layer}, one unit", alternating(module, places, ask, lambda _: x), UNITS[name, layer])


def main() -> None:
    """Run the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--places", type=int, default=50)
    parser.add_argument("--window", type=int, default=32)
    parser.add_argument("--models", nargs="+", default=list(OCCLUDERS), choices=list(OCCLUDERS))
    parser.add_argument("--cpu-time", action="store_true", help="seconds of this process alone")
    given = parser.parse_args()
    if given.cpu_time:
        time.perf_counter = time.process_time
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in given.models:
        occluder(name, given.window, given.places)
        for model, layer in UNITS:
            if model == name:
                unit(name, layer, given.places)


if __name__ == "__main__":
    main()
