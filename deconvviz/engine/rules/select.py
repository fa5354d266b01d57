"""Choosing between values: masks, `where`, maxima over axes."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from deconvviz.engine.recording import Op, Recording, Ref
from deconvviz.engine.rules.base import Pointwise, Rule, Walk, axes, derivative, gradient, register, share
from deconvviz.engine.rules.gates import pointwise_chain
from deconvviz.engine.rules.pointwise import activate
from deconvviz.engine.windows import Signal, from_whole


@register("gt", "ge", "lt", "le", "eq", "ne", "logical_not", "logical_and", "logical_or", "bitwise_not", "sign",
          "floor", "ceil", "round", "isnan", "trunc", "isinf", "logical_xor", "bitwise_and",
          "bitwise_or")  # fmt: skip
class Comparison(Pointwise):
    """Comparisons and roundings: constant almost everywhere, so no signal goes through them; as a factor a mask."""

    elementwise = True
    gate = True

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        return None


@register("where", "masked_fill", "masked_fill_")
class Choice(Pointwise):
    """The recorded mask is a switch: the signal goes to the operand that was taken.

    A choice by an operand's own values, such as `where(x > 0, x, 0)`, is an activation of that operand.
    """

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        """The mask; for `guided` what the derivative of an activation begins with."""
        mask = _operands(op)[0]
        return op.inputs if walk.method == "guided" else (mask.value,) if isinstance(mask, Ref) else ()

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
            guided = walk.method == "guided"
            return activate(s, walk.method, derivative(walk, [*ops, op], value) if guided else None)
        mask, taken, other = _operands(op)
        switch: Tensor = walk.rec.values[mask.value] if isinstance(mask, Ref) else mask
        factor = switch * float(taken == Ref(value)) + ~switch * float(other == Ref(value))
        return share(s, factor, walk.shape(value))


def _operands(op: Op) -> tuple[Any, Any, Any]:
    """Mask, what is taken where it holds, what is taken elsewhere."""
    names = ("condition", "self", "other") if op.name == "where" else ("mask", "value", "self")
    mask, taken, other = (op.arg(name) for name in names)
    return mask, taken, other


def _self_choice(rec: Recording, op: Op) -> tuple[int, list[Op]] | None:
    """The number of the operand from which mask and other operand are computed, and the operators that do so."""
    mask, *operands = _operands(op)
    for source in operands:
        if not (isinstance(source, Ref) and isinstance(mask, Ref)):
            continue
        if rec.values[source.value].shape != rec.values[op.output()].shape:
            continue
        chains = [pointwise_chain(rec, a.value, source.value) for a in (mask, *operands) if isinstance(a, Ref)]
        if all(chain is not None for chain in chains):
            return op.inputs.index(source.value), [each for chain in chains for each in chain or ()]
    return None


@register("topk", "sort", "kthvalue", "median", "min", "amin")
class Ordered(Rule):
    """Numbers chosen by their order: the recorded choice is a switch."""

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return op.inputs

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        return gradient(walk, op, i, s)


@register("argmax", "argmin")
class Places(Rule):
    """Where numbers lie: places are constants."""

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        return None


@register("amax", "max")
class MaximumOverAxes(Rule):
    """A maximum over axes is a pool: the signal goes to the recorded argmax, the first one in raster order.

    In `gradient` places that tie share it, as in autograd.
    """

    switches = True

    def aligned(self, rec: Recording, op: Op, i: int, axis: int) -> bool:
        a, b = rec.values[op.inputs[0]].shape, rec.values[op.output()].shape
        return len(a) == len(b) == 4 and not {0, 2 + axis} & {*axes(op, 4)}

    def alike(self, rec: Recording, op: Op) -> bool:
        return 0 not in axes(op, rec.values[op.inputs[0]].dim())

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return op.inputs

    def condense(self, walk: Walk, op: Op) -> bool:
        """The switches, which for `gradient` do not tell ties."""
        if walk.method == "gradient":
            return False
        walk.rec.condensed["switch", op.index] = self.switch(walk, op)
        return True

    def order(self, walk: Walk, op: Op) -> tuple[list[int], list[int]]:
        """The input's dimensions, those that the maximum is taken over last; and the sizes of the others."""
        shape = walk.shape(op.inputs[0])
        over = axes(op, len(shape))
        order = [d for d in range(len(shape)) if d not in over] + over
        return order, [shape[d] for d in order[: len(shape) - len(over)]]

    def switch(self, walk: Walk, op: Op) -> Tensor:
        """Which of the numbers that it is taken of each maximum is, (…, 1)."""
        order, kept = self.order(walk, op)
        x = walk.rec.values[op.inputs[0]]
        return x.permute(order).reshape(*kept, -1).argmax(-1, keepdim=True)

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        if walk.output != 0:
            return None  # the indices of `max(dim)`
        if walk.method == "gradient":
            return gradient(walk, op, i, s)
        shape = walk.shape(op.inputs[i])
        order, kept = self.order(walk, op)
        switch = walk.once(("switch", op.index), lambda: self.switch(walk, op))
        whole = s.whole().reshape(len(s), *kept, 1)
        data = whole.new_zeros(len(s), *kept, math.prod(shape) // switch.numel())
        data.scatter_(-1, switch.expand(len(s), *switch.shape), whole)
        back = sorted(range(len(order)), key=order.__getitem__)
        data = data.view(len(s), *(shape[d] for d in order)).permute(0, *(d + 1 for d in back))
        return from_whole(data)
