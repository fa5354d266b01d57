"""Choosing between values: masks, `where`, maxima over axes, upper bounds."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from deconvviz.engine.recording import Op, Recording, Ref
from deconvviz.engine.rules.base import (
    GlobalNeeds,
    PointwiseNeeds,
    Span,
    Walk,
    elementwise_derivative,
    local_gradient,
    register,
    rule_of,
)
from deconvviz.engine.rules.combine import composed_derivative, pointwise_chain, reduce_to, scaled
from deconvviz.engine.rules.pointwise import activate
from deconvviz.engine.windows import Signal, from_whole


@register("gt", "ge", "lt", "le", "eq", "ne", "logical_not", "logical_and", "logical_or", "bitwise_not", "sign",
          "floor", "ceil", "round", "isnan")  # fmt: skip
class Step(PointwiseNeeds):
    """Comparisons and roundings: constant almost everywhere, so no signal goes through them."""

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Nothing."""
        return None


@register("where", "masked_fill", "masked_fill_")
class Choice(PointwiseNeeds):
    """The recorded mask is a switch: the signal goes to the operand that was taken.

    A choice by an operand's own values, such as `where(x > 0, x, 0)`, is an activation of that operand.
    """

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """The operand's share; an activation rectifies, but for `gradient`."""
        value = op.inputs[i]
        if i != op.inputs.index(value) or not walk.rec.values[value].is_floating_point():
            return None  # a mask, or an operand whose share went with its first place
        own = _self_choice(walk.rec, op) if walk.method != "gradient" else None
        if own is not None:
            number, ops = own
            if i != number:
                return None
            return activate(s, walk.method, composed_derivative(walk, op, number, ops) if _guided(walk) else None)
        mask, taken, other = _operands(op)
        switch: Tensor = walk.rec.values[mask.value] if isinstance(mask, Ref) else mask
        share = switch * float(taken == Ref(value)) + ~switch * float(other == Ref(value))
        return reduce_to(scaled(s, share), walk.shape(value))


def _guided(walk: Walk) -> bool:
    return walk.method == "guided"


def _operands(op: Op) -> tuple[Any, Any, Any]:
    """Mask, what is taken where it holds, what is taken elsewhere."""
    if op.name == "where":
        return op.args[0], op.args[1], op.args[2]
    return op.args[1], op.args[2], op.args[0]


def _self_choice(rec: Recording, op: Op) -> tuple[int, list[Op]] | None:
    """The number of the operand from which mask and other operand are computed, and the operators that do so."""
    mask, *operands = _operands(op)
    for source in operands:
        if not (isinstance(source, Ref) and isinstance(mask, Ref)):
            continue
        if rec.values[source.value].shape != rec.values[op.outputs[0]].shape:  # type: ignore[index]  # it has one
            continue
        chains = [pointwise_chain(rec, a.value, source.value) for a in (mask, *operands) if isinstance(a, Ref)]
        if all(chain is not None for chain in chains):
            return op.inputs.index(source.value), [each for chain in chains for each in chain or ()]
    return None


@register("amax", "max")
class Maximum(GlobalNeeds):
    """A maximum over axes is a pool: the signal goes to the recorded argmax, the first one in raster order.

    In `gradient` places that tie share it, as in autograd.
    """

    def needs(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """The same rows if the maximum is over other axes and keeps them."""
        a, b = rec.values[op.inputs[0]].shape, rec.values[op.outputs[0]].shape  # type: ignore[index]
        kept = len(a) == len(b) == 4 and 2 + axis not in _axes(op, 4)
        return span if kept else None

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Unpool on the whole value."""
        if walk.output != 0:
            return None  # the indices of `max(dim)`
        if walk.method == "gradient":
            return local_gradient(walk, op, i, s)
        shape = walk.shape(op.inputs[i])
        axes = _axes(op, len(shape))
        order = [d for d in range(len(shape)) if d not in axes] + axes
        kept = [shape[d] for d in order[: len(shape) - len(axes)]]
        x = walk.rec.values[op.inputs[i]]
        switch = walk.once(("switch", op.index), lambda: x.permute(order).reshape(*kept, -1).argmax(-1, keepdim=True))
        whole = s.whole().reshape(len(s), *kept, 1)
        data = whole.new_zeros(len(s), *kept, x.numel() // switch.numel())
        data.scatter_(-1, switch.expand(len(s), *switch.shape), whole)
        back = sorted(range(len(order)), key=order.__getitem__)
        data = data.view(len(s), *(shape[d] for d in order)).permute(0, *(d + 1 for d in back))
        return from_whole(data, shape)


def _axes(op: Op, dims: int) -> list[int]:
    """Axes that a maximum is over, in ascending order: all, if it names none."""
    given = op.args[1] if len(op.args) > 1 else op.kwargs.get("dim", [])
    given = [given] if isinstance(given, int) else list(given)
    return sorted(d % dims for d in given) or list(range(dims))


@register("clamp_max", "clamp_max_", "minimum")
class UpperBound(PointwiseNeeds):
    """`clamp` with an upper bound only, and the smaller of two values: their derivative's mask.

    In `deconvnet` a bound on an activation is a part of it, as in ReLU6, which is not masked where it saturates.
    """

    role = "activation"

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Mask; between two image-dependent values, exactly as autograd does."""
        before = walk.rec.producer.get(op.inputs[i])
        if walk.method == "deconvnet" and len(op.inputs) == 1 and before and rule_of(before).role == "activation":
            return reduce_to(s, walk.shape(op.inputs[i]))
        if len(op.inputs) > 1 or walk.shape(op.inputs[i]) != s.shape:
            return local_gradient(walk, op, i, s)
        return activate(s, "gradient", elementwise_derivative(walk, op))
