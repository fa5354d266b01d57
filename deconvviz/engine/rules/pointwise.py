"""Activations: the signal rectified (deconvnet), masked (gradient), or both (guided)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from deconvviz.engine.recording import Op, Recording
from deconvviz.engine.rules.base import (
    PointwiseNeeds,
    Span,
    Walk,
    as_recorded,
    elementwise_derivative,
    local_gradient,
    register,
)
from deconvviz.engine.windows import Signal, cut


def activate(s: Signal, method: str, derivative: Tensor | None) -> Signal:
    """The backward nonlinearity of one activation; `derivative` is f'(x) on the whole map (None: not needed)."""
    data = s.data if method == "gradient" else s.data.clamp_min(0)
    if method != "deconvnet" and derivative is not None:
        data = data * (cut(derivative, s) if s.windowed else derivative)
    return s.like(data)


@register(
    "relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "elu", "elu_", "gelu", "gelu_", "silu", "silu_", "hardswish",
    "hardswish_", "softplus", "mish", "mish_", "sigmoid", "sigmoid_", "hardsigmoid", "hardsigmoid_", "tanh", "tanh_",
    "threshold", "threshold_", "clamp_min", "clamp_min_", "clamp", "clamp_", "hardtanh", "hardtanh_", "prelu",
    "_prelu_kernel", "celu", "celu_", "selu", "selu_", "log_sigmoid_forward", "softshrink", "hardshrink", "exp", "pow",
    "sqrt", "rsqrt", "log", "abs", "reciprocal",
)  # fmt: skip
class Activation(PointwiseNeeds):
    """Any pointwise activation. `clamp` and `hardtanh` rectify only if their lower bound is 0."""

    role = "activation"

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Rectify, mask, or both."""
        method = walk.method
        if not _rectifies(op):
            method = "gradient"
        return activate(s, method, None if method == "deconvnet" else elementwise_derivative(walk, op))


def _rectifies(op: Op) -> bool:
    low: object = 0
    if op.name.startswith(("clamp", "threshold")):
        low = op.args[1] if len(op.args) > 1 else op.kwargs.get("min")
    elif op.name.startswith("hardtanh"):
        low = op.args[1] if len(op.args) > 1 else op.kwargs.get("min_val", -1)
    return isinstance(low, (int, float)) and low == 0


@register("maximum")
class Maximum(PointwiseNeeds):
    """The larger of two values with a constant: `torch.maximum(x, zeros)` is a ReLU; else its derivative's mask."""

    role = "activation"

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Rectify when the other operand is a zero constant."""
        others = [a for a in op.args if isinstance(a, Tensor)]
        if len(op.inputs) == 1 and len(others) == 1 and not bool(others[0].any()):
            return activate(s, walk.method, None if walk.method == "deconvnet" else elementwise_derivative(walk, op))
        return local_gradient(walk, op, i, s)


@register("_softmax", "_log_softmax")
class Softmax(PointwiseNeeds):
    """Softmax: differentiated in `gradient`; else its denominator is a constant and it acts like an activation."""

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Rectify; in `guided` also times the probability."""
        if walk.method == "gradient":
            return local_gradient(walk, op, i, s)
        out = walk.rec.values[op.outputs[0]]  # type: ignore[index]
        return activate(s, walk.method, out if op.name == "_softmax" else None)

    def needs(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """All rows: the denominator may sum over them."""
        return None

    def carries(self, rec: Recording, op: Op, i: int, outer: int, size: int) -> int | None:
        """Not: the denominator."""
        return None

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """As recorded, unless it goes over the pictures."""
        return as_recorded(rec, op, values) if int(op.args[1]) % rec.values[op.inputs[0]].dim() else None
