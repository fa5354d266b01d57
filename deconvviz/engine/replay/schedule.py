"""Which changes are replayed together, and from which step on apart.

Changes that go together share the overhead of every step, but have windows of one size, the largest among them; those
cut by the border, or lying otherwise on the strides, need less. Early steps are cheap and alike: there many go
together. Where the filters grow and the windows with them, the changes part into groups that grow alike. Once windows
are about as large as their maps, what has parted goes on together again, on whole maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from deconvviz.engine.replay.replay import NEARLY_ALL, RAGGED, Patch, Places, Replay, Spans
from deconvviz.engine.replay.steps import Step

# What one step costs besides its arithmetic, in operations: about a fifth of a millisecond.
_STEP_COST = 6e7
# And for every weight, which is brought into order anew for each batch.
_WEIGHT_COST = 100.0
# And for every number that comes to whole maps.
_SPREAD_COST = 300.0
# Whole maps take so many numbers of one value at once, 28 MB in float32: larger blocks come from the system anew each
# time, and that is what they would wait for.
_NUMBERS = 7 << 20
# So many go together where a price depends on that.
_MANY = 48

Numbers = np.ndarray[Any, np.dtype[np.float64]]
Traces = tuple[list[Spans | None], list[Spans | None]]
Take = Callable[[Places, int, Patch], None]


class Grid:
    """Changes of one picture, `window` large, at every one of `rows` (R,) with every one of `cols` (C,).

    A change's number is that of its row times C, plus that of its column. At most `most` go together on windows, and on
    whole maps as many as have no more numbers than `most` whole pictures.
    """

    def __init__(self, replay: Replay, rows: Places, cols: Places, window: tuple[int, int], most: int) -> None:
        self.replay, self.most, self.width = replay, most, len(cols)
        self.count = len(rows) * len(cols)
        self.head = replay.head()
        self.traces = (replay.trace(rows, window[0], 0), replay.trace(cols, window[1], 1))
        growth = _Growth(replay, self.traces, (len(rows), len(cols)), most, self.head)
        group = _parted(growth, (np.arange(len(rows)), np.arange(len(cols))), 0)
        self.whole = growth.meeting(_spent(growth, group), _capacity(replay, most))
        self.tree = self._branch(_ended(group, self.whole, most))

    def run(self, first: Callable[[Places], Patch], take: Take) -> Iterator[int]:
        """Replay all changes; `first` makes the changed windows of the picture for some of them (K,).

        `take` gets the numbers of changes and every kept value of theirs as it comes. Yields how many have come to the
        last steps.
        """
        last = self._station(range(self.head, len(self.replay.steps)), take)
        maps = self._station(range(self.whole, self.head), take, last)
        done = 0
        for index, live in self._follow(self.tree, None, first, take):
            maps.add(index, live)
            done += len(index)
            yield done
        self.replay.forget(range(self.whole))
        maps.leave(last=True)
        last.leave(last=True)

    def _station(self, steps: range, take: Take, after: _Station | None = None) -> _Station:
        """Where whole maps go together, as many as have no more numbers than `most` whole pictures."""
        most = int(_capacity(self.replay, self.most)[steps.start : steps.stop].min(initial=self.count))
        return _Station(self.replay, steps, -(-self.count // -(-self.count // most)), take, after)

    def _follow(
        self, branch: Branch, live: dict[int, Patch] | None, first: Callable[[Places], Patch], take: Take
    ) -> Iterator[tuple[Places, dict[int, Patch]]]:
        """Run a branch and its parts; gives the ends of those that do not part, with what is live there."""
        if live is None and (branch.start < branch.stop or not branch.parts):
            live = {0: first(branch.index)}
        if live is not None:
            steps = range(branch.start, branch.stop)
            self.replay.run(live, steps, partial(take, branch.index), branch.rows, branch.cols)
        if not branch.parts:
            assert live is not None
            yield branch.index, live
        begin = 0
        for part in branch.parts:
            here = slice(begin, begin + len(part.index))
            of_part = None if live is None else {value: patch.part(here) for value, patch in live.items()}
            yield from self._follow(part, of_part, first, take)
            begin = here.stop

    def _branch(self, group: _Group) -> Branch:
        """The group with the numbers of its changes and what they can reach."""
        parts = [self._branch(part) for part in group.parts]
        rows, cols = group.members
        index = np.concatenate([p.index for p in parts]) if parts else self._ordered(rows, cols, group.stop)
        reach: list[list[Spans | None]] = []
        for trace, which in zip(self.traces, (index // self.width, index % self.width), strict=True):
            inside: list[Spans | None] = [None] * len(trace)
            for n in range(group.start, group.stop):
                spans = trace[n]
                inside[n] = None if spans is None else (spans[0][which], spans[1][which])
            reach.append(inside)
        return Branch(index, group.start, group.stop, reach[0], reach[1], parts)

    def _ordered(self, rows: Places, cols: Places, stop: int) -> Places:
        """The numbers of changes, those next to each other that reach the same borders by step `stop`."""
        kinds = []
        for axis, line in enumerate((rows, cols)):
            spans = next((s for s in reversed(self.traces[axis][:stop]) if s is not None), None)
            low, high = (s[line] for s in spans) if spans is not None else (line, line)
            kinds.append(2 * (low == low.min()) + (high == high.max()))
        index = (rows[:, None] * self.width + cols).reshape(-1)
        down, right = (k.reshape(-1) for k in np.broadcast_arrays(kinds[0][:, None], kinds[1]))
        return np.asarray(index[np.lexsort((index, right, down))])


@dataclass
class Branch:
    """Changes that go together from step `start` up to `stop`, and from there in `parts`, if there are any.

    `index` (K,) are their numbers, those of the first part first; `rows` and `cols` what they can reach, for each step.
    """

    index: Places
    start: int
    stop: int
    rows: list[Spans | None]
    cols: list[Spans | None]
    parts: list[Branch] = field(default_factory=list)


@dataclass
class _Station:
    """Where changes wait, at most `most`, to take some steps together on whole maps; they leave for station `after`."""

    replay: Replay
    steps: range
    most: int
    take: Take
    after: _Station | None = None
    waiting: list[tuple[Places, dict[int, Patch]]] = field(default_factory=list)

    def add(self, index: Places, live: dict[int, Patch]) -> None:
        """Let changes wait here; those before them leave if there are too many."""
        if sum(len(i) for i, _ in self.waiting) + len(index) > self.most:
            self.leave()
        for begin in range(0, len(index), self.most):
            some = slice(begin, begin + self.most)
            part = {value: patch.part(some) for value, patch in live.items()}
            maps = {value: Patch(self.replay.spread(value, part), None) for value in list(part)}
            self.waiting.append((index[some], maps))
            if begin + self.most < len(index):
                self.leave()

    def leave(self, last: bool = False) -> None:
        """All that wait take their steps; behind the `last` no more will come."""
        if not self.waiting:
            return
        index = np.concatenate([i for i, _ in self.waiting])
        states = [live for _, live in self.waiting]
        self.waiting.clear()
        live = {value: Patch(torch.cat([s[value].data for s in states]), None) for value in states[0]}
        del states
        self.replay.run(live, self.steps, partial(self.take, index), last=last)
        if self.after is not None:
            self.after.add(index, live)


# Where to part -------------------------------------------------------------------------------------------------------


@dataclass
class _Group:
    """A product of rows and columns (their numbers), together from step `start` to `stop`, then in `parts`."""

    members: tuple[Places, Places]
    start: int
    stop: int
    parts: list[_Group]


class _Growth:
    """How large the windows of rows and columns are at each of the first `steps` steps, and what a group costs there.

    In the steps after those the windows are as large as their maps, or nearly so.
    """

    def __init__(self, replay: Replay, traces: Traces, counts: tuple[int, int], most: int, head: int) -> None:
        self.most = most
        steps = replay.steps[:head]
        maps = [replay.rec.values[step.value].shape for step in steps]
        known = [a is not None and b is not None for a, b in zip(*traces, strict=True)]
        windows = [_lengths(steps, maps, trace, known, count) for count, trace in zip(counts, traces, strict=True)]
        full = np.array([float(m[2] * m[3]) if ok else 1.0 for m, ok in zip(maps, known, strict=False)])
        # What whole maps cost, as a share of their plain arithmetic.
        whole = np.array([s.whole_price(_MANY, (*m[2:],)) / np.prod(m[2:]) for s, m in zip(steps, maps, strict=True)])
        smaller = np.flatnonzero(windows[0].mean(0) * windows[1].mean(0) < NEARLY_ALL * whole * full)
        self.steps = int(smaller[-1]) + 1 if len(smaller) else 0
        used = slice(self.steps)
        self.sizes, self.full, self.whole = [w[:, used] for w in windows], full[used], whole[used]
        self.costs = np.array([step.cost * float(np.prod(m[2:])) for step, m in zip(steps, maps, strict=True)])[used]
        self.overhead = np.array([_STEP_COST + _WEIGHT_COST * step.weights for step in steps])[used]
        self.count, self.live = counts[0] * counts[1], _live_numbers(replay)[: self.steps + 1]

    def meeting(self, spent: Numbers, capacity: Places) -> int:
        """The step from which it is cheapest to go on together on whole maps, if each step apart costs `spent`."""
        batches = np.ceil(self.count / capacity[: self.steps])
        whole = self.count * self.whole * self.costs + batches * self.overhead
        before, after = np.cumsum([0.0, *spent]), np.cumsum([0.0, *whole[::-1]])[::-1]
        total = before + after + _SPREAD_COST * self.count * self.live
        # Of equal ones the first.
        return int(np.argmin(np.where(total < total.min() + 0.5, -1.0, total)))

    def price(self, heights: Numbers, widths: Numbers, count: Any) -> Numbers:
        """What each step costs for `count` changes with windows of these sizes (…, steps)."""
        share = heights * widths / self.full
        # Once whole maps have come, they stay.
        share = np.where(np.maximum.accumulate(share >= NEARLY_ALL * self.whole, -1), self.whole, share)
        return np.asarray(count * share * self.costs + np.ceil(count / self.most) * self.overhead)


def _capacity(replay: Replay, most: int) -> Places:
    """How many changes each step takes at once on whole maps: with no more numbers than `most` whole pictures have."""
    values = replay.rec.values
    sizes = [max(values[v].numel() for v in (step.value, *step.uses)) for step in replay.steps]
    return np.asarray(np.maximum(min(most * max(sizes), _NUMBERS) // np.array(sizes), 1))


def _live_numbers(replay: Replay) -> Numbers:
    """How many numbers are carried on into each step for one change, on whole maps, and behind the last step."""
    values, live = replay.rec.values, {0}
    found = [float(values[0].numel())]
    for step in replay.steps:
        live.update(v for v in (step.value, *step.op.outputs) if v is not None)
        live.difference_update(step.free)
        found.append(float(sum(values[v].numel() for v in live)))
    return np.array(found)


def _spent(growth: _Growth, group: _Group) -> Numbers:
    """What the group and its parts cost at each step."""
    rows, cols = (growth.sizes[axis][group.members[axis]].max(0) for axis in (0, 1))
    price = growth.price(rows, cols, len(group.members[0]) * len(group.members[1]))
    steps = np.arange(growth.steps)
    spent = np.where((steps >= group.start) & (steps < group.stop), price, 0.0)
    for part in group.parts:
        spent = spent + _spent(growth, part)
    return spent


def _ended(group: _Group, step: int, most: int) -> _Group:
    """The group and its parts up to a step."""
    few = len(group.members[0]) * len(group.members[1]) <= most
    if group.stop > step or (group.stop == step and few):
        return _Group(group.members, group.start, step, [])
    return _Group(group.members, group.start, group.stop, [_ended(part, step, most) for part in group.parts])


def _lengths(
    steps: list[Step], maps: list[torch.Size], trace: list[Spans | None], known: list[bool], count: int
) -> Numbers:
    """How many rows (or columns) each step works on for each of `count` of them, (count, steps)."""
    lengths = np.ones((count, len(steps)))
    made: dict[int | None, int] = {}
    for n, (step, m) in enumerate(zip(steps, maps, strict=True)):
        spans = trace[n]
        # What is no map is always taken whole.
        if known[n] and spans is not None:
            lengths[:, n] = spans[1] - spans[0]
            before = trace[made[step.uses[0]]] if step.reach is not None and step.uses[0] in made else None
            if before is not None:
                lengths[:, n] = np.minimum(lengths[:, n], RAGGED**0.5 * (before[1] - before[0]))
            if step.fast is not None:
                share = step.fast.price(_MANY, *m[2:]) / float(np.prod(m[2:]))
                lengths[:, n] = np.minimum(lengths[:, n], share**0.5 * (spans[1] - spans[0]))
        made.update(dict.fromkeys((step.value, *step.op.outputs), n))
    return lengths


def _parted(growth: _Growth, members: tuple[Places, Places], start: int) -> _Group:
    """The group of these rows and columns, parted where that pays most, at once if it is too large, and its parts."""
    sizes = [growth.sizes[axis][members[axis]] for axis in (0, 1)]
    count = len(members[0]) * len(members[1])
    together = growth.price(sizes[0].max(0), sizes[1].max(0), count)
    too_many = count > growth.most
    best = _Cut(-np.inf if too_many else 0.0)
    for axis in (0, 1):
        if len(members[axis]) > 1:
            line = members[axis][np.argsort(sizes[axis].sum(1), kind="stable")]
            apart = _apart(growth, line, sizes[1 - axis].max(0), len(members[1 - axis]), axis)
            cut = _best(together - apart, axis, line, start, start if too_many else growth.steps)
            best = max(best, cut, key=lambda each: each.saves)
    if not len(best.line):
        return _Group(members, start, growth.steps, [])
    one, other = best.line[: best.at], best.line[best.at :]
    halves = [(half, members[1]) if best.axis == 0 else (members[0], half) for half in (one, other)]
    return _Group(members, start, best.step, [_parted(growth, half, best.step) for half in halves])


@dataclass(frozen=True)
class _Cut:
    """What it saves to part a line of rows (axis 0) or columns behind its first `at` members, from a step on."""

    saves: float
    axis: int = 0
    line: Places = field(default_factory=lambda: np.empty(0, np.int64))
    at: int = 0
    step: int = 0


def _apart(growth: _Growth, line: Places, other: Numbers, others: int, axis: int) -> Numbers:
    """The price of each step (ways, steps) if `line`, in this order, is parted behind its first, second, … member."""
    sizes = growth.sizes[axis][line]
    low = np.maximum.accumulate(sizes, 0)[:-1]
    high = np.maximum.accumulate(sizes[::-1], 0)[::-1][1:]
    first = np.arange(1, len(line))[:, None] * others

    def priced(along: Numbers, count: Any) -> Numbers:
        return growth.price(along, other, count) if axis == 0 else growth.price(other, along, count)

    return priced(low, first) + priced(high, len(line) * others - first)


def _best(saved: Numbers, axis: int, line: Places, start: int, last: int) -> _Cut:
    """The best way and step from `start` to `last`, given what each way (ways, steps) saves at each step alone."""
    onwards = np.cumsum(saved[:, ::-1], 1)[:, ::-1]
    onwards = np.concatenate([onwards, np.zeros((len(saved), 1))], 1)[:, start : last + 1]
    ways, steps = np.indices(onwards.shape)
    uneven = np.abs(ways - (len(onwards) - 1) / 2)
    # Of equal ones the latest and most even: where only the number is too large, that gives few batches.
    equal = np.flatnonzero((onwards >= onwards.max() - 0.5).ravel())
    chosen = equal[np.lexsort((uneven.ravel()[equal], -steps.ravel()[equal]))[0]]
    at, step = np.unravel_index(int(chosen), onwards.shape)
    return _Cut(float(onwards[at, step]), axis, line, int(at) + 1, start + int(step))
