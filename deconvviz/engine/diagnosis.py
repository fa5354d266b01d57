"""What is wrong with an image or a model, in one line: inputs that do not fit, outputs that are not one tensor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.engine.nested import mapped
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


def explain(name: str, func: Any, args: Any, kwargs: Any, layer: str, image: Sequence[int], first: bool) -> str | None:
    """Why an operator cannot take what this image leads to, in one line; None if its shapes are not to blame.

    `layer` is the module that it ran in, `image` the shape (1, C, H, W) that the model was given, `first` whether no
    convolution has run before.
    """
    if not _shapes_fail(func, args, kwargs):
        return None
    channels, height, width = image[1:]
    takes = args[1].shape[1] * args[8] if name == "convolution" else None
    if takes is not None and takes != args[0].shape[1]:
        text = f"image has {channels} channels; the first convolution ('{layer}') takes {takes}"
        return text if first else None
    misfit = f"an image of {height}×{width} does not fit this network: layer '{layer}'"
    if name == "convolution" or "pool" in name or name.endswith("_pad2d"):
        size = "×".join(str(n) for n in args[0].shape[2:])
        return f"{misfit} ({name}) got a map of {size}, which is too small"
    if name in ("addmm", "mm"):
        return f"{misfit} takes {args[-1].shape[0]} numbers and got {args[-2].shape[1]}"
    return None


def _shapes_fail(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether an operator cannot run on arguments of these shapes, whatever their device, dtype and content."""

    def shape_only(a: Any) -> Any:
        return torch.empty(a.shape, device="meta") if isinstance(a, Tensor) else a

    try:
        func(*mapped(shape_only, args), **mapped(shape_only, kwargs))
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
    advice = "wrap it in a module that returns the one you mean"
    return f"{type(out).__name__} of {', '.join(parts) or 'nothing'}: {advice}"
