"""Fig. 9 and Table 4: what few pictures a category teach a network from scratch, and a classifier on features."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from deconvviz.analyses.accuracy.result import Accuracy, Series
from deconvviz.analyses.probes.compute import probe
from deconvviz.analyses.probes.result import Probes
from deconvviz.network.network import Network
from deconvviz.paper.layers import pair
from deconvviz.paper.pages import Page
from deconvviz.paper.sources import Made, Sources
from deconvviz.paper.training_run import measured_epochs, settings

COUNTS = (1, 5, 10, 15, 20, 30)
# Table 4 of the paper, Caltech-101.
PAPER = (
    Series("trained from scratch", False, (15, 30), (0.228, 0.465), (0.015, 0.017)),
    Series("features of an ImageNet network", False, (15, 30), (0.838, 0.865), (0.005, 0.005)),
)


def make(sources: Sources, page: Page) -> Made:
    """The curves (`figure9`), or the table at 15 and 30 pictures a category (`table4`)."""
    result = sources.once("accuracy", lambda: _measure(sources))
    if page.kind == "table":
        from deconvviz.results.table_figure import draw

        table = result.table()
        return Made(draw(table), table.caption, {"accuracy": result}, table)
    caption = (
        "Accuracy (mean over categories) on pictures that the classifier was not trained on, against the number of "
        f"training pictures a category. {result.note}"
    )
    return Made(result.figure(), caption, {"accuracy": result}, result.table(COUNTS))


def _measure(sources: Sources) -> Accuracy:
    net, data = sources.net, sources.data
    assert data is not None
    layer = pair(net)[1]
    own = probe(net, data, layer, per_category=COUNTS, progress=sources.progress)
    bare = probe(_random(net), data, layer, per_category=COUNTS, progress=sources.progress)
    series = [_series(f"features of {net.card.name}, layer {layer}", own), _series("the same, random weights", bare)]
    said = [own.note, *_ragged(own)]
    scratch = None if sources.run is None else _scratch(sources.run)
    if scratch is not None and sources.run is not None:
        series.insert(0, scratch)
        crops = "ten crops" if "test_ten_crops" in measured_epochs(sources.run)[-1] else "the centre crop"
        said.append(
            "The network from scratch was trained on at most so many pictures of each category and is tested on up to "
            f"50 others, on {crops}."
        )
    elif sources.run is None:
        said.append("No training run was given, so training from scratch was not measured.")
    if sources.caltech:
        series += PAPER
        said.append("The paper's figures are those of its Table 4.")
    penalty = f"a linear SVM (penalty {own.policy['penalty']})"
    note = " ".join([f"Features: {penalty} on layer {layer}, trained on so many pictures of each category.", *said])
    return Accuracy(tuple(series), own.chance, note, policy=own.policy, model=own.model)


def _ragged(found: Probes) -> list[str]:
    """What has to be said where some categories have fewer pictures than the numbers say."""
    short = [p for p, (low, high) in enumerate(found.spans) if low < high]
    if not short:
        return []
    counts = ", ".join(f"{found.spans[p][1]} is {found.count(p)}" for p in short)
    return [f"Some categories have fewer training pictures: {counts}."]


def _series(name: str, found: Probes) -> Series:
    deviations = tuple(found.spread[0].tolist()) if found.accuracy.shape[2] > 1 else ()
    return Series(name, True, found.per_category, tuple(found.mean[0].tolist()), deviations)


def _random(net: Network) -> Network:
    """The same network with fresh weights."""
    module = copy.deepcopy(net.module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for m in module.modules():
            if isinstance(m, nn.Conv2d | nn.Linear | nn.modules.batchnorm._BatchNorm):
                m.reset_parameters()
    bare = net.carried(module.eval())
    bare.seen = net.seen  # the same pictures test both
    return bare


def _scratch(run: Path) -> Series | None:
    """What a run came to, trained with so many pictures of each category; None for a run of another kind.

    The number of pictures is what its last checkpoint says (`deconvviz train --per-category`).
    """
    lines, split = measured_epochs(run), settings(run).get("split")
    count = split.get("per_category") if isinstance(split, dict) else None
    if count is None or not lines:
        return None
    last = lines[-1]
    name = f"trained from scratch, {last['epoch']} epochs"
    return Series(name, True, (int(count),), (float(last.get("test_ten_crops", last["test"])),))
