"""Receptive fields of all places of a layer at once, and where each lies in its panel."""

from __future__ import annotations

import numpy as np

from deconvviz.engine.geometry import spans
from deconvviz.engine.recording import Recording

Box = tuple[int, int, int, int]


class LayerFields:
    """Receptive fields of one layer: every row and column at once."""

    def __init__(self, rec: Recording, value: int) -> None:
        shape = rec.values[value].shape
        self._axes = [_AxisFields(rec, value, int(shape[2 + a]) if len(shape) == 4 else 1, a) for a in (0, 1)]
        self.field = (self._axes[0].length, self._axes[1].length)

    def box(self, row: int, column: int) -> Box:
        """The receptive field clipped to the input."""
        rows, columns = self._axes
        return int(rows.low[row]), int(columns.low[column]), int(rows.high[row]), int(columns.high[column])

    def offset(self, row: int, column: int) -> tuple[int, int]:
        """Where the clipped receptive field begins in the whole one."""
        rows, columns = self._axes
        return int(rows.low[row] - rows.start[row]), int(columns.low[column] - columns.start[column])


class _AxisFields:
    """For each row (or column) of a map: what it reads of the input, `low` to `high`, and the `start` of its panel."""

    def __init__(self, rec: Recording, value: int, count: int, axis: int) -> None:
        size, places = int(rec.values[0].shape[2 + axis]), np.arange(count)
        self.low, self.high = spans(rec, value, places, axis, True)
        start, stop = spans(rec, value, places, axis, False)
        self.length = min(int(stop[0] - start[0]), size)
        self.start = start if self.length < size else np.zeros_like(start)
