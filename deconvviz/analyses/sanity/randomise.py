"""Weights drawn anew, layer by layer, in a copy of a network: the model itself is never written to."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from deconvviz.engine.passes import runs_astray
from deconvviz.engine.recording import Recording
from deconvviz.engine.stand_ins import StandIn
from deconvviz.errors import UnsupportedOperatorError

DRAWN = "each layer's own initialisation (torch's reset_parameters); where it has none, its weights in another order"
ASTRAY = "no copy of this model can be randomised: it runs parts that are reached from outside of its modules"


# A module, a name, and the parameter or buffer that it had.
_Held: TypeAlias = tuple[nn.Module, str, Tensor]


@dataclass(frozen=True)
class Step:
    """What is randomised together: a module with weights, and what has only scales and shifts behind it (its norm)."""

    name: str
    parts: tuple[str, ...]


def steps_to(rec: Recording, value: int, module: nn.Module, aliases: Mapping[str, str]) -> list[Step]:
    """The layers with parameters that lead to a recorded value, the last one first.

    Nothing above the value takes part in a projection from it, so nothing above is randomised. Empty where none leads.
    """
    paths = dict.fromkeys(op.module for op in rec.ancestors((value,)))
    short = {path: max((a for a, p in aliases.items() if p == path), key=len) for path in aliases.values()}
    found: list[list[str]] = []
    for path in paths:
        owned = list(_owned(module.get_submodule(path)))
        if not owned:
            continue
        if not found or any(p.dim() > 1 for p in owned):
            found.append([])
        found[-1].append(path)
    return [Step(short.get(parts[0], parts[0]), tuple(parts)) for parts in reversed(found)]


class Copy:
    """A copy of a model that shares its parameters but for those drawn anew: `module`, to be run in its place."""

    def __init__(self, module: nn.Module, seed: int) -> None:
        if runs_astray(module):
            raise UnsupportedOperatorError(ASTRAY)
        self.module = StandIn(module).module or _deep_copy(module)
        self._seed = seed

    def randomise(self, step: Step) -> list[_Held]:
        """Draw the parameters of a step anew; what is returned puts them back (`restore`).

        What is drawn depends on the seed and the module's path, and on nothing else.
        """
        before: list[_Held] = []
        for path in step.parts:
            part = self.module.get_submodule(path)
            for parameter in list(_owned(part)):
                fresh = nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)
                for module in self.module.modules():  # one that is shared is one everywhere
                    for name in [name for name, p in module._parameters.items() if p is parameter]:
                        before.append((module, name, parameter))
                        module._parameters[name] = fresh
            before += [(part, name, b.clone()) for name, b in part._buffers.items() if b is not None]
            _draw(part, zlib.crc32(f"{self._seed} {path}".encode()))
        return before

    @staticmethod
    def restore(before: Sequence[_Held]) -> None:
        """Put back what `randomise` has replaced."""
        for module, name, tensor in reversed(before):
            held = module._parameters if name in module._parameters else module._buffers
            held[name] = tensor  # type: ignore[assignment]  # each is of its dictionary's kind


def _draw(part: nn.Module, seed: int) -> None:
    old = [(p, p.detach().clone()) for p in _owned(part)]
    devices = sorted({p.device.index or 0 for p, _ in old if p.device.type == "cuda"})
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(seed)
        reset = getattr(type(part), "reset_parameters", None)
        # A user's own may write to other modules, whose parameters are still the model's.
        known = reset is not None and str(reset.__module__).startswith("torch.")
        if reset is not None and known:
            reset(part)
        for parameter, value in old:
            # Scales and shifts may well be what they were; weights that are have not been drawn.
            if parameter.equal(value) and (parameter.dim() > 1 or not known):
                order = torch.randperm(value.numel()).to(value.device)
                parameter.copy_(value.flatten()[order].view_as(value))


def _owned(part: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters of a module itself, without those of its parts; what its parametrisations are made from, too."""
    within: list[nn.Module] = [part]
    if isinstance(own := part._modules.get("parametrizations"), nn.Module):
        within += own.modules()
    for module in within:
        yield from (p for p in module._parameters.values() if p is not None and p.is_floating_point())


def _deep_copy(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module).eval()
    except Exception as error:  # whatever a user's own classes raise
        raise UnsupportedOperatorError(f"this model cannot be copied, so it cannot be randomised: {error}") from error
