"""The backward pass of ReLUs replaced, however they are spelt: in autograd, for any inputs and any target.

On the way forward every spelling becomes one of torch's own (`clamp(min=0)` a ReLU, `clamp(0, 6)` a ReLU6); on the way
back autograd calls their derivatives by name, and those are what is replaced. So modules, functions, methods, in-place
writes, writes through views and recomputed passes are all the same, and nothing is hung on the model.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Every way to call `clamp` and its like, and their arguments.
_CLAMPS = {
    getattr(home, name + end): inspect.Signature(
        [inspect.Parameter(p, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None) for p in ("self", *bounds)]
    )
    for name, bounds in (("clamp", ("min", "max")), ("clip", ("min", "max")), ("clamp_min", ("min",)))
    for home in (torch, Tensor)
    for end in ("", "_")
}
_IN_PLACE = {c for c in _CLAMPS if c.__name__.endswith("_")}
_LARGER = {torch.maximum, torch.max, torch.fmax, Tensor.maximum, Tensor.max, Tensor.fmax}

_aten = torch.ops.aten
# Derivatives of what is a ReLU if its lower bound, the argument after the signal and the value, is 0.
_RELUS = {_aten.threshold_backward, _aten.hardtanh_backward}
# Those of activations that are not.
_OTHERS = {
    _aten.silu_backward, _aten.gelu_backward, _aten.elu_backward, _aten.leaky_relu_backward, _aten.hardswish_backward,
    _aten.mish_backward, _aten.softplus_backward, _aten._prelu_kernel_backward,
}  # fmt: skip


class AsRelus(TorchFunctionMode):
    """A forward pass in which bounds from below by 0 are torch's own ReLUs."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in _CLAMPS:
            return _clamped(func, args, given)
        if func in _LARGER and len(args) == 2 and not given:
            return _larger(func, *args)
        return func(*args, **given)


def _clamped(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        given = _CLAMPS[func].bind(*args, **({"self": kwargs.pop("input")} | kwargs if "input" in kwargs else kwargs))
    except TypeError:  # with `out`, or not at all
        return func(*args, **kwargs)
    given.apply_defaults()
    x, low, high = (*given.arguments.values(), None)[:3]
    if not isinstance(low, int | float) or low != 0 or not _number_above(high) or not x.is_floating_point():
        return func(*given.args)
    if high is not None:
        return F.hardtanh(x, 0.0, float(high), inplace=func in _IN_PLACE)
    return x.relu_() if func in _IN_PLACE else x.relu()


def _number_above(high: object) -> bool:
    """Whether an upper bound leaves something above 0."""
    return high is None or (isinstance(high, int | float) and high > 0)


def _larger(func: Callable[..., Any], a: Any, b: Any) -> Any:
    """The larger of a value and zeros that nothing flows into is a ReLU."""
    for x, zeros in ((a, b), (b, a)):
        if (
            isinstance(x, Tensor) and isinstance(zeros, Tensor) and x.is_floating_point() and not zeros.requires_grad
            and torch.result_type(x, zeros) == x.dtype and _spreads(zeros, x) and not bool(zeros.any())
        ):  # fmt: skip
            return x.relu()
    return func(a, b)


def _spreads(small: Tensor, large: Tensor) -> bool:
    """Whether one is broadcast over the other, which keeps its shape."""
    fits = all(a in (1, b) for a, b in zip(small.shape[::-1], large.shape[::-1], strict=False))
    return fits and small.dim() <= large.dim()


class Rectified(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's base has no annotations
    """A backward pass in which the signal is rectified at every ReLU.

    `masked` says whether it is also stopped where the ReLU was shut: guided backpropagation (Springenberg et al. 2015);
    if not, the DeconvNet (Zeiler & Fergus 2014). `others` names the activations met that are no ReLUs: through them
    goes the derivative.
    """

    def __init__(self, masked: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.masked = masked
        self.others: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        operator = func.overloadpacket
        if operator in _RELUS and "grad_input" not in given and args[2] == 0:
            signal = args[0].relu()
            return func(signal, *args[1:], **given) if self.masked else signal
        if operator in _OTHERS:
            self.others.add(operator.__name__.strip("_").removesuffix("_backward").removesuffix("_kernel"))
        return func(*args, **given)
