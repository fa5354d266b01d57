"""The values of some layers for many pictures: passes that stop at the deepest and hold nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from deconvviz.engine.capture import MisfitError, Tap, TappedModel, find_taps
from deconvviz.engine.layers import conditions
from deconvviz.engine.passes import fitting, unwrap
from deconvviz.engine.per_module import PerModule
from deconvviz.engine.readout import output_of
from deconvviz.engine.recorder import record
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, check_counts
from deconvviz.network.network import Network

# The model's own output, as a layer: the path that `named_modules` gives the model itself.
OUTPUT = ""

# How to find layers again without recording: the tap of each by its name.
Taps = dict[str, Tap]
_TAPS: PerModule[Taps] = PerModule()


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
    net = Network.of(model)
    _check_inputs(inputs)
    module = net.plain
    check_counts(batch=batch)
    names = {name_of(net, layer): layer for layer in layers}
    parts = [_pass(net, part, names) for part in torch.split(fitting(module, inputs.detach()), batch)]
    return {name: torch.cat([part[name] for part in parts]) for name in names}


def _check_inputs(inputs: object) -> None:
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        what = f"{inputs.dtype} tensor" if isinstance(inputs, Tensor) else type(inputs).__name__
        raise DeconvvizTypeError(f"inputs is a {what}; allowed: a preprocessed float tensor (N, C, H, W)")
    if inputs.dim() != 4 or not len(inputs):
        raise DeconvvizValueError(f"inputs has shape {tuple(inputs.shape)}; allowed: (N, C, H, W) with N from 1")


def name_of(net: Network, layer: str | nn.Module) -> str:
    """The key of `layer` in what `features` returns: the name that it is asked by, or a module's path."""
    if not isinstance(layer, nn.Module):
        return layer
    # An unknown module keeps a name that the error for it never shows.
    return next((path for path, m in net.plain.named_modules() if m is unwrap(layer)), "?")


def listed_layers(layers: str | nn.Module | Sequence[str | nn.Module]) -> list[str | nn.Module]:
    """One layer or several as a list. Raises `DeconvvizValueError` for none."""
    given = [layers] if isinstance(layers, str | nn.Module) else list(layers)
    if not given:
        raise DeconvvizValueError("layers is empty; allowed: one layer or more")
    return given


def _pass(net: Network, x: Tensor, layers: Mapping[str, str | nn.Module]) -> dict[str, Tensor]:
    """The layers' values for one batch, found as in an earlier pass if the same operators run."""
    module = net.plain
    key = (tuple(layers), *conditions(module, x, net.card.aliases))
    known = _TAPS.of(module)
    if key not in known:
        known[key] = _taps(net, x[:1], layers)
    try:
        return _take(module, x, known[key])
    except MisfitError:
        return _take(module, x, _taps(net, x, layers))


def _taps(net: Network, x: Tensor, layers: Mapping[str, str | nn.Module]) -> Taps:
    rec = record(net.plain, x)
    values = [
        output_of(rec, "this", net.output) if layer == OUTPUT else net.find_layer(rec, layer).value
        for layer in layers.values()
    ]
    return dict(zip(layers, find_taps(rec, values), strict=True))


def _take(module: nn.Module, x: Tensor, by_name: Taps) -> dict[str, Tensor]:
    taps = list(dict.fromkeys(by_name.values()))  # two names may stand for one value
    found: dict[Tap, Tensor] = {}

    def see(number: int, value: Tensor) -> None:
        found[taps[number]] = value.clone()  # the model may write over it later

    # No deep copy: its users' own hooks run as they are.
    TappedModel(module, taps, copied=False).run(x, see)
    return {name: _rows(found[tap], name, len(x)) for name, tap in by_name.items()}


def _rows(value: Tensor, name: str, count: int) -> Tensor:
    if value.dim() < 2 or len(value) != count:
        raise DeconvvizValueError(
            f"layer '{name or 'output'}' has shape {tuple(value.shape)} for {count} pictures; "
            "allowed: one row for each picture"
        )
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
