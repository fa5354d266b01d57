"""What is wrong with an image or a model, in one line: inputs that do not fit, outputs that are not one tensor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from deconvviz.engine.recording import Op, Recording
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
    why = rule.misfit(op)
    return why and f"an image of {height}×{width} does not fit this network: layer '{op.module}' {why}"


def explain_rank(rec: Recording, module: nn.Module, running: Sequence[str]) -> str | None:
    """Why a network for sequences or volumes cannot take a picture, in one line; None if that is not what has failed.

    `running` are the paths of the modules that ran when it failed, the innermost last.
    """
    inner = dict(module.named_modules()).get(running[-1]) if running else None
    if not isinstance(inner, _ConvNd) or len(inner.kernel_size) == 2:
        return None
    return _begins_with(rec, running[-1], len(inner.kernel_size))


def _begins_with(rec: Recording, path: str, rank: int) -> str | None:
    if any(rule_of(op).role == "weights" for op in rec.ops):
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
