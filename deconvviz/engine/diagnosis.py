"""What is wrong with an image or a model, in one line: inputs that do not fit, outputs that are not one tensor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from deconvviz.engine.recording import Op, Recording, spoken
from deconvviz.engine.rules import rule_of
from deconvviz.errors import DeconvvizTypeError


def check_takes_one_input(module: nn.Module) -> None:
    """Raise, naming them, if `forward` needs other arguments than one picture."""
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return  # not a Python function: its own error will say it
    needed = [
        p.name
        for p in signature.parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    try:
        signature.bind(None)
    except TypeError:
        raise DeconvvizTypeError(
            f"the model's forward needs ({', '.join(needed)}), and is given one picture; "
            "wrap it in a module whose forward takes the picture alone"
        ) from None


def explain(rec: Recording, op: Op) -> str | None:
    """Why an operator cannot take what the image of `rec` leads to, in one line; None if its shapes are not to blame.

    `op` has failed after what is recorded: its arguments are the tensors themselves.
    """
    if not _shapes_fail(op):
        return None
    channels, height, width = rec.values[0].shape[1:]
    rule = rule_of(op)
    filters = rule.filters(op)
    given = op.arg("input").shape[1] if filters is not None else 0
    if filters is not None and filters.channels != given:
        first = not any(rule_of(before).filters(before) for before in rec.ops)
        # What stands before it may have made many maps of each channel (a PixelUnshuffle, slices side by side).
        wanted, rest = divmod(channels * filters.channels, given)
        if not first or rest:
            return None
        if given == channels:
            return f"image has {channels} channels; the first convolution ('{op.module}') takes {filters.channels}"
        return (
            f"image has {channels} channels, this network takes {wanted}: the first convolution ('{op.module}') got "
            f"{given} maps and takes {filters.channels}"
        )
    weight = op.given.get("weight")
    if rule.role == "weights" and isinstance(weight, Tensor) and weight.dim() != 4:
        return _begins_with(rec, op.module, weight.dim() - 2)
    own = _own_channels(rec, op)
    if own is not None:
        return f"image has {channels} channels, this network takes {own}, as {spoken(op.module)} ({op.name}) says"
    why = rule.misfit(op)
    return why and f"an image of {height}×{width} does not fit this network: layer '{op.module}' {why}"


def _own_channels(rec: Recording, op: Op) -> int | None:
    """How many channels a constant has that fails to meet the image's before any layer with weights; None for none."""
    channels = rec.values[0].shape[1]
    given = [a for a in op.given.values() if isinstance(a, Tensor) and a.dim() in (3, 4)]
    counts = [int(a.shape[-3]) for a in given]
    if rule_of(op).role == "weights" or channels not in counts or _has_weights(rec):
        return None
    return next((n for n in counts if n not in (1, channels)), None)


def explain_module(rec: Recording, module: nn.Module, running: Sequence[str]) -> str | None:
    """Why the first layer that knows what it takes cannot take a picture, in one line; None if that has not failed.

    `running` are the paths of the modules that ran when it failed, the innermost last. What its functions refuse
    themselves, no operator has failed for: a network for sequences or volumes, a wrong number of channels.
    """
    inner = dict(module.named_modules()).get(running[-1]) if running else None
    if isinstance(inner, _ConvNd) and len(inner.kernel_size) != 2:
        return _begins_with(rec, running[-1], len(inner.kernel_size))
    wanted = (
        inner.in_channels if isinstance(inner, _ConvNd) else inner.num_features if isinstance(inner, _NormBase) else 0
    )
    image, present = rec.values[0].shape, rec.values[-1].shape
    if wanted in (0, image[1]) or present[1:2] != image[1:2] or _has_weights(rec):
        return None
    return f"image has {image[1]} channels, this network takes {wanted}, as {spoken(running[-1])} says"


def _has_weights(rec: Recording) -> bool:
    return any(rule_of(op).role == "weights" for op in rec.ops)


def _begins_with(rec: Recording, path: str, rank: int) -> str | None:
    if _has_weights(rec):
        return None
    shape = tuple(rec.values[0].shape)
    return f"layer '{path}' is a {rank}-d convolution, and this network begins with it: an image {shape} has 2-d maps"


def _shapes_fail(op: Op) -> bool:
    """Whether an operator cannot run on arguments of these shapes, whatever their device, dtype and content."""
    try:
        op.run(lambda a: torch.empty(a.shape, device="meta") if isinstance(a, Tensor) else a)
    except RuntimeError:
        return True
    return False


def described(out: Any) -> str:
    """What a forward pass has returned, in words: a shape, or the parts with theirs."""
    if isinstance(out, Tensor):
        return str(tuple(out.shape))
    parts = None
    if isinstance(out, Mapping):
        parts = [f"{key!r} {described(value)}" for key, value in out.items()]
    elif isinstance(out, list | tuple):
        parts = [f"[{n}] {described(value)}" for n, value in enumerate(out)]
    if parts is None:
        return type(out).__name__
    return f"{type(out).__name__} of {', '.join(parts) or 'nothing'}"
