"""Activations: the signal rectified (deconvnet), masked (gradient), or both (guided)."""

from __future__ import annotations

from torch import Tensor

from deconvviz.engine.compact import Bits
from deconvviz.engine.recording import Op, Recording
from deconvviz.engine.rules.base import (
    Pointwise,
    Rule,
    Walk,
    alone,
    condense_slope,
    derivative,
    gradient,
    refuse_method,
    register,
    share,
    slope,
)
from deconvviz.engine.rules.fallback import rule_of
from deconvviz.engine.windows import Signal


def activate(s: Signal, method: str, slope: Tensor | None) -> Signal:
    """The backward nonlinearity of one activation; `slope` is f'(x) on the whole map (None: not needed)."""
    data = s.data if method == "gradient" else s.data.clamp_min(0)
    if method != "deconvnet" and slope is not None:
        data = data * (slope if s.windows is None else s.windows.cut(slope))
    return s.like(data)


@register(
    "leaky_relu", "leaky_relu_", "elu", "elu_", "gelu", "gelu_", "silu", "silu_", "hardswish", "hardswish_", "softplus",
    "mish", "mish_", "tanh", "tanh_", "prelu", "_prelu_kernel", "celu", "celu_", "selu", "selu_", "log_sigmoid_forward",
    "softshrink", "hardshrink", "exp", "pow", "sqrt", "rsqrt", "log", "abs", "reciprocal", "erf", "erfc", "sin", "cos",
    "atan", "log1p", "expm1", "exp_", "pow_", "sqrt_", "rsqrt_", "log_", "abs_", "rrelu_with_noise", "softplus_",
    "asinh", "log2", "log10", "exp2", "sinh", "cosh", "tan",
)  # fmt: skip
class Activation(Pointwise):
    """Any pointwise activation: the signal is rectified, in `guided` also multiplied by its derivative.

    A rule for one of your own: `@register("my::activation") class MyActivation(Activation): pass`.
    """

    role = "activation"
    elementwise = True

    def rectifies(self, op: Op) -> bool:
        """Whether the signal is rectified; if not, it is multiplied by the derivative whatever the method."""
        return True

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return () if walk.method == "deconvnet" and self.rectifies(op) else op.inputs

    def condense(self, walk: Walk, op: Op) -> bool:
        """Its derivative, if that is asked for."""
        if walk.rec.values[op.inputs[0]].is_complex():
            return False  # its derivative is no factor
        return not self.keeps(walk, op) or condense_slope(walk, op)

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        method = walk.method if self.rectifies(op) else "gradient"
        shape = walk.shape(op.inputs[0])
        if walk.rec.values[op.inputs[0]].is_complex():
            if method != "gradient":
                refuse_method(walk, op, "is a function of complex numbers")
            return gradient(walk, op, i, s)
        if len(op.inputs) > 1 or shape != s.shape:
            return self.spread(walk, op, i, s, method)
        return activate(s, method, None if method == "deconvnet" else derivative(walk, [op], op.inputs[0]))

    def spread(self, walk: Walk, op: Op, i: int, s: Signal, method: str) -> Signal | None:
        """The same where the operand was broadcast, or there are several (a power of two values of the image)."""
        if len({*op.inputs}) > 1 and method != "gradient":
            refuse_method(walk, op, "is a function of two image-dependent values")
        if method == "deconvnet":
            return share(activate(s, method, None), 1, walk.shape(op.inputs[i]))
        return gradient(walk, op, i, s if method == "gradient" else activate(s, "deconvnet", None))


@register("sigmoid", "sigmoid_", "hardsigmoid", "hardsigmoid_")
class Gate(Activation):
    """An activation, and as a factor a gate."""

    gate = True


@register("threshold", "threshold_", "clamp_min", "clamp_min_", "clamp", "clamp_", "hardtanh", "hardtanh_")
class LowerBound(Activation):
    """`clamp` and its like: they rectify, and nothing below 0 comes out, only if their lower bound is 0."""

    def rectifies(self, op: Op) -> bool:
        low = op.arg("min", op.arg("min_val", op.arg("threshold", 0)))
        return isinstance(low, int | float) and low == 0

    keeps = Activation.keeps

    def condense(self, walk: Walk, op: Op) -> bool:
        """Where it is shut, as bits."""
        if self.keeps(walk, op) and not alone(op):
            return False
        if self.keeps(walk, op):
            walk.rec.condensed["shut", op.index] = self.shut(walk, op)
        return True

    def shut(self, walk: Walk, op: Op) -> Bits:
        """Where its derivative is 0."""
        rec, value = walk.rec, op.inputs[0]
        if not alone(op):
            return Bits.of(derivative(walk, [op], value), lambda g: g == 0)
        return Bits.of(rec.values[value], lambda x: slope(rec, [op], value, x) == 0)

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Its derivative is 0 or 1, a switch: what it shuts out is nothing, even if that is infinite."""
        method = walk.method if self.rectifies(op) else "gradient"
        if method == "deconvnet" or len(op.inputs) > 1 or walk.shape(op.inputs[0]) != s.shape:
            return super().project(walk, op, i, s)
        shut: Bits = walk.once(("shut", op.index), lambda: self.shut(walk, op))
        data = activate(s, method, None).data
        return s.like(data.masked_fill(shut.whole() if s.windows is None else shut.cut(s.windows), 0))


@register("relu", "relu_", "relu6")
class Relu(LowerBound):
    """The paper's own."""

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        """What comes out tells where it is shut, also where it is written over what came in."""
        if op.base != "relu":
            return super().keeps(walk, op)
        return () if walk.method == "deconvnet" else (*op.outputs,)  # type: ignore[arg-type]  # one tensor

    def shut(self, walk: Walk, op: Op) -> Bits:
        """As autograd has it: where nothing comes out; NaN passes."""
        return Bits.of(walk.rec.values[op.output()], lambda y: y <= 0) if op.base == "relu" else super().shut(walk, op)

    def follow(self, op: Op, data: Tensor, own: bool) -> Tensor:
        """In place even where it was not recorded so."""
        return data.relu_() if own and op.base == "relu" else super().follow(op, data, own)


@register("maximum")
class Larger(Activation):
    """The larger of two values: `torch.maximum(x, zeros)` is a ReLU; with anything else its derivative's mask."""

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return op.inputs

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        others = [a for a in op.given.values() if isinstance(a, Tensor)]
        if len(op.inputs) == 1 and len(others) == 1 and not bool(others[0].any()):
            return super().project(walk, op, i, s)
        return gradient(walk, op, i, s)


@register("clamp_max", "clamp_max_", "minimum")
class UpperBound(Activation):
    """`clamp` with an upper bound only, and the smaller of two values: their derivative's mask.

    In `deconvnet` a bound on an activation is a part of it, as in ReLU6, which is not masked where it saturates.
    """

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return () if self.taken_in(walk, op) else op.inputs

    def condense(self, walk: Walk, op: Op) -> bool:
        """The derivative, if that is asked for."""
        return self.taken_in(walk, op) or condense_slope(walk, op)

    def taken_in(self, walk: Walk, op: Op) -> bool:
        """Whether it is a part of the activation before it."""
        before = walk.rec.producer.get(op.inputs[0])
        alone = walk.method == "deconvnet" and len(op.inputs) == 1
        return alone and before is not None and rule_of(before).role == "activation"

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Mask; between two image-dependent values, exactly as autograd does."""
        shape = walk.shape(op.inputs[i])
        if self.taken_in(walk, op):
            return share(s, 1, shape)
        if len(op.inputs) > 1 or shape != s.shape:
            return gradient(walk, op, i, s)
        return activate(s, "gradient", derivative(walk, [op], op.inputs[0]))


@register("_log_softmax")
class LogSoftmax(Rule):
    """Differentiated in `gradient`; else its denominator is a constant and it acts like an activation."""

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        if walk.method == "gradient":
            return op.inputs
        return tuple(v for v in op.outputs if v is not None) if self.gate and walk.method == "guided" else ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        if walk.method == "gradient":
            return gradient(walk, op, i, s)
        return activate(s, walk.method, walk.rec.values[op.output()] if self.gate else None)

    def alike(self, rec: Recording, op: Op) -> bool:
        return bool(op.arg("dim") % rec.values[op.inputs[0]].dim())


@register("_softmax")
class Softmax(LogSoftmax):
    """The same, in `guided` times the probability; as a factor a gate."""

    gate = True
