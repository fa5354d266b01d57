"""Values of layers in a plain forward pass of a batch, at the cost of a hook; the pass ends at the deepest of them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from deconvviz.engine.passes import EndOfPass, eager, fitting, plain_mode, untouched
from deconvviz.engine.recording import Recording, op_name
from deconvviz.engine.stand_ins import StandIn
from deconvviz.errors import DeconvvizValueError

See = Callable[[int, Tensor], None]


@dataclass(frozen=True)
class Tap:
    """Where a layer's value appears in a plain pass.

    On return of the `call`-th call of `module`; or, if no module returns it, as the `output`-th result of the last of
    the first `operators` of the pass (their names).
    """

    module: str | None
    call: int = 0
    operators: tuple[str, ...] = ()
    output: int = 0

    def __str__(self) -> str:
        return f"'{self.module or (self.operators[-1] if self.operators else 'the model')}'"


class MisfitError(DeconvvizValueError):
    """A batch does not run what the recorded picture ran."""


def find_taps(rec: Recording, values: Sequence[int], outermost: bool = False) -> tuple[Tap, ...]:
    """Where recorded values appear in later, plain passes of the same model: first, or as what `outermost` returns."""
    returned: dict[int, Tap] = {}
    for path, calls in rec.calls.items():
        for call, value in enumerate(calls):
            if value is not None and (outermost or value not in returned):
                returned[value] = Tap(path, call)
    return tuple(returned[value] if value in returned else _result(rec, value) for value in values)


def _result(rec: Recording, value: int) -> Tap:
    op = rec.producer[value]
    return Tap(None, operators=tuple(rec.dispatched[: op.position + 1]), output=op.outputs.index(value))


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's base has no annotations
    """Shows the results of chosen operators of a pass; `taps` are layers with their taps."""

    def __init__(self, taps: Mapping[int, Tap], see: See) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.expected: tuple[str, ...] = max((tap.operators for tap in taps.values()), key=len)
        self.at: dict[int, list[tuple[int, int]]] = {}  # position → layers and which result
        for layer, tap in taps.items():
            self.at.setdefault(len(tap.operators) - 1, []).append((layer, tap.output))
        self.see, self.number, self.seeing = see, -1, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.seeing:
            return out  # what is done with a value is no part of the pass
        self.number += 1
        if self.number < len(self.expected) and op_name(func) != self.expected[self.number]:
            raise MisfitError(f"a batch runs '{op_name(func)}' where one picture runs '{self.expected[self.number]}'")
        for layer, output in self.at.get(self.number, ()):
            self.see(layer, out[output] if isinstance(out, tuple | list) else out)
        return out

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What runs inside is not counted."""
        self.seeing = True
        try:
            yield
        finally:
            self.seeing = False


class TappedModel:
    """Shows the values at `taps` as a batch passes through a model.

    A `copied` probe has a copy of the model that shares its parameters: several threads may run one each. Else, or if
    the model cannot be copied, every pass has a stand-in for it, one pass at a time (`alone`); see `untouched`.
    """

    def __init__(self, module: nn.Module, taps: Sequence[Tap], copied: bool = True) -> None:
        self.taps = taps
        twin = _twin(module) if copied else None
        self.module, self.alone = (module, True) if twin is None else (twin, False)

    def run(self, x: Tensor, see: See) -> None:
        """Run a batch (N, C, H, W); `see(i, value)` is called with the value of tap i as it appears.

        The pass ends with the last value. Raises `MisfitError` if the batch does not run what the taps were found for.
        """
        x = fitting(self.module, x)
        missing = set(range(len(self.taps)))
        bare = {layer: tap for layer, tap in enumerate(self.taps) if tap.module is None}
        operators = _Operators(bare, lambda layer, value: seen(layer, value)) if bare else None

        def seen(layer: int, value: Tensor) -> None:
            with operators.aside() if operators else contextlib.nullcontext():
                see(layer, value)
            missing.discard(layer)
            if not missing:
                raise EndOfPass

        with plain_mode(x.device.type), eager, contextlib.ExitStack() as stack:
            module = stack.enter_context(untouched(self.module)) if self.alone else self.module
            stack.enter_context(self._hooks(module, seen))
            if operators is not None:
                stack.enter_context(operators)
            try:
                module(x)
            except EndOfPass:
                return
        raise MisfitError(f"{self.taps[min(missing)]} ran for one picture and does not run for a batch of {len(x)}")

    @contextlib.contextmanager
    def _hooks(self, module: nn.Module, see: See) -> Iterator[None]:
        """Hooks on the modules that return a value."""
        hooked: dict[str, dict[int, int]] = {}
        for layer, tap in enumerate(self.taps):
            if tap.module is not None:
                hooked.setdefault(tap.module, {})[tap.call] = layer
        handles = []
        try:
            for path, calls in hooked.items():
                handles.append(module.get_submodule(path).register_forward_hook(_hook(calls, see)))
            yield
        finally:
            for handle in handles:
                handle.remove()


def _hook(calls: dict[int, int], see: See) -> Callable[[nn.Module, Any, Any], None]:
    count = 0

    def hook(_module: nn.Module, _inputs: Any, out: Any) -> None:
        nonlocal count
        count += 1
        if count - 1 in calls:
            see(calls[count - 1], out)

    return hook


def _twin(module: nn.Module) -> nn.Module | None:
    """A deep copy in eval mode that shares the parameters; None if the model cannot be copied.

    Unlike a stand-in it shares nothing else, so that it may run while another does.
    """
    if StandIn(module).closed_over:
        return None
    shared: dict[int, Any] = {id(p): p for p in module.parameters()}
    for part in module.modules():
        # A weight that a hook computes anew (weight norm) cannot be copied, and need not be.
        shared.update({id(v): v for v in vars(part).values() if isinstance(v, Tensor) and v.grad_fn is not None})
    try:
        return copy.deepcopy(module, shared).eval()
    except Exception:  # whatever a user's own modules raise
        return None
