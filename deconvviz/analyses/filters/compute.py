"""The filters of a convolution and what is wrong with them (Zeiler & Fergus 2014, section 4.1 and Fig. 6)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvviz.analyses.features import features
from deconvviz.analyses.filters.result import Filters
from deconvviz.analyses.projection.compute import model_facts
from deconvviz.engine.geometry import example_input
from deconvviz.engine.recording import Op, Recording, Ref, find_layer, plain_mode, record, unwrap
from deconvviz.engine.rules import rule_of
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnsupportedOperatorError
from deconvviz.network.network import Network

if TYPE_CHECKING:
    from PIL import Image

    Picture = str | os.PathLike[str] | Image.Image | Tensor

# The paper's inputs are pixels minus their mean: 255 from the darkest to the brightest.
_PAPER_RANGE = 255.0
_RECTIFIERS = ("relu", "relu_", "threshold", "threshold_", "clamp_min", "clamp_min_", "hardtanh", "hardtanh_")
_ALIAS = "filters"
_SPECTRUM = 64  # places of the spectrum along each axis, for the strongest frequency


def filters(
    model: Network | nn.Module,
    other: Network | nn.Module | None = None,
    layer: str | nn.Module | None = None,
    images: Sequence[Picture] | None = None,
    *,
    radius: float = 0.1,
    blank: float = 0.01,
    similar: float = 0.95,
    alias: float = 0.5,
    batch: int = 32,
) -> Filters:
    """Diagnose the filters of the first convolution of `model`, or of `layer` (an alias, a path or a module).

    For each filter: its RMS, against the paper's `radius` (in the paper's input scale, pixels of about [-128, 128])
    and against the median; the filter most like it, also moved; the share of its energy at frequencies that the
    stride cannot carry. Without data a filter is dead if it is blank (RMS below `blank` of the median) or if no
    picture in the network's range of values can lift it above zero; with `images` (paths, PIL images, or preprocessed
    tensors) also if none of them does. `similar` is the |cosine| from which two filters are duplicates, `alias` the
    share of energy above the map's Nyquist frequency from which one is aliased. `other` is a second network, told
    beside the first (with its own first convolution, or its `layer` of that name).

    Raises `UnknownNameError`, `DeconvvizTypeError`, `DeconvvizValueError`, and `UnsupportedOperatorError` for a layer
    that is no plain 2-d convolution. The models are left exactly as they were.
    """
    policy = {"radius": radius, "blank": blank, "similar": similar, "alias": alias}
    for name, value in policy.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise DeconvvizValueError(f"{name} is {value!r}; allowed: a number above 0")
    if isinstance(layer, nn.Module) and other is not None:
        raise DeconvvizValueError("layer is a module, but two networks are compared; give an alias or a path")
    first = _one(model, layer, images, policy, batch)
    return first if other is None else replace(first, other=_one(other, layer, images, policy, batch))


def _one(
    model: Network | nn.Module, layer: str | nn.Module | None, images: Sequence[Picture] | None,
    policy: dict[str, float], batch: int,
) -> Filters:  # fmt: skip
    if not isinstance(model, Network | nn.Module):
        raise DeconvvizTypeError(f"model is a {type(model).__name__}; allowed: a Network or a torch.nn.Module")
    module = unwrap(model.module if isinstance(model, Network) else model)
    rec = record(module, _example(model, module))
    op = _convolution(rec, module, layer, model.card.aliases if isinstance(model, Network) else {})
    with plain_mode(rec.values[0].device.type):
        weights, bias, rectified = _effective(rec, op)
        scale = _input_scale(model, rec, op, weights.shape[1])
        rms = (weights / torch.tensor(scale).view(1, -1, 1, 1)).pow(2).mean((1, 2, 3)).sqrt()
        stride, groups = (int(op.args[3][0]), int(op.args[3][-1])), int(op.args[8])
        cosine, twin, shift = _twins(weights, groups)
        dilation = (int(op.args[5][0]), int(op.args[5][-1]))
        above, peak = _above(weights, stride, dilation), _peak(weights, dilation)
        bound = _bound(model, op, weights, bias) if rectified else None
    if images is not None and op.outputs[0] not in rec.calls.get(op.module, []):
        raise DeconvvizValueError(f"the convolution in '{op.module}' is no module of its own; give no images")
    fires, count = (None, 0) if images is None else _fires(model, op.module, images, batch)
    alias = model.card.alias_of(op.module) if isinstance(model, Network) else None
    return Filters(
        op.module, alias, weights, rms.float(), cosine, twin, shift, above, peak, stride, scale,
        bound, fires, count, policy=policy, model=model_facts(model),
    )  # fmt: skip


def _example(model: Network | nn.Module, module: nn.Module) -> Tensor:
    card = model.card if isinstance(model, Network) else None
    return example_input(module, card.channels if card else 0, card.input_size if card else (224, 224))


def _convolution(rec: Recording, module: nn.Module, layer: str | nn.Module | None, aliases: object) -> Op:
    """The convolution that made the value of `layer`, or the first one that ran."""
    if layer is None:
        op = next((op for op in rec.ops if op.name == "convolution"), None)
        if op is None:
            raise DeconvvizValueError("this model runs no convolution")
    else:
        found = find_layer(rec, module, layer, aliases)  # type: ignore[arg-type]  # a mapping, as the card has it
        op = rec.producer.get(found.value)
        # An alias stands for the value after norm and activation.
        while op is not None and op.name != "convolution" and rule_of(op).role in ("norm", "activation"):
            op = rec.producer.get(op.inputs[0])
        if op is None or op.name != "convolution":
            raise DeconvvizValueError(f"layer '{found.path}' is no convolution; filters are known for convolutions")
    weight = op.args[1]
    if isinstance(weight, Ref) or op.args[6] or weight.dim() != 4:
        raise UnsupportedOperatorError(f"layer '{op.module}' is no plain 2-d convolution with filters of its own")
    return op


def _effective(rec: Recording, op: Op) -> tuple[Tensor, Tensor, bool]:
    """Filters (F, C, h, w) and biases (F,) on the CPU with a norm behind them folded in, and whether a rectifier
    follows."""
    weights = op.args[1].detach().cpu().float().clone()  # the model may be trained on
    bias = torch.zeros(len(weights)) if op.args[2] is None else op.args[2].detach().cpu().float()
    after = rec.consumers(op.outputs[0]) if op.outputs[0] is not None else []
    if len(after) == 1 and rule_of(after[0], missing_ok=True) and rule_of(after[0]).role == "norm":
        norm = after[0]
        # A norm with fixed statistics is affine: what it does to 0 and 1 is all there is to know.
        if rule_of(norm).reaches(rec, norm, 0, (0, 1), 0) is not None and norm.outputs[0] is not None:
            like = op.args[1].new_zeros(1, len(weights), 1, 1)
            at_zero, at_one = (_run(rec, norm, like + k) for k in (0, 1))
            scale = at_one - at_zero
            weights, bias = weights * scale.view(-1, 1, 1, 1), bias * scale + at_zero
            after = rec.consumers(norm.outputs[0])
    return weights, bias, len(after) == 1 and after[0].name in _RECTIFIERS


def _run(rec: Recording, op: Op, x: Tensor) -> Tensor:
    args, kwargs = rec.fill(op, {op.inputs[0]: x})
    out = op.func(*args, **kwargs)
    value: Tensor = (out[0] if isinstance(out, tuple | list) else out).detach().cpu().float()
    return value.flatten()


def _input_scale(model: Network | nn.Module, rec: Recording, op: Op, channels: int) -> tuple[float, ...]:
    """How many times larger the paper's inputs are than what the first convolution gets, for each channel."""
    first = next(o for o in rec.ops if o.name == "convolution")
    if not isinstance(model, Network) or op is not first or len(model.card.std) != channels:
        return (1.0,) * channels
    low, high = model.card.value_range
    return tuple(_PAPER_RANGE * std / (high - low) for std in model.card.std)


def _bound(model: Network | nn.Module, op: Op, weights: Tensor, bias: Tensor) -> Tensor | None:
    """The greatest response (F,) to any picture, if the convolution reads pictures of a known range."""
    if not isinstance(model, Network) or op.inputs[0] != 0 or not model.card.mean:
        return None
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (model.card.mean, model.card.std))
    # Zero is among the values: the padding.
    low = ((model.card.value_range[0] - mean) / std).clamp(max=0)
    high = ((model.card.value_range[1] - mean) / std).clamp(min=0)
    return torch.maximum(weights * low, weights * high).sum((1, 2, 3)) + bias


def _twins(weights: Tensor, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each filter the greatest |cosine| with another at any shift, signed, that filter, and the shift."""
    count, _, height, width = weights.shape
    norm = weights.flatten(1).norm(dim=1).clamp(min=1e-30)
    unit = weights / norm.view(-1, 1, 1, 1)
    group = torch.arange(count) * groups // count
    best = [torch.zeros(count), torch.zeros(count, dtype=torch.long), torch.zeros(count, dtype=torch.long)]
    for part in torch.split(torch.arange(count), 32):
        # Every filter over every other, at every place where they touch.
        found = F.conv2d(unit[part], unit, padding=(height - 1, width - 1)).flatten(2)
        found[part[:, None] == torch.arange(count)] = 0
        found[group[part][:, None] != group] = 0
        flat = found.abs().flatten(1).argmax(1)
        best[0][part] = found.flatten(1).gather(1, flat[:, None])[:, 0]
        best[1][part], best[2][part] = flat // found.shape[2], flat % found.shape[2]
    shift = torch.stack([best[2] // (2 * width - 1) - (height - 1), best[2] % (2 * width - 1) - (width - 1)], 1)
    return best[0].clamp(-1, 1), best[1], shift


def _spread(weights: Tensor, dilation: tuple[int, int]) -> Tensor:
    """The filters as they lie on the input: with the dilation's zeros between their values."""
    if dilation == (1, 1):
        return weights
    height, width = ((s - 1) * d + 1 for s, d in zip(weights.shape[2:], dilation, strict=True))
    spread = weights.new_zeros(*weights.shape[:2], height, width)
    spread[:, :, :: dilation[0], :: dilation[1]] = weights
    return spread


def _above(weights: Tensor, stride: tuple[int, int], dilation: tuple[int, int]) -> Tensor:
    """Share of each filter's energy (F,) at frequencies above 1 / (2 × stride) along either axis; NaN for zeros.

    The energy inside a band of frequencies is a quadratic form of the filter's values with the band's sinc: exact,
    where a discrete spectrum would be coarse for a few pixels.
    """
    lying = _spread(weights, dilation).double()
    inside = lying
    for axis, step in ((2, stride[0]), (3, stride[1])):
        if step == 1:
            continue  # carries everything
        places = torch.arange(lying.shape[axis], dtype=torch.float64)
        band = torch.sinc((places[:, None] - places) / step) / step
        inside = torch.tensordot(inside, band, dims=([axis], [0])).movedim(-1, axis)
    total = lying.pow(2).sum((1, 2, 3))
    return (1 - (inside * lying).sum((1, 2, 3)) / total).clamp(0, 1).float()


def _peak(weights: Tensor, dilation: tuple[int, int]) -> Tensor:
    """The strongest frequency (F,) of each filter, in cycles per pixel whatever the direction."""
    lying = _spread(weights, dilation)
    size = max(_SPECTRUM, *lying.shape[2:])
    power = torch.fft.rfft2(lying, s=(size, size)).abs().pow(2).sum(1)
    down, across = torch.fft.fftfreq(size), torch.fft.rfftfreq(size)
    flat = power.flatten(1).argmax(1)
    return torch.hypot(down[flat // len(across)], across[flat % len(across)])


def _fires(model: Network | nn.Module, path: str, images: Sequence[Picture], batch: int) -> tuple[Tensor, int]:
    """Share of places (F,) where the rectified maps are positive over `images`, and how many pictures there are."""
    if isinstance(images, str | os.PathLike) or not len(images):
        raise DeconvvizValueError("images is one path or empty; allowed: a sequence of pictures, one or more")
    net = model if isinstance(model, Network) else Network(model)
    # As an alias, the layer is the value behind its norm and rectifier.
    known = Network(net.module, card=replace(net.card, aliases={_ALIAS: path}))
    positive: Tensor | None = None
    places = 0
    for start in range(0, len(images), batch):
        inputs = torch.cat([net.preprocess(image) for image in images[start : start + batch]])
        maps = features(known, inputs, [_ALIAS], batch)[_ALIAS].movedim(1, 0).flatten(1)
        count = (maps > 0).sum(1).cpu()
        positive = count if positive is None else positive + count
        places += maps.shape[1]
    assert positive is not None
    return positive / places, len(images)
