"""What a replay does one after the other: recorded operators, norms and activations folded into those before them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from deconvviz.engine import costs
from deconvviz.engine.recording import Op, Recording, Ref
from deconvviz.engine.replay.winograd import Winograd, suits
from deconvviz.engine.rules import Rule, rule_of
from deconvviz.engine.rules.norm import affine


@dataclass
class Step:
    """An operator with those that follow it folded in: `value` is what comes out of the last of them.

    `sum` is what comes out before activations. A convolution with `reach`, so many rows and columns more than its input
    windows its output windows have, can go by differences.
    """

    op: Op
    rule: Rule
    value: int
    sum: int
    after: tuple[Op, ...] = ()
    uses: tuple[int, ...] = ()
    free: list[int] = field(default_factory=list)
    work: float = 0.0
    cost: float = 0.0
    weights: int = 0
    inside: float = 1.0  # the share of a whole map's arithmetic that is not with the zeros around it
    fast: Winograd | None = None
    reach: tuple[int, int] | None = None
    every: tuple[int, int] | None = None  # a 1×1 convolution reads only such rows and columns of its input

    def whole_price(self, count: int, size: tuple[int, int]) -> float:
        """What each of `count` whole maps of this size costs, in places of windows."""
        plain = self.inside * math.prod(size)
        return plain if self.fast is None else min(plain, self.fast.price(count, *size, self.op.args[4]))


def plan(rec: Recording, keep: tuple[int, ...]) -> list[Step]:
    """The steps that lead to the kept values, norms and activations folded in, each with what it frees."""
    needed = _ancestors(rec, keep)
    readers: dict[int, list[Op]] = {}
    for op in needed:
        for value in set(op.inputs):
            readers.setdefault(value, []).append(op)
    steps: list[Step] = []
    done: set[int] = set()
    for op in needed:
        if op.index in done:
            continue
        step = _folded(rec, op, readers, set(keep), done)
        steps.append(step)
    last: dict[int, Step] = {}
    for step in steps:
        last.update({value: step for value in (*step.op.outputs, step.value, *step.uses) if value is not None})
    for value, step in last.items():
        step.free.append(value)
    return steps


def _ancestors(rec: Recording, keep: tuple[int, ...]) -> list[Op]:
    wanted = set(keep)
    found: list[Op] = []
    for op in reversed(rec.ops):
        if any(o in wanted for o in op.outputs if o is not None):
            found.append(op)
            wanted.update(op.inputs)
    return found[::-1]


def _folded(rec: Recording, op: Op, readers: Mapping[int, list[Op]], keep: set[int], done: set[int]) -> Step:
    """The step of `op`: a BatchNorm behind a convolution goes into its weights, activations follow."""
    value, run = op.outputs[0], op
    assert value is not None
    total = value
    after: list[Op] = []
    while len(op.outputs) == 1 and value not in keep and len(readers.get(value, [])) == 1:
        following = readers[value][0]
        scaled = _with_norm(run, following) if not after else None
        if scaled is not None:
            run = scaled
        elif rule_of(following).role == "activation" and _plain(following):
            after.append(following)
        else:
            break
        done.add(following.index)
        assert following.outputs[0] is not None
        value = following.outputs[0]
        total = value if not after else total
    run, fast = _prepared(run)
    channels = rec.values[value].shape[1] if rec.values[value].dim() > 1 else 1
    work = _work(run, channels)
    cost = work or costs.PLAIN * channels
    uses = tuple(dict.fromkeys(op.inputs))
    reach = _reach(run)
    if not (fast is None and reach is None) and not _finite(rec, (*op.inputs, total)):
        # Infinity less infinity is not what a change makes of it.
        fast = reach = None
    weights = int(run.args[1].numel()) if run.name == "convolution" else 0
    return Step(
        run, rule_of(op), value, total, tuple(after), uses, work=work, cost=cost, weights=weights, fast=fast,
        inside=_inside(rec, run), reach=reach, every=_every(run),
    )  # fmt: skip


def _is_convolution(op: Op) -> bool:
    """Whether this is a convolution of maps, and not a transposed one."""
    return op.name == "convolution" and not op.args[6] and op.args[1].dim() == 4


def _prepared(op: Op) -> tuple[Op, Winograd | None]:
    """A convolution with its weights laid out for windows, and the faster way to it if there is one."""
    if not _is_convolution(op):
        return op, None
    weight, bias = op.args[1].detach(), op.args[2]
    fast = Winograd(weight, bias) if suits(weight, op.args[3], op.args[5], op.args[8]) else None
    weight = weight.contiguous(memory_format=torch.channels_last)
    return replace(op, args=(op.args[0], weight, *op.args[2:])), fast


def _work(op: Op, channels: int) -> float:
    """Multiplications and additions for one place of the output's maps, of convolutions and matrices."""
    if op.name == "convolution":
        return 2.0 * channels * int(op.args[1][0].numel())
    if op.name in ("addmm", "mm") and isinstance(op.args[-1], Tensor):
        return 2.0 * int(op.args[-1].numel())
    return 0.0


def _inside(rec: Recording, op: Op) -> float:
    """The share of a convolution's taps that lie on its input and not in the padding; 1 for other operators."""
    share = 1.0
    if not _is_convolution(op):
        return share
    _, weight, _, stride, padding, dilation = op.args[:6]
    sizes, outs = (rec.values[v].shape[-2:] for v in (op.inputs[0], op.outputs[0] or 0))
    for axis, (size, out) in enumerate(zip(sizes, outs, strict=True)):
        taps = np.arange(weight.shape[2 + axis]) * dilation[axis] - padding[axis]
        at = np.arange(out)[:, None] * stride[axis] + taps
        share *= float(((at >= 0) & (at < size)).mean())
    return share


def _finite(rec: Recording, values: Iterable[int]) -> bool:
    """Whether recorded values are numbers all, not infinite; sums tell that in one pass, on the safe side."""
    found = [rec.values[v] for v in values]
    # The sum of many half-precision numbers overflows where none of them does.
    return all(bool(x.sum(dtype=torch.promote_types(x.dtype, torch.float32)).isfinite()) for x in found)


def _reach(op: Op) -> tuple[int, int] | None:
    """How far a change spreads by a convolution with stride 1 in one group, if it does."""
    if not _is_convolution(op) or op.args[8] != 1 or max(op.args[3]) > 1:
        return None
    down, right = (int(d) * (n - 1) for d, n in zip(op.args[5], op.args[1].shape[2:], strict=True))
    return (down, right) if down or right else None


def _every(op: Op) -> tuple[int, int] | None:
    """The strides of a 1×1 convolution without padding, if there are any."""
    if not _is_convolution(op) or tuple(op.args[1].shape[2:]) != (1, 1) or any(op.args[4]):
        return None
    down, right = op.args[3]
    return (int(down), int(right)) if (down, right) != (1, 1) else None


def _plain(op: Op) -> bool:
    """Whether everything but the first argument is a plain number: it can run on any window as it is."""
    rest = (*op.args[1:], *op.kwargs.values())
    plain = not any(isinstance(a, Tensor | Ref | list | tuple) for a in rest)
    return plain and isinstance(op.args[0], Ref) and len(op.outputs) == 1


def _with_norm(conv: Op, norm: Op) -> Op | None:
    """`conv` with the scale and shift of the norm behind it in its weights, or None if it is no such pair."""
    if not _is_convolution(conv):
        return None
    found = affine(norm)
    if found is None:
        return None
    scale, shift = found
    weight, bias = conv.args[1].detach(), conv.args[2]
    shift = shift if bias is None else shift + bias.detach() * scale
    return replace(conv, args=(conv.args[0], weight * scale.view(-1, 1, 1, 1), shift, *conv.args[3:]))
