"""Projection against captum's NeuronDeconvolution: one image, K units in one call, time per unit, in one run.

    python benchmarks/projection.py --model vgg16 --layers relu2_2 relu3_3 relu4_3 relu5_3

Alternates the two, checks that their answers agree, and prints medians, spread and the ratio. captum takes one unit a
call, so a few units are timed. Networks have random weights: time does not depend on them. captum differentiates the
contrast normalisation of ZFNet, which the DeconvNet passes by: for the answers to be comparable captum gets a twin of
the network, equal forwards, whose normalisation passes the signal on as it is.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import warnings
from collections.abc import Callable

import torch
import torchvision
from captum.attr import NeuronDeconvolution
from torch import Tensor, nn

import deconvviz

VGG = {"relu2_2": "features.8", "relu3_3": "features.15", "relu4_3": "features.22", "relu5_3": "features.29"}
RESNET = {f"layer{n}": f"layer{n}" for n in (1, 2, 3, 4)}
ZFNET = {f"conv{n}": f"relu{n}" for n in (1, 2, 3, 4, 5)}


def network(name: str) -> tuple[nn.Module, dict[str, str]]:
    """A network with random weights, and its layers by short name."""
    torch.manual_seed(0)
    if name == "zfnet":
        return deconvviz.load("zfnet", weights="random").module, ZFNET
    return getattr(torchvision.models, name)(weights=None).eval(), VGG if name == "vgg16" else RESNET


class PassedBy(nn.Module):
    """A module whose values count and whose derivative is taken to be 1."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """The inner module's output."""
        return x + (self.inner(x) - x).detach()


def twin(module: nn.Module) -> nn.Module:
    """`module` itself, or a copy in which the derivative of contrast normalisation is 1."""
    normalisations = [path for path, m in module.named_modules() if isinstance(m, nn.LocalResponseNorm)]
    if not normalisations:
        return module
    module = copy.deepcopy(module)
    for path in normalisations:
        parent, _, name = path.rpartition(".")
        setattr(module.get_submodule(parent), name, PassedBy(module.get_submodule(path)))
    return module


def timed(run: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def captum_units(module: nn.Module, image: Tensor, path: str, p: deconvviz.Projection, units: list[int]) -> Tensor:
    """captum's attribution of some units of `p`, one call each."""
    method = NeuronDeconvolution(module, module.get_submodule(path))
    selectors = [(int(p.units[k]), *p.places[k].tolist()) for k in units]
    return torch.cat([method.attribute(image.clone().requires_grad_(), s) for s in selectors])


def compare(module: nn.Module, image: Tensor, path: str, count: int, rounds: int, sample: int) -> dict[str, float]:
    """Median seconds a unit of both, their ratio, its spread, and the largest relative difference."""

    def ours() -> deconvviz.Projection:
        return deconvviz.project(module, image, path, units=list(range(count)))

    peer = twin(module)
    p = ours()
    live = [k for k in range(count) if p.activations[k] != 0][:sample]
    theirs = captum_units(peer, image, path, p, live) * p.activations[live].view(-1, 1, 1, 1)
    error = float((theirs - p.pixels[live]).abs().amax() / theirs.abs().amax())
    mine, other = [], []
    for _ in range(rounds):
        mine.append(timed(ours) / count)
        other.append(timed(lambda: captum_units(peer, image, path, p, live)) / len(live))
    ratios = sorted(b / a for a, b in zip(mine, other, strict=True))
    a, b = statistics.median(mine), statistics.median(other)
    return {"ours": a, "captum": b, "ratio": b / a, "low": ratios[0], "high": ratios[-1], "error": error}


def main() -> None:
    """Parse the command line, compare layer by layer, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vgg16", choices=("vgg16", "zfnet", "resnet50"))
    parser.add_argument("--layers", nargs="*")
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sample", type=int, default=2, help="units that captum is timed on in each round")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", module="captum")
    module, known = network(args.model)
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    print(f"{args.model}, {args.units} units in one call, {torch.get_num_threads()} threads, {args.rounds} rounds")
    print(f"{'layer':10} {'ours ms/unit':>13} {'captum ms/unit':>15} {'ratio':>8} {'(range)':>16} {'difference':>11}")
    for name in args.layers or known:
        r = compare(module, image, known[name], args.units, args.rounds, args.sample)
        spread = f"({r['low']:.1f} to {r['high']:.1f})"
        times = f"{r['ours'] * 1e3:13.2f} {r['captum'] * 1e3:15.1f}"
        print(f"{name:10} {times} {r['ratio']:7.1f}x {spread:>16} {r['error']:11.1e}", flush=True)


if __name__ == "__main__":
    main()
