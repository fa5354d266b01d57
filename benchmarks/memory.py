"""Memory of a projection against that of the plain forward pass to the same layer, each in a process of its own.

    python benchmarks/memory.py --rounds 1

Peak resident memory (`VmHWM` of /proc/self/status, so Linux only) beyond what the process had with the network and the
picture in it, and the ratio of the two, method by method. The forward pass is `module(x)` without gradients, ended at
the layer by a hook. Networks have random weights: memory does not depend on them. `estimate` is what `project` believes
before it starts, over what was measured.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import subprocess
import sys
import warnings
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

import deconvviz
from deconvviz.engine.memory import estimate

METHODS = ("deconvnet", "guided", "gradient")
# Network, layer, height and width of the picture.
CASES = (
    ("six", "5", 3000, 4000),
    ("six", "11", 1500, 2000),
    ("vgg16", "features.29", 750, 1000),
    ("resnet18", "layer4", 1500, 2000),
    ("zfnet", "relu5", 1500, 2000),
    ("mobilenet_v2", "features.17", 1500, 2000),
    ("convnext_tiny", "features.7", 750, 1000),
)
MB = 1 << 20


def network(name: str) -> nn.Module:
    """A network with random weights; "six" are six 3×3 convolutions of 16 maps."""
    torch.manual_seed(0)
    if name == "zfnet":
        return deconvviz.load("zfnet", weights="random").module
    if name == "six":
        channels = (3, 16, 16, 16, 16, 16, 16)
        pairs = [[nn.Conv2d(a, b, 3, padding=1), nn.ReLU()] for a, b in itertools.pairwise(channels)]
        return nn.Sequential(*(layer for pair in pairs for layer in pair)).eval()
    module: nn.Module = getattr(torchvision.models, name)(weights=None).eval()
    return module


class _Done(BaseException):
    pass


def forward(module: nn.Module, x: Tensor, layer: str) -> None:
    """The plain pass, as far as the layer."""

    def end(*_: object) -> None:
        raise _Done

    handle = module.get_submodule(layer).register_forward_hook(end)
    with torch.no_grad(), contextlib.suppress(_Done):
        module(x)
    handle.remove()


def peak() -> float:
    """Largest resident memory of this process so far, in MB."""
    # Not ru_maxrss, which begins at the size of the process that started this one.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024 / MB


def measure(what: str, name: str, layer: str, height: int, width: int) -> float:
    """MB that one pass or projection needs, or is believed to need; run in a process of its own."""
    module, small = network(name), torch.randn(1, 3, 64, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forward(module, small, layer)  # what libraries take once
        if what in METHODS:
            deconvviz.project(module, small, layer, top=1, method=what)
        x = torch.randn(1, 3, height, width)
        if what.startswith("estimate"):
            return estimate(module, x, layer, {}, (what.removeprefix("estimate-"), "add", "refused"), 1) / MB
        before = peak()
        if what == "forward":
            forward(module, x, layer)
        else:
            deconvviz.project(module, x, layer, top=1, batch=1, method=what)
    return peak() - before


def in_process(what: str, case: tuple[str, str, int, int]) -> float:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--measure", what, *map(str, case)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Parse the command line, measure case by case, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", type=int, nargs="*", default=range(len(CASES)), help="their numbers, from 0")
    parser.add_argument("--methods", nargs="*", default=METHODS, choices=METHODS)
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        what, name, layer, height, width = args.measure
        print(measure(what, name, layer, int(height), int(width)))
        return
    left = f"{'network':14} {'layer':12} {'picture':>10} {'forward MB':>11} {'method':>10}"
    print(f"{left} {'MB':>7} {'ratio':>6} {'estimate':>9}")
    for case in (CASES[number] for number in args.cases):
        plain = statistics.median(in_process("forward", case) for _ in range(args.rounds))
        for method in args.methods:
            ours = statistics.median(in_process(method, case) for _ in range(args.rounds))
            believed = in_process(f"estimate-{method}", case)
            name, layer, height, width = case
            left = f"{name:14} {layer:12} {f'{width}×{height}':>10} {plain:11.0f} {method:>10}"
            print(f"{left} {ours:7.0f} {ours / plain:6.2f} {believed / ours:9.2f}", flush=True)


if __name__ == "__main__":
    main()
