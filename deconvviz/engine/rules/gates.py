"""Which of two multiplied values is a recorded factor, and which products are activations, however they are spelt.

A product of two values of the image is, in this order,

1. an **activation**, if both are computed pointwise from one value: `x * sigmoid(x)`, `0.5 * x * (1 + erf(x / √2))`;
2. a **gate** times a signal, if one comes from a sigmoid, hardsigmoid, softmax or a comparison, moved, resized, pooled,
   or joined with other gates (sums, products, one minus it);
3. a **norm** or a gate for whole maps or places, if one has fewer numbers than the product and is spread over it:
   `x * rsqrt(mean(x²))`, GRN, squeeze and excitation without a sigmoid;
4. a **gated unit**, if only one has just been activated: `gelu(a) * b`;
5. two parts of one value, of which the later gates the earlier (SimpleGate, as in GLU);
6. `x * f(x)`, a value modulated by what has been computed from it, or from what it is a part of (focal modulation).

The factor is then a constant, into which no signal goes. Any other product is not known to be one of these.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deconvviz.engine.nested import leaves
from deconvviz.engine.recording import Op, Recording
from deconvviz.engine.rules.base import differentiable
from deconvviz.engine.rules.fallback import rule_of

# An activation spelt in more operators than this is not looked for.
LONGEST = 40


# Activations ----------------------------------------------------------------------------------------------------------


def pointwise_chain(rec: Recording, value: int, source: int) -> list[Op] | None:
    """The pointwise operators that lead from `source` alone to `value`, in order; None if it is not computed so."""
    if rec.values[value].shape != rec.values[source].shape:
        return None
    found: dict[int, Op] = {}
    pending = [value]
    while pending:
        v = pending.pop()
        op = rec.producer.get(v)
        if v == source or (op is not None and op.index in found):
            continue
        if op is None or v < source or len(found) == LONGEST or not _pointwise(rec, op):
            return None
        found[op.index] = op
        pending += op.inputs
    return [found[index] for index in sorted(found)]


def _pointwise(rec: Recording, op: Op) -> bool:
    """Whether every number of the output depends on the numbers of the inputs at its place, and on no others."""
    shape = rec.values[op.output()].shape
    return rule_of(op).elementwise and all(rec.values[v].shape == shape for v in op.inputs)


def pointwise_source(rec: Recording, values: tuple[int, ...]) -> int | None:
    """The nearest value from which all of these are computed pointwise, and from no other; None if there is none."""
    pending, passed = {*values}, 0
    while len(pending) > 1:
        newest = max(pending)
        op = rec.producer.get(newest)
        passed += 1
        if op is None or passed > LONGEST or not _pointwise(rec, op):
            return None
        pending = (pending - {newest}) | {*op.inputs}
    (source,) = pending
    alike = all(rec.values[v].shape == rec.values[source].shape for v in values)
    return source if alike and differentiable(rec.values[source]) else None


def slope_far_out(rec: Recording, ops: list[Op], source: int) -> float | None:
    """What `ops`, run on a large number of the source's, return over that number; None if it differs from map to map.

    1 for SiLU, GELU and all that become the identity; 6 for `x * relu6(x + 3)`, which wants a sixth.
    """
    large = 1e4
    like = rec.values[source]
    values: dict[int, Tensor] = {source: torch.full(like.shape, large, dtype=like.dtype, device=rec.values[0].device)}
    for op in ops:
        args, kwargs = rec.fill(op, values)
        args = tuple(a.clone() if op.in_place and isinstance(a, Tensor) else a for a in args)
        out = op.func(*args, **kwargs)
        values[op.output()] = out[0] if isinstance(out, tuple | list) else out
    result = values[ops[-1].output()] / large
    first = float(result.reshape(-1)[0])
    return first if math.isfinite(first) and bool(((result - first).abs() <= 1e-3 * abs(first)).all()) else None


# Gates and norms ------------------------------------------------------------------------------------------------------


def is_gate(rec: Recording, value: int) -> bool:
    """Whether a value comes from a gate, moved about, resized or joined with other gates; or is a mask."""
    if not differentiable(rec.values[value]):
        return True
    op = rec.producer.get(value)
    if op is None:
        return False
    rule = rule_of(op)
    if rule.gate:
        return True
    if rule.moves:
        return is_gate(rec, op.inputs[0])
    return (rule.keeps_gates or rule.elementwise) and all(is_gate(rec, v) for v in op.inputs)


def _root(rec: Recording, value: int) -> int:
    """The value of which this is a part, or the same moved."""
    op = rec.producer.get(value)
    while op is not None and rule_of(op).moves:
        value = op.inputs[0]
        op = rec.producer.get(value)
    return value


def _numbers(rec: Recording, value: int) -> int:
    """How many numbers a value has of its own, not counting those that are repeated."""
    count = rec.values[value].numel()
    op = rec.producer.get(value)
    while op is not None and rule_of(op).moves:
        count = min(count, rec.values[op.inputs[0]].numel())
        op = rec.producer.get(op.inputs[0])
    return count


def _activated(rec: Recording, value: int) -> bool:
    """Whether the last that happened to a value, but for moves, scales and shifts, is an activation."""
    op = rec.producer.get(value)
    while op is not None:
        rule = rule_of(op)
        if rule.role == "activation":
            return True
        if rule.elementwise and len(op.inputs) == 2 and pointwise_source(rec, op.inputs) is not None:
            return True  # one that is spelt out
        single = len(op.inputs) == 1 and not any(isinstance(a, Tensor) and a.dim() for a in leaves(op.given))
        if not rule.moves and not (rule.elementwise and single):
            return False
        op = rec.producer.get(op.inputs[0])
    return False


def _reads(rec: Recording, value: int, source: int) -> bool:
    """Whether `value` is computed from `source`, among others."""
    if source == 0:
        return True
    pending, seen = [value], {value}
    while pending:
        v = pending.pop()
        if v == source:
            return True
        op = rec.producer.get(v)
        if op is not None and v > source:
            new = {*op.inputs} - seen
            seen |= new
            pending += new
    return False


def is_centring(rec: Recording, op: Op) -> bool:
    """Whether a difference takes away the mean of what it is a difference from, to be divided by its deviation.

    A norm spelt out: as in one of torch's own its statistics are constants. Any other mean is as linear as it looks.
    """
    if op.base != "sub" or len(op.inputs) != 2:
        return False
    source, mean = op.inputs
    maker = rec.producer.get(_root(rec, mean))
    if maker is None or maker.name not in ("mean", "var_mean", "std_mean"):
        return False
    if _root(rec, maker.inputs[0]) != _root(rec, source):
        return False
    centred = op.output()
    for reader in rec.consumers(centred):
        others = [v for v in reader.inputs if v != centred]
        if len(others) == 1 and (reader.base == "mul" or (reader.base == "div" and reader.inputs[0] == centred)):
            spread = _numbers(rec, others[0]) < rec.values[centred].numel()
            if spread and _reads(rec, others[0], source):
                return True
    return False


def factor_of(rec: Recording, values: tuple[int, int], product: Tensor) -> int | None:
    """Which of two multiplied values (0 or 1) is a recorded factor, by what is said above from 2 on; None for none."""
    a, b = values
    gates = is_gate(rec, a), is_gate(rec, b)
    if gates[0] != gates[1]:
        return 0 if gates[0] else 1
    spread = _numbers(rec, a) < product.numel(), _numbers(rec, b) < product.numel()
    if spread[0] != spread[1]:
        return 0 if spread[0] else 1
    active = _activated(rec, a), _activated(rec, b)
    if active[0] != active[1]:
        return 0 if active[0] else 1
    roots = _root(rec, a), _root(rec, b)
    if roots[0] == roots[1]:
        return 0 if a > b else 1
    if _reads(rec, b, roots[0]):
        return 1
    return 0 if _reads(rec, a, roots[1]) else None
