"""Sums, concatenations, products and quotients."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from deconvviz.engine.recording import Op, Recording, Ref
from deconvviz.engine.rules.base import Pointwise, Rule, Walk, derivative, gradient, refuse, register, share
from deconvviz.engine.rules.fallback import rule_of
from deconvviz.engine.rules.pointwise import activate
from deconvviz.engine.windows import Signal, Windows, from_whole


@register("add", "add_", "sub", "sub_", "rsub")
class Sum(Pointwise):
    """The signal goes to each branch, with its sign and factor."""

    role = "linear"
    elementwise = True

    def adds(self, op: Op) -> bool:
        return op.base == "add" and op.arg("alpha") == 1

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        alpha = op.arg("alpha")
        factors = {"add": (1, alpha), "sub": (1, -alpha), "rsub": (-alpha, 1)}[op.base]
        return share(s, factors[op.operand(i) == "other"], walk.shape(op.inputs[i]))


class _Joined(Rule):
    """Operands in a list, joined along one dimension: each takes its own part of the signal."""

    role = "linear"

    def operands(self, rec: Recording, op: Op) -> list[Tensor]:
        """The recorded ones, constants included."""
        return [rec.values[a.value] if isinstance(a, Ref) else a for a in op.arg("tensors")]

    def place(self, op: Op, i: int) -> int:
        """Where input `i` stands among them."""
        return [n for n, a in enumerate(op.arg("tensors")) if isinstance(a, Ref)][i]

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """Constants repeated for each picture; not along the dimension of the pictures."""
        if op.arg("dim") % rec.values[op.output()].dim() == 0 or any(o.shape[0] != 1 for o in self.operands(rec, op)):
            return None
        return _joined(op, values, lambda a: a.expand(k, *a.shape[1:]))


def _joined(op: Op, values: dict[int, Tensor], constant: Any) -> Any:
    """The operands joined, some `values` in place of the recorded ones, constants as that function makes them."""

    def filled(a: Any) -> Any:
        return values[a.value] if isinstance(a, Ref) else constant(a) if isinstance(a, Tensor) else a

    return op.run(filled)


@register("cat")
class Concatenation(_Joined):
    """Along a dimension that the operands have."""

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        dim, place = op.arg("dim") % len(s.shape), self.place(op, i)
        sizes = [o.shape[dim] for o in self.operands(walk.rec, op)]
        start, size = sum(sizes[:place]), sizes[place]
        if s.windows is not None and dim == 1:
            return s.like(s.data.narrow(1, start, size))
        return from_whole(s.whole().narrow(dim + 1, start, size))

    def aligned(self, rec: Recording, op: Op, i: int, axis: int) -> bool:
        return op.arg("dim") in (1, -3) and rec.values[op.output()].dim() == 4

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], at: Windows) -> Any:
        """The windows one above the other, constants cut alike."""
        return _joined(op, windows, lambda a: at.cut(a).expand(len(at), -1, -1, -1))


@register("stack")
class Stack(_Joined):
    """Along a new dimension."""

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        dim = op.arg("dim") % len(s.shape)
        return from_whole(s.whole().select(dim + 1, self.place(op, i)))


def _is_gate(rec: Recording, value: int) -> bool:
    """Whether a value comes from a gate, moved about or not."""
    op = rec.producer.get(value)
    while op is not None and rule_of(op).moves:
        op = rec.producer.get(op.inputs[0])
    return op is not None and rule_of(op).gate


def pointwise_chain(rec: Recording, value: int, source: int) -> list[Op] | None:
    """The pointwise operators that lead from `source` to `value`, or None if `value` is not computed so."""
    if rec.values[value].shape != rec.values[source].shape:
        return None
    ops: list[Op] = []
    while value != source:
        op = rec.producer.get(value)
        if op is None or len(op.inputs) != 1 or not rule_of(op).elementwise:
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


@register("mul", "mul_")
class Product(Pointwise):
    """A constant factor scales; a gate is a constant factor too; `x * f(x)` is an activation.

    A gate comes from a sigmoid, hardsigmoid or softmax; no signal goes into it.
    """

    elementwise = True

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        if len(op.inputs) == 1:
            return share(s, self.constant(op), walk.shape(op.inputs[0]))
        if walk.method == "gradient":
            return gradient(walk, op, i, s) if i == op.inputs.index(op.inputs[i]) else None
        own = _self_activation(walk.rec, op)
        if own is None:
            factor = self.factor(walk.rec, op, i)
            return None if factor is None else share(s, factor, walk.shape(op.inputs[i]))
        number, ops = own
        if i != number:
            return None
        guided = walk.method == "guided"
        return activate(s, walk.method, derivative(walk, [*ops, op], op.inputs[number]) if guided else None)

    def constant(self, op: Op) -> Any:
        """The factor of the only image-dependent operand."""
        return op.arg("other" if op.operand(0) == "self" else "self")

    def factor(self, rec: Recording, op: Op, i: int) -> Tensor | None:
        """The factor of operand `i` of two, taken as a constant; None for a gate."""
        gates = [_is_gate(rec, v) for v in op.inputs]
        if sum(gates) != 1:
            refuse(op, "multiplies two image-dependent values, neither (or both) a gate; it has no rule")
        return None if gates[i] else rec.values[op.inputs[1 - i]]


@register("div", "div_")
class Quotient(Product):
    """A product with one over the denominator, which is a constant."""

    def constant(self, op: Op) -> Any:
        if op.operand(0) == "other" or op.arg("rounding_mode", None) is not None:
            refuse(op, "divides by an image-dependent value, or rounds; it has no rule")
        return 1 / op.arg("other")

    def factor(self, rec: Recording, op: Op, i: int) -> Tensor | None:
        return 1 / rec.values[op.inputs[1]] if i == 0 else None


@register("neg", "neg_")
class Negative(Pointwise):
    """Changes the sign."""

    role = "linear"
    elementwise = True

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        return s.like(-s.data)
