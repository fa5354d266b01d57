"""How the steps of a replay are taken for one change: on windows or on whole maps, whichever is cheaper there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deconvviz.engine import costs
from deconvviz.engine.recording import Recording
from deconvviz.engine.replay.prepared import Convolution, Matrix, Rows, follow
from deconvviz.engine.replay.steps import Step
from deconvviz.engine.rules import rule_of
from deconvviz.engine.rules.base import laid_out
from deconvviz.engine.windows import Windows

Interval = tuple[int, int]
# For every place of a change in each direction, which rows and which columns.
Places = tuple[list[Interval], list[Interval]]


@dataclass
class Part:
    """A changed value: a map (1, C, h, w) that lies at `row`, `col`, as recorded around it, or all of it (`whole`)."""

    data: Tensor
    row: int = 0
    col: int = 0
    whole: bool = True

    @property
    def area(self) -> tuple[Interval, Interval]:
        """Its rows and columns."""
        return (self.row, self.row + self.data.shape[2]), (self.col, self.col + self.data.shape[3])


Made = dict[int, Part]


@dataclass
class Tables:
    """What a step `makes` for every place of a change, and what it `needs` of each of its inputs."""

    makes: Places
    needs: dict[int, Places]


class Around:
    """The recorded maps around changes, with margins for what is read beyond their borders; made when first read."""

    def __init__(self, rec: Recording, maps: dict[Any, Any]) -> None:
        self.rec, self.maps = rec, maps
        self.margins: dict[tuple[int, float], tuple[int, int, int, int]] = {}

    def widen(self, value: int, padding: float, read: Places) -> None:
        """Know that these rows and columns of a value will be read."""
        height, width = self.rec.values[value].shape[2:]
        known = self.margins.get((value, padding), (0, 0, 0, 0))
        beyond = []
        for full, spans in ((width, read[1]), (height, read[0])):
            beyond += [-min(low for low, _ in spans), max(high for _, high in spans) - full]
        left, right, above, below = (max(*both) for both in zip(known, beyond, strict=True))
        self.margins[value, padding] = left, right, above, below

    def recorded(self, value: int, rows: Interval, cols: Interval, padding: float = 0.0) -> Tensor:
        """A window of a recorded map, a view."""
        left, _, above, _ = margins = self.margins.get((value, padding), (0, 0, 0, 0))
        key = (value, padding, margins)
        if key not in self.maps:
            padded = F.pad(self.rec.values[value], margins, value=padding) if any(margins) else self.rec.values[value]
            self.maps[key] = padded.contiguous(memory_format=torch.channels_last)
        window: Tensor = self.maps[key][:, :, rows[0] + above : rows[1] + above, cols[0] + left : cols[1] + left]
        return window

    def window(self, value: int, part: Part, rows: Interval, cols: Interval, padding: float = 0.0) -> Tensor:
        """These rows and columns of a changed map, `padding` beyond its borders."""
        (top, low), (left, right) = part.area
        data = part.data
        if rows[0] >= top and rows[1] <= low and cols[0] >= left and cols[1] <= right:
            if rows == (top, low) and cols == (left, right):
                return data
            return data[:, :, rows[0] - top : rows[1] - top, cols[0] - left : cols[1] - left]
        window = self.recorded(value, rows, cols, padding).clone(memory_format=torch.channels_last)
        r0, r1, c0, c1 = max(top, rows[0]), min(low, rows[1]), max(left, cols[0]), min(right, cols[1])
        if r0 < r1 and c0 < c1:
            inner = window[:, :, r0 - rows[0] : r1 - rows[0], c0 - cols[0] : c1 - cols[0]]
            inner.copy_(data[:, :, r0 - top : r1 - top, c0 - left : c1 - left])
        return window

    def whole(self, value: int, live: Made) -> Tensor:
        """A changed value, all of it; kept so."""
        part = live[value]
        if part.whole:
            return part.data
        height, width = self.rec.values[value].shape[2:]
        data = self.window(value, part, (0, height), (0, width))
        live[value] = Part(data)
        return data


class Way:
    """Any step, by its operator's rule. `tables` None: it goes by whole maps."""

    def __init__(self, step: Step, tables: Tables | None, around: Around) -> None:
        self.step, self.tables, self.around = step, tables, around
        shape = around.rec.values[step.value].shape
        self.size = (int(shape[2]), int(shape[3])) if len(shape) == 4 else (1, 1)
        self.places = math.prod(self.size)

    def __call__(self, live: Made, row: int, col: int) -> Made:
        """Take the step on what is live for a change at `row`, `col`."""
        if self.tables is None:
            return self.on_whole(live)
        rows, cols = self.tables.makes[0][row], self.tables.makes[1][col]
        if (rows[1] - rows[0]) * (cols[1] - cols[0]) >= costs.NEARLY_WHOLE * self.places:
            return self.on_whole(live)
        return self.on_window(live, row, col)

    def area(self, row: int, col: int) -> tuple[Interval, Interval]:
        """What it makes for a change there."""
        assert self.tables is not None
        return self.tables.makes[0][row], self.tables.makes[1][col]

    def read(self, value: int, live: Made, row: int, col: int) -> Tensor:
        """What it needs of an input for a change there."""
        assert self.tables is not None
        down, right = self.tables.needs[value]
        return self.around.window(value, live[value], down[row], right[col], self.step.rule.padding)

    def made(self, data: Tensor, rows: Interval | None = None, cols: Interval | None = None) -> Made:
        """What comes out, the only result: on a window or whole."""
        if rows is None or cols is None or (rows, cols) == ((0, self.size[0]), (0, self.size[1])):
            return {self.step.value: Part(data)}
        return {self.step.value: Part(data, rows[0], cols[0], whole=False)}

    def on_window(self, live: Made, row: int, col: int) -> Made:
        """The step on the window that the change reaches."""
        rows, cols = self.area(row, col)
        at = Windows(np.array(rows[:1]), np.array(cols[:1]), rows[1] - rows[0], cols[1] - cols[0], self.size)
        windows = {value: self.read(value, live, row, col) for value in self.step.uses}
        self._protect(windows)
        out = self.step.rule.replay(self.around.rec, self.step.op, windows, at)
        return self._results(out, list(windows.values()), lambda data: self._lying(data, rows, cols))

    def on_whole(self, live: Made) -> Made:
        """The step on all of its inputs."""
        rec, step = self.around.rec, self.step
        values = {v: self.around.whole(v, live) for v in step.uses}
        self._protect(values)
        # Where (1, …) was recorded one picture is that; where not, rules take pictures in front.
        listed = {v: x if rec.values[v].shape[:1] == (1,) else x[None] for v, x in values.items()}
        out = step.rule.whole(rec, step.op, listed, 1)
        if out is None:
            out = rec.run(step.op, {v: laid_out(x, rec.values[v]) for v, x in values.items()})
        return self._results(out, list(values.values()), Part)

    def _protect(self, values: dict[int, Tensor]) -> None:
        """Before an in-place operator: a copy of what it writes to."""
        if self.step.op.in_place:
            values[self.step.op.inputs[0]] = values[self.step.op.inputs[0]].clone()

    def _lying(self, data: Tensor, rows: Interval, cols: Interval) -> Part:
        whole = (rows, cols) == ((0, self.size[0]), (0, self.size[1]))
        return Part(data, rows[0], cols[0], whole)

    def _results(self, out: Any, read: list[Tensor], lying: Any) -> Made:
        """Every result, activations behind the first taken; whole ones in the shape that was recorded."""
        step, made = self.step, {}
        for value, data in zip(step.op.outputs, out if isinstance(out, tuple | list) else (out,), strict=False):
            if value is None or data is None:
                continue
            if value == step.op.outputs[0]:
                own = not any(x.untyped_storage().data_ptr() == data.untyped_storage().data_ptr() for x in read)
                for op in step.after:
                    data, own = rule_of(op).follow(op, data, own), True
                value = step.value
            part = lying(data)
            recorded = self.around.rec.values[value].shape
            if part.whole and part.data.shape != recorded:
                part.data = part.data.reshape(recorded)
            made[value] = part
        return made


class Convolved(Way):
    """A convolution: on windows, by differences, or on whole maps."""

    def __init__(self, step: Step, tables: Tables | None, around: Around, convolution: Convolution) -> None:
        super().__init__(step, tables, around)
        self.convolution, self.source = convolution, step.op.inputs[0]
        filters = convolution.filters
        self.reach, self.padding = step.reach, filters.padding
        # What a place costs: its arithmetic and its numbers; one that is gathered, and all of the map.
        maps = int(around.rec.values[step.value].shape[1])
        self.of_place, self.of_read = step.work + costs.CARRIED * maps, costs.CARRIED * filters.channels
        self.of_all = (step.work * step.inside + costs.CARRIED * maps) * self.places
        self.spread = self.of_read * math.prod(around.rec.values[self.source].shape[2:])
        if self.reach is not None:
            # What was recorded is read on windows larger than what is reached; its margins are those of the filters.
            (down, right), (above, before) = self.reach, self.padding
            height, width = around.rec.values[self.source].shape[2:]
            spans = ([(above - down, height + above)], [(before - right, width + before)])
            around.widen(step.sum, 0.0, spans)

    def __call__(self, live: Made, row: int, col: int) -> Made:
        if self.tables is None:
            return self.on_whole(live)
        rows, cols = self.area(row, col)
        down, right = self.tables.needs[self.source]
        (top, low), (left, end) = down[row], right[col]
        read = (low - top) * (end - left) * self.of_read
        price = (rows[1] - rows[0]) * (cols[1] - cols[0]) * self.of_place + read + costs.GATHER
        part = live[self.source]
        whole = self.of_all + (0 if part.whole else self.spread)
        if self.reach is not None and not part.whole:
            changed = part.data.shape[2] * part.data.shape[3]
            if costs.DIFFERENCE * changed * self.of_place + costs.GATHER < min(price, whole):
                return self.by_differences(part, rows, cols)
        return self.on_window(live, row, col) if price < whole else self.on_whole(live)

    def on_window(self, live: Made, row: int, col: int) -> Made:
        return self.made(self.convolution(self.read(self.source, live, row, col)), *self.area(row, col))

    def on_whole(self, live: Made) -> Made:
        return self.made(self.convolution(self.around.whole(self.source, live), self.padding))

    def by_differences(self, part: Part, rows: Interval, cols: Interval) -> Made:
        """What has changed alone is convolved, and added to what was recorded."""
        assert self.reach is not None
        change = part.data - self.around.recorded(self.source, *part.area)
        top, left = part.row + self.padding[0] - self.reach[0], part.col + self.padding[1] - self.reach[1]
        low, end = top + change.shape[2] + self.reach[0], left + change.shape[3] + self.reach[1]
        recorded = self.around.recorded(self.step.sum, (top, low), (left, end))
        out = self.convolution.added(change, recorded, self.reach)
        return self.made(out[:, :, rows[0] - top : rows[1] - top, cols[0] - left : cols[1] - left], rows, cols)


class Summed(Way):
    """The sum of two maps of one shape."""

    def on_window(self, live: Made, row: int, col: int) -> Made:
        one, other = (self.read(value, live, row, col) for value in self.step.uses)
        return self.made(follow(self.step.after, one + other), *self.area(row, col))

    def on_whole(self, live: Made) -> Made:
        one, other = (self.around.whole(value, live) for value in self.step.uses)
        return self.made(follow(self.step.after, one + other))


class Pooled(Way):
    """A max pool, of which nobody reads the switches."""

    def __init__(self, step: Step, tables: Tables, around: Around) -> None:
        super().__init__(step, tables, around)
        self.kernel = step.rule.kernel(step.op)  # type: ignore[attr-defined]  # a pool has one

    def on_window(self, live: Made, row: int, col: int) -> Made:
        kernel, window = self.kernel, self.read(self.step.uses[0], live, row, col)
        out = F.max_pool2d(window, kernel.size, kernel.stride, 0, kernel.dilation)
        return self.made(follow(self.step.after, out), *self.area(row, col))


class Multiplied(Way):
    """A product with a constant matrix."""

    def __init__(self, step: Step, tables: Tables | None, around: Around, product: Rows | Matrix) -> None:
        super().__init__(step, tables, around)
        self.product = product

    def on_whole(self, live: Made) -> Made:
        return self.made(self.product(self.around.whole(self.step.uses[0], live)))
