"""Sums, concatenations, products and quotients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deconvviz.engine.recording import Op, Recording, Ref
from deconvviz.engine.rules.base import Pointwise, Rule, Walk, derivative, gradient, refuse_method, register, share
from deconvviz.engine.rules.gates import factor_of, is_centring, pointwise_chain, pointwise_source, slope_far_out
from deconvviz.engine.rules.pointwise import activate
from deconvviz.engine.windows import Signal, Windows, from_whole


@register("add", "add_", "sub", "sub_", "rsub")
class Sum(Pointwise):
    """The signal goes to each branch, with its sign and factor."""

    role = "linear"
    elementwise = True
    keeps_gates = True

    def adds(self, op: Op) -> bool:
        return op.base == "add" and op.arg("alpha") == 1

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """The signal, its sign, its factor; none into the mean of a norm that is spelt out."""
        alpha = op.arg("alpha")
        if i == 1 and walk.method != "gradient" and is_centring(walk.rec, op):
            return None
        factors = {"add": (1, alpha), "sub": (1, -alpha), "rsub": (-alpha, 1)}[op.base]
        return share(s, factors[op.operand(i) == "other"], walk.shape(op.inputs[i]))


class _Joined(Rule):
    """Operands in a list, joined along one dimension: each takes its own part of the signal."""

    role = "linear"
    keeps_gates = True

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

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return ()

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

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        dim = op.arg("dim") % len(s.shape)
        return from_whole(s.whole().select(dim + 1, self.place(op, i)))


@register("mul", "mul_")
class Product(Pointwise):
    """A constant factor scales; a gate or norm is a constant factor too; `x * f(x)` is an activation (see `gates`)."""

    elementwise = True

    def takes(self, walk: Walk, op: Op) -> tuple[int, ...]:
        """The operands; the value that an activation spelt in several operators begins with."""
        found = self.activation(walk, op)
        return op.inputs if found is None else (found[0],)

    def activation(self, walk: Walk, op: Op) -> tuple[int, list[Op]] | None:
        """The value of which this is an activation, and the operators that it is spelt in."""
        if walk.method == "gradient":
            return None
        found: tuple[int, list[Op]] | None = walk.once(("activation", op.index), lambda: _activation(walk.rec, op))
        return found

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        """The factor of two; both for `gradient`. What an activation begins with the recorder keeps (`_forks`)."""
        if len(op.inputs) == 1:
            return ()
        if walk.method == "gradient" or not op.outputs:
            return op.inputs
        if _activation(walk.rec, op) is not None:
            return ()
        pair = op.inputs[0], op.inputs[1]
        factor = factor_of(walk.rec, pair, walk.rec.values[op.output()])
        return () if factor is None else (pair[factor],)

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        found = self.activation(walk, op)
        if found is not None:
            source, ops = found
            return activate(s, walk.method, derivative(walk, ops, source) if walk.method == "guided" else None)
        shape = walk.shape(op.inputs[i])
        if len(op.inputs) == 1:
            return scaled(s, self.constant(walk, op), shape)
        if walk.method == "gradient":
            return gradient(walk, op, i, s)
        factor = self.factor(walk, op, i)
        return None if factor is None else scaled(s, factor, shape)

    def constant(self, walk: Walk, op: Op) -> Any:
        """The factor of the only image-dependent operand."""
        return op.arg("other" if op.operand(0) == "self" else "self")

    def factor(self, walk: Walk, op: Op, i: int) -> Tensor | None:
        """The factor of operand `i` of two, taken as a constant; None for a gate."""
        return recorded_factor(walk, op, (op.inputs[0], op.inputs[1]), i)


def scaled(s: Signal, factor: Any, shape: tuple[int, ...]) -> Signal:
    """An operand's share of the signal on a product, for its `factor`; that of a complex number is its conjugate."""
    conjugate = factor.conj() if isinstance(factor, Tensor) else factor.conjugate()
    return share(s, conjugate, shape)


def recorded_factor(walk: Walk, op: Op, pair: tuple[int, int], i: int) -> Tensor | None:
    """What operand `i` of a pair that is multiplied is scaled with; None for that which is the factor."""
    rec = walk.rec
    gate = walk.once(("factor", op.index), lambda: factor_of(rec, pair, rec.values[op.output()]))
    if gate is None:
        refuse_method(walk, op, "multiplies two image-dependent values, neither (or both) a gate or a norm")
    return None if i == gate else rec.values[pair[1 - i]]


def _activation(rec: Recording, op: Op) -> tuple[int, list[Op]] | None:
    """The value of which a product is an activation, and the operators that lead from it to the product."""
    if len(op.inputs) == 2:
        source = pointwise_source(rec, op.inputs)
        ops = None if source is None else pointwise_chain(rec, op.output(), source)
        return None if source is None or ops is None else (source, ops)
    return _normalised(rec, op)


def _normalised(rec: Recording, op: Op) -> tuple[int, list[Op]] | None:
    """The same of a product divided by the constant that makes it the identity far out: `x * relu6(x + 3) / 6`."""
    before = rec.producer.get(op.inputs[0])
    if any(isinstance(a, Tensor) and a.dim() for a in op.given.values()) or before is None:
        return None
    if before.base not in ("mul", "div") or len(before.inputs) != 2 or len(rec.consumers(op.inputs[0])) > 1:
        return None
    found = _activation(rec, before)
    if found is None:
        return None
    source, ops = found
    slope = slope_far_out(rec, ops, source)
    whole = slope_far_out(rec, [*ops, op], source)
    plain = slope is None or whole is None or abs(slope - 1) < 1e-3 or abs(whole - 1) > 1e-3
    return None if plain else (source, [*ops, op])


@register("div", "div_")
class Quotient(Product):
    """A product with one over the denominator, which is a constant; a constant over a value is an activation."""

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        if walk.method == "gradient" or not op.outputs or op.operand(0) == "other":
            return op.inputs
        return op.inputs[1:]

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        if op.arg("rounding_mode", None) is not None:
            return None  # as every rounding: constant almost everywhere
        if len(op.inputs) == 1 and op.operand(0) == "other":
            shape = walk.shape(op.inputs[0])
            if walk.method == "gradient" or shape != s.shape:
                return gradient(walk, op, i, s if walk.method == "gradient" else activate(s, "deconvnet", None))
            return activate(s, walk.method, derivative(walk, [op], op.inputs[0]))
        return super().project(walk, op, i, s)

    def constant(self, walk: Walk, op: Op) -> Any:
        return 1 / op.arg("other")

    def factor(self, walk: Walk, op: Op, i: int) -> Tensor | None:
        return 1 / walk.rec.values[op.inputs[1]] if i == 0 else None


@register("addcmul", "addcmul_", "addcdiv", "addcdiv_")
class SumOfProduct(Pointwise):
    """A value and the product (or quotient) of two others: the signal goes to the value as it is, to those as there."""

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        if walk.method == "gradient":
            return gradient(walk, op, i, s)
        name, shape = op.operand(i), walk.shape(op.inputs[i])
        if name == "self":
            return share(s, 1, shape)
        first, second = op.arg("tensor1"), op.arg("tensor2")
        divides, n = "div" in op.name, ("tensor1", "tensor2").index(name)
        other = (second, first)[n]
        if not isinstance(other, Ref):
            if divides and n == 1:
                refuse_method(walk, op, "divides a constant by an image-dependent value")
            return scaled(s, op.arg("value") * (1 / other if divides else other), shape)
        if divides:
            return None if n == 1 else scaled(s, op.arg("value") / walk.rec.values[other.value], shape)
        factor = recorded_factor(walk, op, (first.value, second.value), n)
        return None if factor is None else scaled(s, op.arg("value") * factor, shape)


@register("lerp", "lerp_")
class Mixture(Pointwise):
    """Two values mixed, by a weight that is a constant."""

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        if walk.method == "gradient":
            return gradient(walk, op, i, s)
        name, weight = op.operand(i), op.arg("weight")
        if name == "weight":
            return None
        weight = walk.rec.values[weight.value] if isinstance(weight, Ref) else weight
        return share(s, weight if name == "end" else 1 - weight, walk.shape(op.inputs[i]))


@register("glu")
class GatedUnit(Rule):
    """One half of the maps times the sigmoid of the other, which is a constant."""

    def alike(self, rec: Recording, op: Op) -> bool:
        return bool(op.arg("dim") % rec.values[op.inputs[0]].dim())

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        if walk.method == "gradient":
            return gradient(walk, op, i, s)
        x = walk.rec.values[op.inputs[0]]
        dim = op.arg("dim") % x.dim()
        gate = x.chunk(2, dim)[1].sigmoid()
        passed = s.whole() * gate
        return from_whole(torch.cat([passed, torch.zeros_like(passed)], dim + 1))


@register("neg", "neg_")
class Negative(Pointwise):
    """Changes the sign."""

    role = "linear"
    elementwise = True

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        return s.like(-s.data)
