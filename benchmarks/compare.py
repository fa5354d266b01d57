"""Deletion and insertion by incremental replay against the plain loop: the same pictures, the same answers.

`python benchmarks/compare.py [--rounds 3] [--steps 32] [--models vgg16 …]`; on a quiet machine. For each network,
method and question prints the ratio of the plain loop, batches of changed pictures through the network (up to the
unit's layer, in unit mode), to `deconvviz.analyses.comparison.changes.answers`, medians of alternating runs, how much
of the picture the windows around the changes cover on average, and the largest difference of an answer.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import models

import deconvviz
from deconvviz.analyses.comparison.changes import Changes, Grid, answers
from deconvviz.analyses.comparison.compute import _first_cells
from deconvviz.analyses.comparison.methods import signed_map
from deconvviz.analyses.comparison.question import Question, ask
from deconvviz.analyses.features import OUTPUT, features

MODELS = ("zfnet", "vgg16", "resnet18", "resnet50", "mobilenet_v2")
LAYERS = {
    "zfnet": "conv3",
    "vgg16": "features.15",
    "resnet18": "layer2",
    "resnet50": "layer2",
    "mobilenet_v2": "features.6",
}
METHODS = ("grad-cam", "occlusion", "gradient")
BATCH = 32


def network(name: str) -> nn.Module:
    """The network: ZFNet with its own weights, others without, their BatchNorms with statistics of their own."""
    torch.manual_seed(0)
    module = deconvviz.load("zfnet").module if name == "zfnet" else getattr(models, name)(weights=None)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, 0, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return module.eval()


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of one call."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def plain(net: deconvviz.Network, question: Question, layer: str, x: Tensor, changes: Changes, fill: Tensor) -> Tensor:
    """The same by making every picture and running the network on it."""
    box = changes.grid.box
    found = []
    for begin in range(0, len(changes), BATCH):
        several = []
        for k in range(begin, min(begin + BATCH, len(changes))):
            where = torch.zeros(x.shape[2:], dtype=torch.bool)
            where[box[0] : box[2], box[1] : box[3]] = torch.from_numpy(changes.mask(k))
            several.append(torch.where(where, fill, x[0]))
        batch = torch.stack(several)
        if layer == OUTPUT:
            with torch.no_grad():
                found.append(net.module(batch).double())
        else:
            assert question.place is not None
            value = features(net, batch, [layer], BATCH)[layer]
            found.append(value[:, question.number, question.place[0], question.place[1], None].double())
    return torch.cat(found)


def curves(question: Question, method: str, steps: int, block: int) -> Changes:
    """The pictures of one deletion curve."""
    grid = Grid(question.box, block)
    order = np.argsort(-grid.means(signed_map(question, method).abs()).numpy(), kind="stable")
    ranks = np.empty((1, len(grid)), np.int64)
    ranks[0, order] = np.arange(len(grid))
    return Changes(grid, *_first_cells(ranks, steps))


def compare(name: str, mode: str, method: str, steps: int, block: int, rounds: int) -> None:
    """Print one line."""
    module, x = network(name), deconvviz.load("zfnet").preprocess("demos/images/chelsea.jpg")
    layer = OUTPUT if mode == "class" else LAYERS[name]
    net = deconvviz.load("zfnet") if name == "zfnet" else deconvviz.Network(module)
    question = ask(net, x, layer=None if mode == "class" else layer, mode=mode)
    blurred = torch.nn.functional.avg_pool2d(x, 31, 1, 15)
    other = question.of(blurred)
    changes = curves(question, method, steps, block)

    def ours() -> Tensor:
        deleted = answers(question, changes, torch.zeros_like(x[0]), BATCH)
        return torch.cat([deleted, answers(other, changes, x[0], BATCH)])

    def loop() -> Tensor:
        deleted = plain(net, question, layer, x, changes, torch.zeros_like(x[0]))
        return torch.cat([deleted, plain(net, question, layer, blurred, changes, x[0])])

    ours()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for seconds, call in zip(times, (loop, ours), strict=True):
            took, answer = timed(call)
            seconds.append(took)
            if call is loop:
                reference = answer
    wrong = float((answer - reference).abs().max() / reference.abs().max())
    covered = statistics.mean(float(np.prod(changes.window(k)[2:])) for k in range(len(changes))) / x[0, 0].numel()
    median = [statistics.median(seconds) for seconds in times]
    print(
        f"{name:13} {mode:5} {method:10} block {block:2}: plain {median[0]:6.2f} s  replayed {median[1]:6.2f} s  "
        f"×{median[0] / median[1]:5.2f}  windows {covered:4.0%} of the picture  difference {wrong:.1e}",
        flush=True,
    )


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--block", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    given = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {given.steps} steps, deletion and insertion")
    for name in given.models:
        for mode in ("class", "unit"):
            for method in given.methods:
                for block in given.block:
                    compare(name, mode, method, given.steps, block, given.rounds)


if __name__ == "__main__":
    main()
