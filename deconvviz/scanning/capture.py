"""Values of layers in a plain forward pass of a batch, at the cost of a hook; the pass ends at the deepest of them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from deconvviz.errors import DeconvvizValueError
from deconvviz.recording import Recording, op_name, plain_mode, untouched

See = Callable[[int, Tensor], None]


@dataclass(frozen=True)
class Tap:
    """Where a layer's value appears: on return of the `call`-th call of `module`, or (no module returns it) as the
    result of the `call`-th operator of the pass, which is an `operator`."""

    module: str | None
    call: int
    operator: str = ""


class _Done(BaseException):
    """Ends a forward pass early; a BaseException, so that no `except Exception` in a model swallows it."""


def find_taps(module: nn.Module, image: Tensor, rec: Recording, values: Sequence[int]) -> tuple[Tap, ...]:
    """Taps for recorded values; `rec` is the recording of `module` on `image` (1, C, H, W)."""
    returned: dict[int, Tap] = {}
    for path, calls in rec.calls.items():
        for call, value in enumerate(calls):
            if value is not None:
                returned.setdefault(value, Tap(path, call))
    hidden = {v: rec.values[v] for v in values if v not in returned}
    if hidden:
        search, image = _Search(hidden), image.detach().clone()
        with plain_mode(image.device.type), untouched(module), search:
            module(image)
        returned.update(search.found)
    for value in values:
        if value not in returned:
            op = rec.producer.get(value)
            raise DeconvvizValueError(f"the result of '{op.name if op else 'input'}' cannot be found in a plain pass")
    return tuple(returned[value] for value in values)


class _Search(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's base has no annotations
    """Finds the first operator whose result equals each of some values."""

    def __init__(self, values: dict[int, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.left = dict(values)
        self.found: dict[int, Tap] = {}
        self.number = -1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.number += 1
        for number, value in list(self.left.items()):
            if isinstance(out, Tensor) and out.shape == value.shape and torch.equal(out, value):
                self.found[number] = Tap(None, self.number, op_name(func))
                del self.left[number]
        return out


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's base has no annotations
    """Shows the results of chosen operators of a pass."""

    def __init__(self, taps: dict[int, tuple[int, str]], see: See) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.taps, self.see, self.number = taps, see, -1
        self.seeing = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.seeing:
            return out  # what is done with a value is no part of the pass
        self.number += 1
        if self.number in self.taps:
            layer, name = self.taps[self.number]
            if op_name(func) != name:
                raise DeconvvizValueError(f"a batch runs '{op_name(func)}' where one picture runs '{name}'")
            self.see(layer, out)
        return out

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What runs inside is not counted."""
        self.seeing = True
        try:
            yield
        finally:
            self.seeing = False


class Probe:
    """A model's own copy, sharing its parameters, that shows the values at `taps` as a batch passes.

    The copy lets several threads run at once, and nothing is ever attached to the model itself. A model that cannot be
    copied is used as it is (`alone`: by one thread only) and left as it was after every pass.
    """

    def __init__(self, module: nn.Module, taps: Sequence[Tap]) -> None:
        self.taps = taps
        self.alone = False
        self._like = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
        try:
            self.module = _twin(module)
        except Exception:
            self.module, self.alone = module, True

    def run(self, x: Tensor, see: See) -> None:
        """Run a batch (N, C, H, W); `see(i, value)` is called with the value of tap i as it appears."""
        x = x.to(self._like.device, self._like.dtype)
        missing = set(range(len(self.taps)))
        bare = {tap.call: (layer, tap.operator) for layer, tap in enumerate(self.taps) if tap.module is None}
        operators = _Operators(bare, lambda layer, value: seen(layer, value)) if bare else None

        def seen(layer: int, value: Tensor) -> None:
            with operators.aside() if operators else contextlib.nullcontext():
                see(layer, value)
            missing.discard(layer)
            if not missing:
                raise _Done

        with plain_mode(x.device.type), contextlib.ExitStack() as stack:
            if self.alone:
                stack.enter_context(untouched(self.module))
            stack.enter_context(self._hooks(seen))
            if operators is not None:
                stack.enter_context(operators)
            try:
                self.module(x)
            except _Done:
                return
        gone = self.taps[min(missing)]
        raise DeconvvizValueError(
            f"'{gone.module or gone.operator}' ran for one picture and does not run for a batch of {len(x)}"
        )

    @contextlib.contextmanager
    def _hooks(self, see: See) -> Iterator[None]:
        """Hooks on the modules that return a value."""
        hooked: dict[str, dict[int, int]] = {}
        for layer, tap in enumerate(self.taps):
            if tap.module is not None:
                hooked.setdefault(tap.module, {})[tap.call] = layer
        handles = []
        try:
            for path, calls in hooked.items():
                handles.append(self.module.get_submodule(path).register_forward_hook(_hook(calls, see)))
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


def _twin(module: nn.Module) -> nn.Module:
    """A deep copy in eval mode that shares the parameters."""
    shared: dict[int, Any] = {id(p): p for p in module.parameters()}
    for part in module.modules():
        # A weight that a hook computes anew (weight norm) cannot be copied, and need not be.
        shared.update({id(v): v for v in vars(part).values() if isinstance(v, Tensor) and v.grad_fn is not None})
    return copy.deepcopy(module, shared).eval()
