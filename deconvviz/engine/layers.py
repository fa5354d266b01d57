"""Layers of a recording: by alias, module path or module; recording as far as one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from deconvviz.engine.passes import unwrap
from deconvviz.engine.per_module import PerModule
from deconvviz.engine.recorder import record
from deconvviz.engine.recording import UNSEEN, Recording
from deconvviz.engine.rules import Walk, rule_of
from deconvviz.engine.rules.base import Policy
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnknownNameError, suggest


@dataclass(frozen=True)
class FoundLayer:
    """A layer as found in a recording: its value number, its module path, and its longest alias if asked for by one."""

    value: int
    path: str
    alias: str | None = None


# For a layer of a model: the operators up to it (their names), and where it was found.
_WAYS: PerModule[tuple[tuple[str, ...], FoundLayer]] = PerModule()


def record_to(
    module: nn.Module, image: Tensor, layer: str | nn.Module, aliases: Mapping[str, str], policy: Policy | None = None
) -> tuple[Recording, FoundLayer]:
    """Record up to `layer` and say which value it is.

    The first time a layer is asked for the whole pass is recorded, since only that shows whether a module is called
    again or a value read twice; later passes of the same model stop at the layer, as long as the same operators run.
    Those keep, for a walk of the `policy` that is given, what that reads of the values, and nothing else.
    """
    module = unwrap(module)
    name = layer if isinstance(layer, str) else (module_path(module, layer),)
    key = (name, *conditions(module, image, aliases))
    ways = _WAYS.of(module)
    until, known = ways.get(key, (None, None))
    walk = None if policy is None or until is None else Walk(Recording(), *policy)
    rec = record(module, image, until, whole=False, walk=walk)
    another = walk is not None and rec.complete  # pass than the one that was planned for
    # Autograd's own answer is asked for by the modules that have returned, not all of which have where a pass ends.
    by_autograd = rec.beyond is not None and not rec.complete and (policy is None or policy[0] == "gradient")
    if another or by_autograd:
        rec = record(module, image, whole=False)
    if known is not None and not rec.complete:
        return rec, known
    try:
        found = find_layer(rec, module, layer, aliases)
    except DeconvvizValueError as error:
        # What could not be recorded is the reason, unless the name is wrong.
        raise error if rec.refused is None or isinstance(error, UnknownNameError) else rec.refused from None
    op = rec.producer.get(found.value)
    if op is not None and rec.beyond is None:  # else autograd needs the module that returns it, which ends later
        ways[key] = tuple(o.name for o in rec.ops[: op.index + 1]), found
    return rec, found


def conditions(module: nn.Module, x: Tensor, aliases: Mapping[str, str]) -> tuple[Hashable, ...]:
    """What decides, besides its weights, what a model runs on `x` (N, C, H, W) and what its layers are called."""
    # A hook that came or went since may change what runs, or what it returns.
    hooks = tuple(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())
    return tuple(x.shape[1:]), x.dtype, tuple(aliases.items()), hooks


def find_layer(rec: Recording, module: nn.Module, layer: str | nn.Module, aliases: Mapping[str, str]) -> FoundLayer:
    """Resolve an alias, a module path (`path#i` for its i-th call) or a module to a value of `rec`."""
    if not isinstance(layer, str):
        path = module_path(module, layer)
        return FoundLayer(_call(rec, path, None), path)
    if layer in aliases:
        path = aliases[layer]
        base, _, call = path.partition("#")
        alias = max((a for a, p in aliases.items() if p == path), key=len)
        return FoundLayer(follow(rec, _call(rec, base, call or None)), path, alias)
    base, _, call = layer.partition("#")
    if base not in rec.kinds or base == "":
        known = [*aliases, *(p for p in rec.kinds if p)]
        hint = suggest(layer, known) or f"; known are {', '.join(known[:12])}{', …' if len(known) > 12 else ''}"
        raise UnknownNameError(f"unknown layer '{layer}'{hint}")
    return FoundLayer(_call(rec, base, call or None), base)


def module_path(module: nn.Module, part: nn.Module) -> str:
    """The first path of a part of the model; an error for a module that is not a part of it."""
    if not isinstance(part, nn.Module):
        raise DeconvvizTypeError(f"layer: expected an alias, a module path or a module, got {type(part).__name__}")
    plain = unwrap(part)
    paths: list[str] = [path for path, m in module.named_modules() if m is plain]
    if not paths:
        raise UnknownNameError(f"layer: this {type(part).__name__} is not a part of the model")
    return paths[0]


def _call(rec: Recording, path: str, call: str | None) -> int:
    calls = rec.calls.get(path, [])
    if path not in rec.kinds:
        raise UnknownNameError(f"unknown layer '{path}'{suggest(path, rec.kinds)}")
    if not calls:
        raise DeconvvizValueError(f"layer '{path}' did not run in this forward pass")
    if call is not None and (not call.isdigit() or int(call) >= len(calls)):
        raise DeconvvizValueError(
            f"layer '{path}' was called {len(calls)} times; '#{call}' is not one of 0 to {len(calls) - 1}"
        )
    value = calls[int(call) if call is not None else -1]
    if value is None:
        raise DeconvvizValueError(
            f"layer '{path}' does not return one tensor that depends on the image as far as can be seen (not if "
            f"{UNSEEN})"
        )
    return value


def follow(rec: Recording, value: int) -> int:
    """From a convolution's or linear layer's output on through norm and activation, while each is read only once."""
    op = rec.producer.get(value)
    if op is None or op.name not in ("convolution", "addmm", "mm"):
        return value
    while True:
        readers = rec.consumers(value)
        if len(readers) != 1 or not readers[0].outputs:
            return value
        kind = rule_of(readers[0]).role
        following = readers[0].outputs[0]
        if kind not in ("norm", "activation") or following is None:
            return value
        value = following
        if kind == "activation":
            return value


def layer_maps(rec: Recording, found: FoundLayer) -> Tensor:
    """The layer's recorded value as maps (C, h, w)."""
    value = rec.values[found.value]
    check_maps(found.path, value.shape, one=True)
    return value[0] if value.dim() == 4 else value[0, :, None, None]


def check_maps(layer: str, shape: Sequence[int], one: bool = False) -> None:
    """Raise `DeconvvizValueError` for the value of a layer that has no units (nor, with `one`, that of one picture)."""
    if len(shape) not in (2, 4) or (one and shape[0] != 1):
        raise DeconvvizValueError(
            f"layer '{layer}' has an output of shape {tuple(shape)}; units are known for (N, C, H, W) and (N, C)"
        )
