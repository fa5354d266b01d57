"""What a replay does one after the other: recorded operators, norms and activations folded into those before them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch

from deconvviz.engine import costs
from deconvviz.engine.recording import Op, Recording
from deconvviz.engine.replay.winograd import Winograd, suits
from deconvviz.engine.rules import FilterBank, Rule, rule_of


@dataclass
class Step:
    """An operator with those that follow it folded in: `value` is what comes out of the last of them.

    `sum` is what comes out before activations. `filters` are those of a convolution, `fast` a faster way to it. A
    convolution with `reach`, so many rows and columns more than its input windows its output windows have, can go by
    differences.
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
    inside: float = 1.0  # the share of a whole map's arithmetic that is not with the zeros around it
    filters: FilterBank | None = None
    fast: Winograd | None = None
    reach: tuple[int, int] | None = None

    @property
    def weights(self) -> int:
        """How many weights its filters have."""
        return 0 if self.filters is None else self.filters.weight.numel()

    @property
    def every(self) -> tuple[int, int] | None:
        """Only such rows and columns of its input are read, if it is a 1×1 convolution with strides."""
        return None if self.filters is None else self.filters.every

    def whole_price(self, count: int, size: tuple[int, int]) -> float:
        """What each of `count` whole maps of this size costs, in places of windows."""
        plain = self.inside * math.prod(size)
        if self.fast is None or self.filters is None:
            return plain
        return min(plain, self.fast.price(count, *size, self.filters.padding))


def plan(rec: Recording, keep: tuple[int, ...]) -> list[Step]:
    """The steps that lead to the kept values, norms and activations folded in, each with what it frees."""
    needed = rec.ancestors(keep)
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


def _folded(rec: Recording, op: Op, readers: Mapping[int, list[Op]], keep: set[int], done: set[int]) -> Step:
    """The step of `op`: a norm behind a convolution goes into its filters, activations follow."""
    value, rule = op.output(), rule_of(op)
    total, filters = value, rule.filters(op)
    after: list[Op] = []
    while len(op.outputs) == 1 and value not in keep and len(readers.get(value, [])) == 1:
        following = readers[value][0]
        norm = rule_of(following).affine(following) if filters is not None and not after else None
        if filters is not None and norm is not None and norm[0].dtype != filters.weight.dtype:
            break  # autocast: the filters are rounded and the norm is not
        if filters is not None and norm is not None:
            filters = filters.scaled(*norm)
        elif rule_of(following).follows(following):
            after.append(following)
        else:
            break
        done.add(following.index)
        value = following.output()
        total = value if not after else total
    channels = rec.values[value].shape[1] if rec.values[value].dim() > 1 else 1
    work, uses = rule.work(op, channels), tuple(dict.fromkeys(op.inputs))
    step = Step(op, rule, value, total, tuple(after), uses, work=work, cost=work or costs.PLAIN * channels)
    if filters is not None:
        _prepare(rec, step, filters)
    return step


def _prepare(rec: Recording, step: Step, filters: FilterBank) -> None:
    """Lay the filters of a step out for windows, and say in which other ways it may go."""
    step.inside = filters.inside(*(rec.values[v].shape[-2:] for v in (step.op.inputs[0], step.op.output())))
    quick = suits(filters.weight, filters.stride, filters.dilation, filters.groups)
    # Infinity less infinity is not what a change makes of it.
    if (quick or filters.reach) and _finite(rec, (*step.op.inputs, step.sum)):
        step.reach = filters.reach
        step.fast = Winograd(filters.weight, filters.bias) if quick else None
    step.filters = filters.for_windows()
    step.op = step.rule.with_filters(step.op, step.filters)


def _finite(rec: Recording, values: Iterable[int]) -> bool:
    """Whether recorded values are numbers all, not infinite; sums tell that in one pass, on the safe side."""
    found = [rec.values[v] for v in values]
    # The sum of many half-precision numbers overflows where none of them does.
    return all(bool(x.sum(dtype=torch.promote_types(x.dtype, torch.float32)).isfinite()) for x in found)
