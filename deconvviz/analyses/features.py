"""The values of some layers for many pictures: passes that stop at the deepest and hold nothing else."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deconvviz.analyses.projection.compute import prepare
from deconvviz.engine.capture import MisfitError, Probe, Tap, find_taps
from deconvviz.engine.recording import Recording, find_layer, record, unwrap
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, check_counts
from deconvviz.network.network import Network

if TYPE_CHECKING:
    from PIL import Image

    Picture = str | os.PathLike[str] | Image.Image | Tensor

# The model's own output, as a layer: the path that `named_modules` gives the model itself.
OUTPUT = ""

# How to find layers again without recording: the tap of each by its name.
_Plan = dict[str, Tap]
_PLANS: weakref.WeakKeyDictionary[nn.Module, dict[object, _Plan]] = weakref.WeakKeyDictionary()


def features(
    model: Network | nn.Module, inputs: Tensor, layers: Sequence[str | nn.Module], batch: int = 64
) -> dict[str, Tensor]:
    """Run `model` on preprocessed `inputs` (N, C, H, W) and return the values of `layers`, each with N rows.

    `layers` are aliases (the value after the activation), module paths (`path#i` for the i-th call), modules, or
    `OUTPUT` (""), the model's own output; the keys are these names, for a module its path. At most `batch` pictures
    run at once, and every pass stops at the deepest layer. A value that no module returns (a functional ReLU) is
    found by its operator. The values are on the model's device, in its dtype (float32 for half types).

    Raises `UnknownNameError`, `DeconvvizTypeError`, `DeconvvizValueError`, and `UnsupportedOperatorError` for a model
    that cannot be recorded. The model is left exactly as it was.
    """
    module, x = _prepare(model, inputs)
    check_counts(batch=batch)
    aliases: Mapping[str, str] = model.card.aliases if isinstance(model, Network) else {}
    names = {name_of(module, layer): layer for layer in layers}
    with torch.compiler.set_stance("force_eager"):
        parts = [_pass(module, part, names, aliases) for part in torch.split(x, batch)]
    return {name: torch.cat([part[name] for part in parts]) for name in names}


def stack(model: Network | nn.Module, images: Picture | Sequence[Picture]) -> tuple[Tensor, tuple[str, ...]]:
    """The inputs (N, C, H, W) for one or several pictures, and a name for each: its file's, or "picture 1", ….

    A picture is a path, a PIL image or a preprocessed tensor (C, H, W), as for `project`; a tensor (N, C, H, W) is N of
    them. Raises the errors of `Network.preprocess`, and `DeconvvizValueError` for none or for inputs of several sizes.
    """
    given = _list(images)
    if not given:
        raise DeconvvizValueError("images is empty; allowed: one picture or more")
    inputs = [prepare(model, image)[1] for image in given]
    sizes = list(dict.fromkeys(tuple(x.shape[1:]) for x in inputs))
    if len(sizes) > 1:
        raise DeconvvizValueError(f"the pictures have inputs of sizes {sizes[0]} and {sizes[1]}; allowed: one size")
    named = [Path(i).name if isinstance(i, str | os.PathLike) else f"picture {n}" for n, i in enumerate(given, 1)]
    return torch.cat(inputs), tuple(named)


def _list(images: Any) -> list[Any]:
    if isinstance(images, Tensor):
        return list(images) if images.dim() == 4 else [images]
    return list(images) if isinstance(images, Sequence) and not isinstance(images, str) else [images]


def _prepare(model: Network | nn.Module, inputs: Tensor) -> tuple[nn.Module, Tensor]:
    """The plain module, and `inputs` (N, C, H, W) on its device and in its dtype; errors as for `features`."""
    if not isinstance(model, Network | nn.Module):
        raise DeconvvizTypeError(f"model is a {type(model).__name__}; allowed: a Network or a torch.nn.Module")
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        what = f"{inputs.dtype} tensor" if isinstance(inputs, Tensor) else type(inputs).__name__
        raise DeconvvizTypeError(f"inputs is a {what}; allowed: a preprocessed float tensor (N, C, H, W)")
    if inputs.dim() != 4 or not len(inputs):
        raise DeconvvizValueError(f"inputs has shape {tuple(inputs.shape)}; allowed: (N, C, H, W) with N from 1")
    module = unwrap(model.module if isinstance(model, Network) else model)
    like = next((p for p in module.parameters() if p.is_floating_point()), inputs)
    return module, inputs.detach().to(like.device, like.dtype)


def name_of(model: Network | nn.Module, layer: str | nn.Module) -> str:
    """The key of `layer` in what `features` returns: the name that it is asked by, or a module's path."""
    if not isinstance(layer, nn.Module):
        return layer
    module = unwrap(model.module if isinstance(model, Network) else model)
    # An unknown module keeps a name that the error for it never shows.
    return next((path for path, m in module.named_modules() if m is unwrap(layer)), "?")


def _pass(
    module: nn.Module, x: Tensor, layers: Mapping[str, str | nn.Module], aliases: Mapping[str, str]
) -> dict[str, Tensor]:
    """The layers' values for one batch, found as in an earlier pass if the same operators run."""
    # A hook that came or went since may change what runs, or what it returns.
    hooks = tuple(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())
    key = (tuple(layers), tuple(x.shape[1:]), x.dtype, tuple(aliases.items()), hooks)
    plans = _PLANS.setdefault(module, {})
    if key not in plans:
        plans[key] = _plan(module, x[:1], layers, aliases)
    try:
        return _take(module, x, plans[key])
    except MisfitError:
        return _take(module, x, _plan(module, x, layers, aliases))


def _plan(module: nn.Module, x: Tensor, layers: Mapping[str, str | nn.Module], aliases: Mapping[str, str]) -> _Plan:
    rec = record(module, x)
    values = [_value(rec, module, layer, aliases) for layer in layers.values()]
    return dict(zip(layers, find_taps(rec, values), strict=True))


def _take(module: nn.Module, x: Tensor, plan: _Plan) -> dict[str, Tensor]:
    taps = list(dict.fromkeys(plan.values()))  # two names may stand for one value
    found: dict[Tap, Tensor] = {}

    def see(number: int, value: Tensor) -> None:
        found[taps[number]] = value.clone()  # the model may write over it later

    # The model itself, not a copy: its users' own hooks run as they are.
    Probe(module, taps, copied=False).run(x, see)
    return {name: _rows(found[tap], name, len(x)) for name, tap in plan.items()}


def _value(rec: Recording, module: nn.Module, layer: str | nn.Module, aliases: Mapping[str, str]) -> int:
    if layer != OUTPUT:
        return find_layer(rec, module, layer, aliases).value
    if rec.output is None:
        raise DeconvvizValueError(
            f"the model does not return one tensor that depends on the picture, but {rec.returned}"
        )
    return rec.output


def _rows(value: Tensor, name: str, count: int) -> Tensor:
    if value.dim() < 2 or len(value) != count:
        raise DeconvvizValueError(
            f"layer '{name or 'output'}' has shape {tuple(value.shape)} for {count} pictures; "
            "allowed: one row for each picture"
        )
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
