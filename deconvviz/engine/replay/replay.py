"""A recording run forwards again for K changed pictures at once: only what a change can reach is computed.

Each value is known as K patches, equal windows (each at its own place) outside of which the value is as recorded. An
operator takes what its output windows need, patches over recorded surroundings, and runs on that. A convolution, which
is linear, may go by differences instead: only what has changed is multiplied, and added to what was recorded; one of
3×3 with many maps may go by tiles that take fewer multiplications. Once a window has grown to the whole map, or an
operator goes by whole maps, the rest is computed on whole maps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvviz.engine import costs
from deconvviz.engine.recording import Op, Recording
from deconvviz.engine.replay.steps import Step, plan
from deconvviz.engine.rules import rule_of
from deconvviz.engine.rules.base import laid_out
from deconvviz.engine.windows import Patch, Places, RecordedMap, Windows, paste

Spans = tuple[Places, Places]
Reach = tuple[Spans, Spans]
Way = Callable[[Step, Mapping[int, "Patch"], Windows], Any]


class Replay:
    """Plan and memory for replaying one recording; lives for one call. `keep` are values that must come out.

    `expected`, about how many changes will be replayed in all, says what it pays to prepare.

    `run` hands over each kept value. Memory: the recorded values that windows read, once more as rows, and the
    patches of one batch.
    """

    def __init__(self, rec: Recording, keep: tuple[int, ...], expected: int = 1000) -> None:
        self.rec, self.keep = rec, keep
        self.maps: dict[tuple[int, tuple[int, int]], RecordedMap] = {}
        self.steps = plan(rec, keep)
        for step in self.steps:
            if step.fast is not None:
                step.fast.expected = expected
        self.done = 0.0  # multiplications and additions of filters and matrices so far

    def forget(self, steps: range) -> None:
        """Free what was prepared for steps that will not be taken again."""
        for step in self.steps[steps.start : steps.stop]:
            step.fast = None

    def recorded(self, value: int, every: tuple[int, int] = (1, 1)) -> RecordedMap:
        """The recorded value, or `every`-th row and column of it, made ready for windows when first asked for."""
        if (value, every) not in self.maps:
            self.maps[value, every] = RecordedMap(self.rec.values[value][:, :, :: every[0], :: every[1]])
        return self.maps[value, every]

    def run(
        self,
        live: dict[int, Patch],
        steps: range,
        take: Callable[[int, Patch], None],
        reach: Callable[[int], Reach | None] | None = None,
        last: bool = False,
    ) -> dict[int, Patch]:
        """Run some steps on the K changes that are `live`, and return what is live then.

        `reach` says for a step which rows and columns of its output the K changes touch; without it all goes by whole
        maps. `take` gets every kept value as it comes. Behind the `last` run no other will take these steps.
        """
        for n in steps:
            step = self.steps[n]
            at = self.reached_windows(step, live, None if reach is None else reach(n))
            self.step(step, live, at)
            if last:
                self.forget(range(n, n + 1))
            for value in (step.value, *step.op.outputs):
                if value in self.keep and value in live:
                    take(value, live[value])
            for value in step.free:
                live.pop(value, None)
        return live

    def step(self, step: Step, live: dict[int, Patch], at: Windows | None) -> None:
        """Run one step on what is live, on the windows of `at` or on whole maps."""
        out: Any = self.summed(step, live, at)
        summed = out is not None
        if not summed:
            out = self.computed(step, live, at)
        if at is not None and (at.height, at.width) == at.size:
            at = None
        if not isinstance(out, tuple | list):
            out = (out,)
        read = [live[v].data for v in step.uses]
        for value, data in zip(step.op.outputs, out, strict=False):
            if value is None or data is None:
                continue
            # `protect` has seen to it that what is written in place is no one else's.
            own = summed or step.op.in_place or not _shares(data, read)
            if value == step.op.outputs[0]:
                value = step.value
                for op in step.after:
                    data, own = rule_of(op).follow(op, data, own), True
            live[value] = Patch(data, at, own)

    def computed(self, step: Step, live: dict[int, Patch], at: Windows | None) -> Any:
        """The step in the cheapest way: on whole maps, by differences or on windows."""
        k = len(live[step.uses[0]].data)
        if at is None:
            return self.whole(step, live, k)
        prices = self.prices(step, live, at.height, at.width)
        return min(prices, key=lambda way: prices[way])(step, live, at)

    def prices(self, step: Step, live: Mapping[int, Patch], height: int, width: int) -> dict[Way, float]:
        """What the ways to windows so large cost for each change, in places of their plain arithmetic."""
        found: dict[Way, float] = {self.windowed if step.every is None else self.sampled: height * width}
        before = live[step.uses[0]]
        if step.reach is not None and before.windows is not None:
            found[self.differences] = costs.DIFFERENCE * before.windows.height * before.windows.width
        if step.fast is not None:
            found[self.quickly] = step.fast.price(len(before.data), height, width)
        return found

    def trace(self, first: Places, length: int, axis: int) -> list[Spans | None]:
        """For each step the rows (axis 0) or columns (axis 1) of its output that changes of the picture can reach.

        The changes are `length` long and begin at `first` (n,). None where a step goes by whole maps, and from there.
        """
        full = self.rec.values[0].shape[2 + axis]
        known: dict[int, Spans | None] = {0: (np.maximum(first, 0), np.minimum(first + length, full))}
        found: list[Spans | None] = []
        for step in self.steps:
            spans = self.reached(step, known, axis)
            found.append(spans)
            for value in (*step.op.outputs, step.value):
                if value is not None:
                    known[value] = spans
        return found

    def reached(self, step: Step, known: Mapping[int, Spans | None], axis: int) -> Spans | None:
        """The spans of one step's output, clipped to its map, for those of its inputs."""
        shape = self.rec.values[step.value].shape
        if len(shape) != 4 or shape[0] != 1:
            return None
        low: Any = None
        high: Any = None
        for i, value in enumerate(step.op.inputs):
            spans = known[value]
            out = None if spans is None else step.rule.reaches(self.rec, step.op, i, spans, axis)
            if out is None:
                return None
            low = out[0] if low is None else np.minimum(low, out[0])
            high = out[1] if high is None else np.maximum(high, out[1])
        full = shape[2 + axis]
        low = np.clip(low, 0, full - 1)
        return low, np.clip(high, low + 1, full)

    def whole_work(self) -> float:
        """`done` of one pass over the whole picture."""
        return sum(s.work * s.inside * math.prod(self.rec.values[s.value].shape[2:]) for s in self.steps)

    def reached_windows(self, step: Step, live: Mapping[int, Patch], reach: Reach | None) -> Windows | None:
        """Equal windows for K changes at a step, large enough for what each can reach; None for the whole map."""
        if reach is None or any(live[v].windows is None for v in step.uses):
            return None
        rows, cols = reach
        height, width = self.rec.values[step.value].shape[2:]
        h, w = int((rows[1] - rows[0]).max()), int((cols[1] - cols[0]).max())
        whole = step.whole_price(len(rows[0]), (height, width))
        if min(self.prices(step, live, h, w).values()) >= costs.NEARLY_WHOLE * whole:
            return None
        # A window cut by the border moves inwards, where it computes recorded values again.
        return Windows(np.minimum(rows[0], height - h), np.minimum(cols[0], width - w), h, w, (height, width))

    def windowed(self, step: Step, live: Mapping[int, Patch], at: Windows) -> Any:
        """The step on windows, as it is."""
        windows = self.around(step, live, at)
        self.done += step.work * len(at) * at.height * at.width
        self.protect(step, windows, live)
        return step.rule.replay(self.rec, step.op, windows, at)

    def sampled(self, step: Step, live: Mapping[int, Patch], at: Windows) -> Tensor:
        """A 1×1 convolution on windows, of which only the places that it reads are gathered."""
        value = step.op.inputs[0]
        patch = live[value]
        assert step.filters is not None and step.every is not None and patch.windows is not None
        self.done += step.work * len(at) * at.height * at.width
        windows = self.recorded(value, step.every).on(at)
        paste(windows, at, patch.data, patch.windows, every=step.every)
        return step.filters.sampled(windows)

    def quickly(self, step: Step, live: Mapping[int, Patch], at: Windows) -> Tensor:
        """A convolution on windows with fewer multiplications."""
        assert step.fast is not None
        self.done += len(at) * step.fast.work(at.height, at.width)
        return step.fast(self.around(step, live, at)[step.op.inputs[0]])

    def around(self, step: Step, live: Mapping[int, Patch], at: Windows) -> dict[int, Tensor]:
        """What a step needs of its inputs for the windows `at` of its output."""
        windows: dict[int, Tensor] = {}
        for i, value in enumerate(step.op.inputs):
            spans = []
            for axis, first, length in ((0, at.rows, at.height), (1, at.cols, at.width)):
                span = step.rule.needs(self.rec, step.op, i, (first, first + length), axis)
                assert span is not None  # a rule that says what is reached says what is needed
                spans.append(span)
            (top, low), (left, right) = spans
            size = live[value].windows.size  # type: ignore[union-attr]  # else there would be no windows
            need = Windows(top, left, int(low[0] - top[0]), int(right[0] - left[0]), size)
            windows[value] = self.surround(value, live[value], need, step.rule.padding)
        return windows

    def differences(self, step: Step, live: Mapping[int, Patch], at: Windows) -> Tensor:
        """A convolution on windows as what was recorded and the convolution of what has changed.

        Only changed places are multiplied, where the plain way multiplies all that lie around them as well: zeros that
        stand in the padding cost nothing.
        """
        patch = live[step.op.inputs[0]]
        changed = patch.windows
        assert changed is not None and step.filters is not None and step.reach is not None
        self.done += step.work * len(changed) * changed.height * changed.width
        recorded = self.recorded(step.op.inputs[0]).on(changed)
        change = step.filters.spread_change(torch.sub(patch.data, recorded, out=recorded))
        (above, before), (down, right) = step.filters.padding, step.reach
        rows, cols = changed.rows + above - down, changed.cols + before - right
        out = self.recorded(step.sum).on(at)
        paste(out, at, change, Windows(rows, cols, change.shape[2], change.shape[3], at.size), add=True)
        return out

    def summed(self, step: Step, live: Mapping[int, Patch], at: Windows | None) -> Tensor | None:
        """A sum of two changed values in the memory of one that ends here; None where there is none, or it is small.

        The other's windows are added where they lie, and around them what was recorded: nothing is gathered.
        """
        op, full = step.op, self.rec.values[step.sum]
        alike = len(set(op.inputs)) == 2 and all(self.rec.values[v].shape == full.shape for v in op.inputs)
        if not step.rule.adds(op) or not alike or full.dim() != 4:
            return None
        for value, other in (op.inputs, op.inputs[::-1]):
            into, added = live[value], live[other]
            ends = into.own and value in step.free and into.data.dtype == added.data.dtype == full.dtype
            if added.windows is None or not ends or not _alike(into.windows, at):
                continue
            if into.data[0].numel() < costs.LARGE_SUM:
                return None
            where = Windows.whole(len(added.data), added.windows.size) if at is None else at
            paste(into.data, where, added.data, added.windows, add=True)
            self.recorded(other).add_around(into.data, where, added.windows)
            return into.data
        return None

    def surround(self, value: int, patch: Patch, need: Windows, padding: float) -> Tensor:
        """The windows `need` of a changed value: patches over recorded surroundings."""
        assert patch.windows is not None
        if need.same(patch.windows):
            return patch.data
        windows = self.recorded(value).on(need, padding)
        paste(windows, need, patch.data, patch.windows)
        return windows

    def whole(self, step: Step, live: dict[int, Patch], k: int) -> Any:
        """The step on whole maps, all K at once or, where the operator does not treat them alike, one by one."""
        values = {v: self.spread(v, live) for v in step.op.inputs}
        size = (*self.rec.values[step.value].shape[2:],)
        if step.fast and step.filters and step.whole_price(k, size) < step.inside * math.prod(size):
            self.done += k * step.fast.work(size[0], size[1], step.filters.padding)
            return step.fast(values[step.op.inputs[0]], step.filters.padding)
        self.done += step.work * k * step.inside * math.prod(size)
        self.protect(step, values, live)
        out = step.rule.whole(self.rec, step.op, values, k)
        if out is not None:
            return out
        singles = [self.single(step.op, values, n) for n in range(k)]
        return tuple(_stacked(list(parts)) for parts in zip(*singles, strict=True))

    def single(self, op: Op, values: Mapping[int, Tensor], n: int) -> tuple[Any, ...]:
        """The operator on the n-th of K whole values, in the shapes and strides that were recorded."""
        out = self.rec.run(op, {v: laid_out(x[n], self.rec.values[v]) for v, x in values.items()})
        return tuple(out) if isinstance(out, tuple | list) else (out,)

    def protect(self, step: Step, values: dict[int, Tensor], live: Mapping[int, Patch]) -> None:
        """Before an in-place operator: a copy of what it writes to, if anyone else still reads that."""
        if not step.op.in_place:
            return
        value = step.op.inputs[0]
        if values[value] is live[value].data and not (live[value].own and value in step.free):
            values[value] = values[value].clone()

    def spread(self, value: int, live: dict[int, Patch]) -> Tensor:
        """A changed value as whole maps (K, …)."""
        patch = live[value]
        if patch.windows is None:
            return patch.data
        recorded = self.rec.values[value]
        k = len(patch.data)
        maps = recorded.new_empty(k, recorded.shape[2], recorded.shape[3], recorded.shape[1]).permute(0, 3, 1, 2)
        maps.copy_(recorded.expand(k, *recorded.shape[1:]))
        paste(maps, Windows.whole(k, patch.windows.size), patch.data, patch.windows)
        live[value] = Patch(maps, None)
        return maps


def _stacked(parts: list[Any]) -> Any:
    """K results as one: (1, …) becomes (K, …), as everywhere here; other shapes get a dimension in front."""
    if not isinstance(parts[0], Tensor):
        return None
    return torch.cat(parts) if parts[0].shape[:1] == (1,) else torch.stack(parts)


def _alike(one: Windows | None, other: Windows | None) -> bool:
    """Whether both are whole maps, or windows at the same places."""
    return other is None if one is None else one.same(other)


def _shares(data: Tensor, others: list[Tensor]) -> bool:
    storage = data.untyped_storage().data_ptr()
    return any(o.untyped_storage().data_ptr() == storage for o in others)
