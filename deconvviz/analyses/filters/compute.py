"""The filters of a convolution and what is wrong with them (Zeiler & Fergus 2014, section 4.1 and Fig. 6)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from deconvviz.analyses.features import features
from deconvviz.analyses.filters.measures import above, peak, twins
from deconvviz.analyses.filters.result import Filters
from deconvviz.engine.passes import plain_mode
from deconvviz.engine.recorder import record
from deconvviz.engine.recording import Op, Recording
from deconvviz.engine.rules import FilterBank, rule_of
from deconvviz.engine.rules.linear import Convolution
from deconvviz.engine.rules.pointwise import LowerBound
from deconvviz.errors import DeconvvizValueError, UnsupportedOperatorError
from deconvviz.network.layers import example_input
from deconvviz.network.network import Network
from deconvviz.network.preprocessing import Pictures, listed
from deconvviz.progress import Progress, Report, heard

# The paper's inputs are pixels minus their mean: 255 from the darkest to the brightest.
_PAPER_RANGE = 255.0
_ALIAS = "filters"


def filters(
    model: Network | nn.Module,
    other: Network | nn.Module | None = None,
    layer: str | nn.Module | None = None,
    images: Pictures | None = None,
    *,
    radius: float = 0.1,
    blank: float = 0.01,
    similar: float = 0.95,
    alias: float = 0.5,
    batch: int = 32,
    progress: Progress = None,
) -> Filters:
    """Diagnose the filters of the first convolution of `model`, or of `layer` (an alias, a path or a module).

    For each filter: its RMS, against the paper's `radius` (in the paper's input scale, pixels of about [-128, 128])
    and against the median; the filter most like it, also moved; the share of its energy at frequencies that the
    stride cannot carry. Without data a filter is dead if it is blank (RMS below `blank` of the median) or if no
    picture in the network's range of values can lift it above zero; with `images` (paths, PIL images, or preprocessed
    tensors) also if none of them does. `similar` is the |cosine| from which two filters are duplicates, `alias` the
    share of energy above the map's Nyquist frequency from which one is aliased. `other` is a second network, told
    beside the first (with its own first convolution, or its `layer` of that name). `progress` is True for a bar, or
    called with the pictures of `images` done and in all, for each network.

    Raises `UnknownNameError`, `DeconvvizTypeError`, `DeconvvizValueError`, and `UnsupportedOperatorError` for a layer
    that is no plain 2-d convolution. The models are left exactly as they were.

    >>> f = deconvviz.filters(deconvviz.load("zfnet"))
    >>> f.weights.shape, f.stride
    (torch.Size([96, 3, 7, 7]), (2, 2))
    """
    policy = {"radius": radius, "blank": blank, "similar": similar, "alias": alias}
    for name, value in policy.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise DeconvvizValueError(f"{name} is {value!r}; allowed: a number above 0")
    if isinstance(layer, nn.Module) and other is not None:
        raise DeconvvizValueError("layer is a module, but two networks are compared; give an alias or a path")
    with heard(progress, "pictures") as report:
        first = _one(Network.of(model), layer, images, policy, batch, report)
        if other is None:
            return first
        return replace(first, other=_one(Network.of(other), layer, images, policy, batch, report))


def _one(
    net: Network, layer: str | nn.Module | None, images: Pictures | None,
    policy: dict[str, float], batch: int, report: Report | None,
) -> Filters:  # fmt: skip
    rec = record(net.plain, example_input(net.module, net.card.channels, net.card.input_size))
    op, kernel = _convolution(net, rec, layer)
    with plain_mode(rec.values[0].device.type):
        weights, bias, rectified = _effective(rec, op, kernel)
        scale = _input_scale(net, rec, op, weights.shape[1])
        rms = (weights / torch.tensor(scale).view(1, -1, 1, 1)).pow(2).mean((1, 2, 3)).sqrt()
        cosine, twin, shift = twins(weights, kernel.groups)
        aliased, strongest = above(weights, kernel.stride, kernel.dilation), peak(weights, kernel.dilation)
        bound = _bound(net, op, weights, bias) if rectified else None
    if images is not None and op.outputs[0] not in rec.calls.get(op.module, []):
        raise DeconvvizValueError(f"the convolution in '{op.module}' is no module of its own; give no images")
    fires, count = (None, 0) if images is None else _fires(net, op.module, images, batch, report)
    return Filters(
        op.module, net.card.alias_of(op.module), weights, rms.float(), cosine, twin, shift, aliased, strongest,
        kernel.stride, scale, bound, fires, count, policy=policy, model=net.facts(),
    )  # fmt: skip


def _convolution(net: Network, rec: Recording, layer: str | nn.Module | None) -> tuple[Op, FilterBank]:
    """The convolution that made the value of `layer`, or the first one that ran, and its filters."""
    if layer is None:
        op = _first_convolution(rec)
        if op is None:
            raise DeconvvizValueError("this model runs no convolution")
    else:
        found = net.find_layer(rec, layer)
        op = rec.producer.get(found.value)
        # An alias stands for the value after norm and activation.
        while op is not None and rule_of(op).role in ("norm", "activation"):
            op = rec.producer.get(op.inputs[0])
        if op is None or not isinstance(rule_of(op), Convolution):
            raise DeconvvizValueError(f"layer '{found.path}' is no convolution; filters are known for convolutions")
    filters = rule_of(op).filters(op)
    if filters is None:
        raise UnsupportedOperatorError(f"layer '{op.module}' is no plain 2-d convolution with filters of its own")
    return op, filters


def _first_convolution(rec: Recording) -> Op | None:
    return next((op for op in rec.ops if isinstance(rule_of(op), Convolution)), None)


def _effective(rec: Recording, op: Op, kernel: FilterBank) -> tuple[Tensor, Tensor, bool]:
    """Filters (F, C, h, w) and biases (F,) on the CPU with a norm behind them folded in, and whether a rectifier
    follows."""
    after = rec.consumers(op.output())
    norm = rule_of(after[0]).affine(after[0]) if len(after) == 1 else None
    if norm is not None:
        kernel = kernel.scaled(*norm)
        after = rec.consumers(after[0].output())
    weights = kernel.weight.cpu().float().clone()  # the model may be trained on
    bias = torch.zeros(len(weights)) if kernel.bias is None else kernel.bias.cpu().float()
    rule = rule_of(after[0]) if len(after) == 1 else None
    return weights, bias, isinstance(rule, LowerBound) and rule.rectifies(after[0])


def _input_scale(net: Network, rec: Recording, op: Op, channels: int) -> tuple[float, ...]:
    """How many times larger the paper's inputs are than what the first convolution gets, for each channel."""
    if op is not _first_convolution(rec) or len(net.card.std) != channels:
        return (1.0,) * channels
    low, high = net.card.value_range
    return tuple(_PAPER_RANGE * std / (high - low) for std in net.card.std)


def _bound(net: Network, op: Op, weights: Tensor, bias: Tensor) -> Tensor | None:
    """The greatest response (F,) to any picture, if the convolution reads pictures of a known range."""
    if op.inputs[0] != 0 or not net.card.mean:
        return None
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (net.card.mean, net.card.std))
    # Zero is among the values: the padding.
    low = ((net.card.value_range[0] - mean) / std).clamp(max=0)
    high = ((net.card.value_range[1] - mean) / std).clamp(min=0)
    return torch.maximum(weights * low, weights * high).sum((1, 2, 3)) + bias


def _fires(net: Network, path: str, given: Pictures, batch: int, report: Report | None) -> tuple[Tensor, int]:
    """Share of places (F,) where the rectified maps are positive over the pictures, and how many these are."""
    images, _ = listed(given, net.card.channels or 3)
    if not len(images):
        raise DeconvvizValueError("images is empty; allowed: a folder, one picture or more")
    # As an alias, the layer is the value behind its norm and rectifier.
    known = net.carried(net.module, aliases={_ALIAS: path})
    positive: Tensor | None = None
    places = 0
    for start in range(0, len(images), batch):
        inputs = torch.cat([net.preprocess(image) for image in images[start : start + batch]])
        maps = features(known, inputs, [_ALIAS], batch)[_ALIAS].movedim(1, 0).flatten(1)
        count = (maps > 0).sum(1).cpu()
        positive = count if positive is None else positive + count
        places += maps.shape[1]
        if report is not None:
            report(start + len(inputs), len(images))
    assert positive is not None
    return positive / places, len(images)
