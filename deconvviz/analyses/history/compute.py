"""The history of the ILSVRC classification task, with depth and size of the networks of the zoo.

ZFNet is often called the winner of 2013. It was not: Clarifai won, a company of ZFNet's first author, and the paper's
own entry, "ZF", came third behind NUS. Errors are those of the organisers' result pages
(image-net.org/challenges/LSVRC/2010 to 2017).
"""

from __future__ import annotations

import functools
from importlib.metadata import version

import torch
from torch import nn

from deconvviz.analyses.history.result import Entry, History
from deconvviz.engine.recorder import record
from deconvviz.engine.rules import rule_of
from deconvviz.models import registry

_PAPER: dict[str, object] = {"classes": 1000, "fc": (4096, 4096)}  # the bundled form is narrower

# Year, place, team, top-5 test error %, the same with extra training data, then the network and its name in the zoo.
ENTRIES = (
    Entry(2010, 1, "NEC-UIUC", 28.19),
    Entry(2010, 2, "XRCE", 33.65),
    Entry(2011, 1, "XRCE", 25.77),
    Entry(2011, 2, "UvA", 31.01),
    Entry(2012, 1, "SuperVision", 16.42, 15.32, "AlexNet", "alexnet"),
    Entry(2012, 2, "ISI", 26.17),
    Entry(2013, 1, "Clarifai", 11.74, 11.20),
    Entry(2013, 2, "NUS", 12.95),
    Entry(2013, 3, "ZF", 13.51, None, "ZFNet", "zfnet"),
    Entry(2014, 1, "GoogLeNet", 6.66, None, "GoogLeNet", "googlenet"),
    Entry(2014, 2, "VGG", 7.33, None, "VGG-19", "vgg19"),
    Entry(2015, 1, "MSRA", 3.57, None, "ResNet-152", "resnet152"),
    Entry(2015, 2, "ReCeption", 3.58),
    Entry(2016, 1, "Trimps-Soushen", 2.99),
    Entry(2016, 2, "ResNeXt", 3.03, None, "ResNeXt-101", "resnext101"),
    Entry(2017, 1, "WMW", 2.25, None, "SENet-154", "senet154"),
    Entry(2017, 2, "Trimps-Soushen", 2.48),
)


def history() -> History:
    """Return winners and runners-up of the ILSVRC classification task, 2010 to 2017, and the paper's own entry.

    Depth and number of parameters are counted on the networks of the zoo, built without memory for their weights; a
    network that needs a package that is not installed (SENet-154: timm) is listed without them.

    >>> deconvviz.history().winners()[2].team
    'SuperVision'
    """
    return History(tuple(_measured(entry) for entry in ENTRIES), model={"deconvviz": version("deconvviz")})


def _measured(entry: Entry) -> Entry:
    if not entry.zoo:
        return entry
    try:
        depth, parameters = size_of(entry.zoo)
    except ImportError:
        return entry
    return entry._replace(depth=depth, parameters=parameters)


@functools.cache
def size_of(name: str) -> tuple[int, int]:
    """Return (depth, number of parameters) of the ImageNet form of a network of the zoo."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        module = registry.build(name, **(_PAPER if name == "zfnet" else {})).eval()
    size = registry.card(name).input_size
    return depth(module, size), sum(p.numel() for p in module.parameters())


def depth(module: nn.Module, input_size: tuple[int, int], channels: int = 3) -> int:
    """Return the number of convolutions and linear layers on the longest path from the picture to the output.

    The layers inside a gate (squeeze and excitation) do not count, as they do not in the names of networks. `module`
    may be on the meta device.
    """
    like = next(module.parameters())
    rec = record(module, torch.zeros(1, channels, *input_size, device=like.device, dtype=like.dtype))
    longest = {0: 0}
    for op in rec.ops:
        length = max((longest[i] for i in op.inputs), default=0)
        rule = rule_of(op)
        length += rule.role == "weights"
        if rule.role == "activation" and rule.gate:
            length = 0  # the product with it goes on with the length of the other factor
        longest.update({value: length for value in op.outputs if value is not None})
    return longest[rec.output] if rec.output is not None else max(longest.values())
