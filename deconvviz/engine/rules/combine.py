"""Sums, concatenations, products and quotients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deconvviz.engine.recording import Op, Recording, Ref
from deconvviz.engine.rules.base import GlobalNeeds, PointwiseNeeds, Walk, local_gradient, refuse, register
from deconvviz.engine.rules.pointwise import activate
from deconvviz.engine.windows import Frame, Signal, cut, from_whole


def reduce_to(s: Signal, shape: tuple[int, ...]) -> Signal:
    """Sum a signal over the axes along which its operand was broadcast."""
    if s.shape == shape:
        return s
    whole = s.whole()
    extra = len(s.shape) - len(shape)
    if extra:
        whole = whole.sum(list(range(1, 1 + extra)))
    axes = [a + 1 for a, n in enumerate(shape) if n == 1 and whole.shape[a + 1] != 1]
    return from_whole(whole.sum(axes, keepdim=True) if axes else whole, shape)


def scaled(s: Signal, factor: Any) -> Signal:
    """The signal times a number or a map that broadcasts over its value."""
    if not isinstance(factor, Tensor):
        return s.like(s.data * factor)
    if not s.windowed:
        return s.like(s.data * factor)
    while factor.dim() < 4:
        factor = factor.unsqueeze(0)
    return s.like(s.data * cut(factor, s))


@register("add", "add_", "sub", "sub_", "rsub")
class Sum(PointwiseNeeds):
    """The signal goes to each branch, with its sign and factor."""

    role = "linear"

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """The branch's share."""
        alpha = op.kwargs.get("alpha", op.args[2] if len(op.args) > 2 else 1)
        second = _positions(op)[i] == 1
        sign = {"add": 1, "sub": -1 if second else 1, "rsub": 1 if second else -1}[op.name.rstrip("_")]
        scales = second != (op.name == "rsub")
        return reduce_to(scaled(s, sign * (alpha if scales else 1)), walk.shape(op.inputs[i]))


def _positions(op: Op) -> list[int]:
    """Argument positions of the image-dependent operands, in the order of `op.inputs`."""
    return [n for n, a in enumerate(op.args) if isinstance(a, Ref)]


@register("cat")
class Concatenation(PointwiseNeeds):
    """Split the signal: each operand takes its own part."""

    role = "linear"

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """The operand's slice; on windows along dimension 1."""
        dim = op.args[1] if len(op.args) > 1 else op.kwargs.get("dim", 0)
        dim = dim % len(s.shape)
        start, seen = 0, -1
        for a in op.args[0]:
            seen += isinstance(a, Ref)
            size = (walk.rec.values[a.value] if isinstance(a, Ref) else a).shape[dim]
            if isinstance(a, Ref) and seen == i:
                break
            start += size
        shape = walk.shape(op.inputs[i])
        if s.windowed and dim == 1:
            return Signal(s.data.narrow(1, start, size), shape, s.rows, s.cols)
        return from_whole(s.whole().narrow(dim + 1, start, size), shape)

    def needs(self, rec: Recording, op: Op, i: int, span: tuple[int, int], axis: int) -> tuple[int, int] | None:
        """The same rows when maps are concatenated."""
        dim = op.args[1] if len(op.args) > 1 else op.kwargs.get("dim", 0)
        return span if dim in (1, -3) else None

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], frame: Frame) -> Any:
        """The windows one above the other, constants cut alike."""
        k = len(frame)
        parts = [windows[a.value] if isinstance(a, Ref) else frame.cut(a) for a in op.args[0]]
        return torch.cat([p.expand(k, *p.shape[1:]) for p in parts], 1)

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """Constants repeated for each picture."""
        dim = op.args[1] if len(op.args) > 1 else op.kwargs.get("dim", 0)
        operands = [rec.values[a.value] if isinstance(a, Ref) else a for a in op.args[0]]
        if dim % operands[0].dim() == 0 or any(o.shape[0] != 1 for o in operands):
            return None
        parts = [values[a.value] if isinstance(a, Ref) else a.expand(k, *a.shape[1:]) for a in op.args[0]]
        return torch.cat(parts, dim)


@register("stack")
class Stack(GlobalNeeds):
    """As concatenation, along a new dimension."""

    role = "linear"

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """Along any dimension but that of the pictures."""
        operands = [values[a.value] if isinstance(a, Ref) else a for a in op.args[0]]
        dim = (op.args[1] if len(op.args) > 1 else op.kwargs.get("dim", 0)) % (operands[0].dim() + 1)
        if dim == 0 or any(rec.values[v].shape[0] != 1 for v in op.inputs):
            return None
        return torch.stack([o.expand(k, *o.shape[1:]) for o in operands], dim)

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """The operand's slice."""
        dim = (op.args[1] if len(op.args) > 1 else op.kwargs.get("dim", 0)) % len(s.shape)
        places = [n for n, a in enumerate(op.args[0]) if isinstance(a, Ref)]
        return from_whole(s.whole().select(dim + 1, places[i]), walk.shape(op.inputs[i]))


_VIEWS = {"view", "_unsafe_view", "expand", "unsqueeze", "squeeze", "clone", "alias", "detach", "reshape", "permute",
          "transpose", "contiguous", "t"}  # fmt: skip
_GATES = {"sigmoid", "sigmoid_", "hardsigmoid", "hardsigmoid_", "_softmax"}


def _is_gate(rec: Recording, value: int) -> bool:
    op = rec.producer.get(value)
    while op is not None and op.name in _VIEWS:
        op = rec.producer.get(op.inputs[0])
    return op is not None and op.name in _GATES


_COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne", "logical_not", "bitwise_not")


def pointwise_chain(rec: Recording, value: int, source: int) -> list[Op] | None:
    """The pointwise operators that lead from `source` to `value`, or None if `value` is not computed so."""
    from deconvviz.engine.rules.base import rule_of

    if rec.values[value].shape != rec.values[source].shape:
        return None
    ops: list[Op] = []
    while value != source:
        op = rec.producer.get(value)
        simple = op is not None and len(op.inputs) == 1
        if op is None or not simple:
            return None
        if rule_of(op, missing_ok=True).role != "activation" and op.name.rstrip("_") not in (
            "add", "sub", "rsub", "mul", "div", "pow", "neg", "rsqrt", "sqrt", "reciprocal", "_to_copy",
            *_COMPARISONS,
        ):  # fmt: skip
            return None
        ops.append(op)
        value = op.inputs[0]
    return ops[::-1]


def _self_activation(rec: Recording, op: Op) -> tuple[int, list[Op]] | None:
    """`x * f(x)`: the number of x among the inputs, and the operators of f."""
    if len(op.inputs) != 2:
        return None
    a, b = op.inputs
    for source, other, number in ((a, b, 0), (b, a, 1)):
        ops = pointwise_chain(rec, other, source)
        if ops is not None:
            return number, ops
    return None


def composed_derivative(walk: Walk, op: Op, number: int, ops: list[Op]) -> Tensor:
    """Derivative of `x * f(x)` at the recorded x, f's operators run again."""

    def make() -> Tensor:
        source = op.inputs[number]
        with torch.enable_grad():
            x = walk.rec.values[source].detach().clone().requires_grad_(True)
            swap = {source: x}
            for each in (*ops, op):
                args, kwargs = walk.rec.fill(each, swap)
                args = tuple(a.clone() if each.name.endswith("_") and isinstance(a, Tensor) else a for a in args)
                out = each.func(*args, **kwargs)
                assert each.outputs[0] is not None
                swap[each.outputs[0]] = out
            (g,) = torch.autograd.grad(out.sum(), x)
        return g

    result: Tensor = walk.once(("composed", op.index), make)
    return result


@register("mul", "mul_", "div", "div_")
class Product(PointwiseNeeds):
    """A constant factor scales; a gate is a constant factor too; `x * f(x)` is an activation.

    A gate comes from a sigmoid, hardsigmoid or softmax; no signal goes into it.
    """

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """The signal for one factor."""
        if len(op.inputs) == 1:
            return self._by_constant(walk, op, s)
        if walk.method == "gradient":
            return local_gradient(walk, op, i, s) if i == op.inputs.index(op.inputs[i]) else None
        own = _self_activation(walk.rec, op)
        if own is not None:
            number, ops = own
            if i != number:
                return None
            need = walk.method == "guided"
            return activate(s, walk.method, composed_derivative(walk, op, number, ops) if need else None)
        return self._by_gate(walk, op, i, s)

    def _by_constant(self, walk: Walk, op: Op, s: Signal) -> Signal:
        position = _positions(op)[0]
        factor = op.args[1 - position]
        if op.name.startswith("div"):
            if position == 1 or op.kwargs.get("rounding_mode") is not None:
                refuse(op, "divides by an image-dependent value, or rounds; it has no rule")
            factor = 1 / factor
        return reduce_to(scaled(s, factor), walk.shape(op.inputs[0]))

    def _by_gate(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        values = walk.rec.values
        if op.name.startswith("div"):
            return reduce_to(scaled(s, 1 / values[op.inputs[1]]), walk.shape(op.inputs[0])) if i == 0 else None
        gates = [_is_gate(walk.rec, v) for v in op.inputs]
        if sum(gates) != 1:
            refuse(op, "multiplies two image-dependent values, neither (or both) a gate; it has no rule")
        if gates[i]:
            return None
        return reduce_to(scaled(s, values[op.inputs[1 - i]]), walk.shape(op.inputs[i]))


@register("neg", "neg_")
class Negative(PointwiseNeeds):
    """Changes the sign."""

    role = "linear"

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """The signal, negated."""
        return scaled(s, -1)
