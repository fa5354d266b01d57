"""Occlusion against captum: the same positions, the same answers, medians of alternating runs.

`python benchmarks/occlusion.py [--rounds 3] [--stride 16 8] [--window 32] [--models vgg16 …]`; on a quiet machine.
Prints for each network the ratio of `captum.attr.Occlusion` (the better of 16 and 32 perturbations a forward pass) to
`deconvviz.occlude` and to `deconvviz.captum.Occlusion`, which is called as captum's, the share of the convolutions'
arithmetic that windows leave, and how far the time is from it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from captum.attr import Occlusion
from torch import Tensor, nn
from torchvision import models

import deconvviz
import deconvviz.captum

MODELS = ("vgg16", "googlenet", "zfnet", "resnet50", "resnet18", "alexnet", "mobilenet_v2", "efficientnet_b0")


def network(name: str) -> nn.Module:
    """The network without weights, its BatchNorms with statistics of their own."""
    torch.manual_seed(0)
    if name == "zfnet":
        # The paper's own, with wide fully connected layers and 1,000 classes.
        module = deconvviz.load("zfnet", weights="random", fc=(4096, 4096), classes=1000).module
    else:
        options = {"init_weights": False} if name == "googlenet" else {}
        module = getattr(models, name)(weights=None, **options)
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


def by_captum(method: Any, module: nn.Module, x: Tensor, target: int, window: int, stride: int, size: int) -> Tensor:
    """The attribution (C, H, W) by captum's class, or ours of that name."""
    with torch.no_grad():
        found: Tensor = method(module).attribute(
            x, (3, window, window), strides=(3, stride, stride), baselines=0, target=target, perturbations_per_eval=size
        )
    return found[0]


def compare(name: str, window: int, stride: int, rounds: int) -> None:
    """Print one line for one network."""
    module, x = network(name), torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        target = int(module(x).argmax())

    def ours() -> Any:
        return deconvviz.occlude(module, x, target=target, window=window, stride=stride, positions="captum")

    ours()
    times: dict[str, list[float]] = {"ours": [], "class": [], "16": [], "32": []}
    for _ in range(rounds):
        for size in (16, 32):
            seconds, reference = timed(lambda size=size: by_captum(Occlusion, module, x, target, window, stride, size))
            times[str(size)].append(seconds)
        seconds, result = timed(ours)
        times["ours"].append(seconds)
        seconds, same = timed(lambda: by_captum(deconvviz.captum.Occlusion, module, x, target, window, stride, 32))
        times["class"].append(seconds)
    median = {key: statistics.median(values) for key, values in times.items()}
    peer, size = min((median["16"], 16), (median["32"], 32))
    wrong = float((result.attribution() - reference).abs().max() / result.logits.abs().max())
    wrong = max(wrong, float((same - reference).abs().max() / result.logits.abs().max()))
    share = float(result.policy["arithmetic"])
    ratio = peer / median["ours"]
    print(
        f"{name:16} window {window} stride {stride:2}: {len(result):4} positions  captum({size}) {peer:7.2f} s  "
        f"deconvviz {median['ours']:7.2f} s  ×{ratio:5.2f}  arithmetic left {share:6.1%}  "
        f"deconvviz.captum ×{peer / median['class']:5.2f}  "
        f"reached {ratio * share:4.0%} of what it allows  difference {wrong:.1e}",
        flush=True,
    )


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=int, default=32)
    parser.add_argument("--stride", type=int, nargs="+", default=[16, 8])
    parser.add_argument("--models", nargs="+", default=MODELS)
    given = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for stride in given.stride:
        for name in given.models:
            compare(name, given.window, stride, given.rounds)


if __name__ == "__main__":
    main()
