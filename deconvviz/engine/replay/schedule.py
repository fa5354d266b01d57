"""Which changes of a picture are replayed together: the schedule of a replay, chosen by cost.

Changes that go together, a **batch**, share the overhead of every step, but have windows of one size, the largest among
them; those cut by the border, or lying otherwise on the strides, need less. Early steps are cheap and alike: there
large batches pay. Where filters and windows grow, a batch is **split** into parts whose windows are of one size. Once
windows are about as large as their maps all changes **merge** into batches of whole maps. For example, 169 positions of
an occluder may go through three steps in batches of 64, through five more in parts of 16 in the middle and 4 at each
corner, and from step 8 on as whole maps, 40 at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from deconvviz.engine import costs
from deconvviz.engine.replay.replay import Reach, Replay, Spans
from deconvviz.engine.replay.steps import Step
from deconvviz.engine.windows import Places

Numbers = np.ndarray[Any, np.dtype[np.float64]]
Traces = tuple[list[Spans | None], list[Spans | None]]
Lines = tuple[Places, Places]


@dataclass
class Batch:
    """Changes that go together from step `start` up to step `stop`, and from there as `parts`, if it is split.

    They are every one of some rows with every one of some columns of the grid of positions: `lines`, two arrays of
    their numbers. `index` (K,) are the numbers of the changes in the order in which they are computed, those of the
    first part first.
    """

    lines: Lines
    start: int
    stop: int
    parts: list[Batch] = field(default_factory=list)
    index: Places = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.lines[0]) * len(self.lines[1])


class Schedule:
    """When to replay which changes of one picture, at every one of `rows` (R,) with every one of `cols` (C,).

    A change is `window` large (rows, columns). Its number is that of its row times C, plus that of its column. At most
    `most` go together on windows, and on whole maps as many as have no more numbers than `most` whole pictures. `tree`
    is the first batch with its parts; from step `merge` on all go by whole maps, and from step `tail` on through layers
    that are bound by reading their weights.
    """

    def __init__(self, replay: Replay, rows: Places, cols: Places, window: tuple[int, int], most: int) -> None:
        self.replay, self.most, self.width = replay, most, len(cols)
        self.count = len(rows) * len(cols)
        self.tail = _tail(replay)
        self.traces = (replay.trace(rows, window[0], 0), replay.trace(cols, window[1], 1))
        model = CostModel(replay, self.traces, (len(rows), len(cols)), most, self.tail)
        batch = split(model, (np.arange(len(rows)), np.arange(len(cols))), 0)
        self.merge = model.merge_step(model.of_batch(batch), capacity(replay, most))
        self.tree = self._numbered(_until(batch, self.merge, most))

    def reach(self, index: Places, n: int) -> Reach | None:
        """What the changes `index` touch of the output of step `n`, its rows and its columns; None for all of it."""
        down, right = self.traces[0][n], self.traces[1][n]
        if down is None or right is None:
            return None
        rows, cols = index // self.width, index % self.width
        return (down[0][rows], down[1][rows]), (right[0][cols], right[1][cols])

    def _numbered(self, batch: Batch) -> Batch:
        """The batch and its parts with the numbers of their changes."""
        if batch.parts:
            batch.index = np.concatenate([self._numbered(part).index for part in batch.parts])
        else:
            batch.index = self._ordered(batch)
        return batch

    def _ordered(self, batch: Batch) -> Places:
        """The numbers of changes, those next to each other that reach the same borders before the batch ends."""
        kinds = []
        for trace, line in zip(self.traces, batch.lines, strict=True):
            spans = next((s for s in reversed(trace[: batch.stop]) if s is not None), None)
            low, high = (s[line] for s in spans) if spans is not None else (line, line)
            kinds.append(2 * (low == low.min()) + (high == high.max()))
        rows, cols = batch.lines
        index = (rows[:, None] * self.width + cols).reshape(-1)
        down, right = (k.reshape(-1) for k in np.broadcast_arrays(kinds[0][:, None], kinds[1]))
        return np.asarray(index[np.lexsort((index, right, down))])


def capacity(replay: Replay, most: int) -> Places:
    """How many changes each step takes at once on whole maps: with no more numbers than `most` whole pictures have."""
    values = replay.rec.values
    sizes = [max(values[v].numel() for v in (step.value, *step.uses)) for step in replay.steps]
    return np.asarray(np.maximum(min(most * max(sizes), costs.NUMBERS) // np.array(sizes), 1))


def _live_before(steps: list[Step]) -> Iterator[set[int]]:
    """The values that are carried on into each step, and behind the last."""
    live = {0}
    yield set(live)
    for step in steps:
        live.update(v for v in (step.value, *step.op.outputs) if v is not None)
        live.difference_update(step.free)
        yield set(live)


def _tail(replay: Replay) -> int:
    """The first step from which one value alone is carried on and a fully connected layer comes next.

    From there all changes go together: such layers are bound by reading their weights. The number of steps if there is
    none.
    """
    for n, (step, live) in enumerate(zip(replay.steps, _live_before(replay.steps), strict=False)):
        if step.rule.matrix(step.op) is not None and live == set(step.uses) and len(live) == 1:
            return n
    return len(replay.steps)


# Cost -----------------------------------------------------------------------------------------------------------------


class CostModel:
    """What each of the first `steps` steps costs, in operations, by the size of the windows.

    In the steps after those windows are as large as their maps, or nearly so. `sizes` are for each row and each column
    of the grid how many rows or columns a step works on, (R, steps) and (C, steps); `full` (steps,) the places of whole
    maps, `whole` what such maps cost as a share of their plain arithmetic.
    """

    def __init__(self, replay: Replay, traces: Traces, counts: tuple[int, int], most: int, tail: int) -> None:
        self.most = most
        steps = replay.steps[:tail]
        maps = [replay.rec.values[step.value].shape for step in steps]
        known = [a is not None and b is not None for a, b in zip(*traces, strict=True)]
        sizes = [lengths(steps, maps, trace, known, count) for count, trace in zip(counts, traces, strict=True)]
        places = np.array([float(np.prod(m[2:])) for m in maps])
        full = np.where(known[: len(steps)], places, 1.0)
        prices = [s.whole_price(costs.TYPICAL_BATCH, (*m[2:],)) for s, m in zip(steps, maps, strict=True)]
        whole = np.array(prices) / places
        smaller = np.flatnonzero(sizes[0].mean(0) * sizes[1].mean(0) < costs.NEARLY_WHOLE * whole * full)
        self.steps = int(smaller[-1]) + 1 if len(smaller) else 0
        used = slice(self.steps)
        self.sizes, self.full, self.whole = [s[:, used] for s in sizes], full[used], whole[used]
        self.arithmetic = (np.array([step.cost for step in steps]) * places)[used]
        self.overhead = np.array([costs.STEP + costs.WEIGHT * step.weights for step in steps])[used]
        self.count = counts[0] * counts[1]
        values = replay.rec.values
        self.live = np.array([float(sum(values[v].numel() for v in live)) for live in _live_before(steps)])[
            : self.steps + 1
        ]

    def of(self, heights: Numbers, widths: Numbers, count: Any) -> Numbers:
        """What each step costs for `count` changes with windows of these sizes (…, steps)."""
        share = heights * widths / self.full
        # Once whole maps have come, they stay.
        nearly = np.maximum.accumulate(share >= costs.NEARLY_WHOLE * self.whole, -1)
        share = np.where(nearly, self.whole, share)
        return np.asarray(count * share * self.arithmetic + np.ceil(count / self.most) * self.overhead)

    def of_batch(self, batch: Batch) -> Numbers:
        """What a batch and its parts cost at each step (steps,)."""
        heights, widths = (self.sizes[axis][batch.lines[axis]].max(0) for axis in (0, 1))
        steps = np.arange(self.steps)
        inside = (steps >= batch.start) & (steps < batch.stop)
        own = np.where(inside, self.of(heights, widths, len(batch)), 0.0)
        return np.asarray(sum((self.of_batch(part) for part in batch.parts), own))

    def merge_step(self, windows: Numbers, capacity: Places) -> int:
        """The step from which it is cheapest to merge into batches of whole maps, if each step costs `windows` else."""
        batches = np.ceil(self.count / capacity[: self.steps])
        whole = self.count * self.whole * self.arithmetic + batches * self.overhead
        before, after = np.cumsum([0.0, *windows]), np.cumsum([0.0, *whole[::-1]])[::-1]
        total = before + after + costs.SPREAD * self.count * self.live
        # Of equal ones the first.
        return int(np.argmin(np.where(total < total.min() + 0.5, -1.0, total)))


def lengths(
    steps: list[Step], maps: list[torch.Size], trace: list[Spans | None], known: list[bool], count: int
) -> Numbers:
    """How many rows (or columns) each step works on for each of `count` of them, (count, steps)."""
    found = np.ones((count, len(steps)))
    made: dict[int | None, int] = {}
    for n, (step, m) in enumerate(zip(steps, maps, strict=True)):
        spans = trace[n]
        # What is no map is always taken whole.
        if known[n] and spans is not None:
            found[:, n] = spans[1] - spans[0]
            before = trace[made[step.uses[0]]] if step.reach is not None and step.uses[0] in made else None
            if before is not None:
                found[:, n] = np.minimum(found[:, n], costs.DIFFERENCE**0.5 * (before[1] - before[0]))
            if step.fast is not None:
                share = step.fast.price(costs.TYPICAL_BATCH, *m[2:]) / float(np.prod(m[2:]))
                found[:, n] = np.minimum(found[:, n], share**0.5 * (spans[1] - spans[0]))
        made.update(dict.fromkeys((step.value, *step.op.outputs), n))
    return found


# Splitting ------------------------------------------------------------------------------------------------------------


def split(model: CostModel, lines: Lines, start: int) -> Batch:
    """The batch of these rows and columns from step `start`, split where that saves most, and its parts likewise.

    One with more than `most` changes is split at once.
    """
    count = len(lines[0]) * len(lines[1])
    sizes = [model.sizes[axis][lines[axis]] for axis in (0, 1)]
    together = model.of(sizes[0].max(0), sizes[1].max(0), count)
    too_many = count > model.most
    last = start if too_many else model.steps
    best = _Split(-np.inf if too_many else 0.0)
    for axis in (0, 1):
        if len(lines[axis]) > 1:
            ordered = lines[axis][np.argsort(sizes[axis].sum(1), kind="stable")]
            saved = together - _apart(model, ordered, sizes[1 - axis].max(0), len(lines[1 - axis]), axis)
            saves, at, step = _most_saved(saved, start, last)
            if saves > best.saves:
                halves = ((ordered[:at], lines[1]), (ordered[at:], lines[1]))
                if axis:
                    halves = ((lines[0], ordered[:at]), (lines[0], ordered[at:]))
                best = _Split(saves, step, halves)
    if not best.halves:
        return Batch(lines, start, model.steps)
    return Batch(lines, start, best.step, [split(model, half, best.step) for half in best.halves])


@dataclass(frozen=True)
class _Split:
    """What it saves to split a batch into two `halves` (their lines) from `step` on."""

    saves: float
    step: int = 0
    halves: tuple[Lines, ...] = ()


def _apart(model: CostModel, line: Places, other: Numbers, others: int, axis: int) -> Numbers:
    """What each step costs (L - 1, steps) if the `line` (L,), in this order, is split behind its first, second, … .

    `other` (steps,) is the size of the windows across, of which there are `others`.
    """
    sizes = model.sizes[axis][line]
    low = np.maximum.accumulate(sizes, 0)[:-1]
    high = np.maximum.accumulate(sizes[::-1], 0)[::-1][1:]
    first = np.arange(1, len(line))[:, None] * others

    def cost(along: Numbers, count: Any) -> Numbers:
        return model.of(along, other, count) if axis == 0 else model.of(other, along, count)

    return cost(low, first) + cost(high, len(line) * others - first)


def _most_saved(saved: Numbers, start: int, last: int) -> tuple[float, int, int]:
    """The most that is saved, the place and the step, from `start` to `last`, of the split that saves it.

    `saved` (L - 1, steps) is what a split at each place saves at each step alone.
    """
    onwards = np.cumsum(saved[:, ::-1], 1)[:, ::-1]
    onwards = np.concatenate([onwards, np.zeros((len(saved), 1))], 1)[:, start : last + 1]
    places, steps = np.indices(onwards.shape)
    uneven = np.abs(places - (len(onwards) - 1) / 2)
    # Of equal ones the latest and most even: where only the number is too large, that gives few batches.
    equal = np.flatnonzero((onwards >= onwards.max() - 0.5).ravel())
    chosen = equal[np.lexsort((uneven.ravel()[equal], -steps.ravel()[equal]))[0]]
    at, step = np.unravel_index(int(chosen), onwards.shape)
    return float(onwards[at, step]), int(at) + 1, start + int(step)


def _until(batch: Batch, step: int, most: int) -> Batch:
    """The batch and its parts up to `step`, where it is not split any more."""
    if batch.stop > step or (batch.stop == step and len(batch) <= most):
        return Batch(batch.lines, batch.start, step)
    return Batch(batch.lines, batch.start, batch.stop, [_until(part, step, most) for part in batch.parts])
