"""What is wrong with an image or a model, in one line: inputs that do not fit, outputs that are not one tensor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

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
    rule = rule_of(op, missing_ok=True)
    filters = rule.filters(op)
    if filters is not None and filters.channels != op.arg("input").shape[1]:
        first = not any(rule_of(before, missing_ok=True).filters(before) for before in rec.ops)
        text = f"image has {channels} channels; the first convolution ('{op.module}') takes {filters.channels}"
        return text if first else None
    why = rule.misfit(op)
    return why and f"an image of {height}×{width} does not fit this network: layer '{op.module}' {why}"


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
