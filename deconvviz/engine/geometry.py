"""A recording read as geometry: receptive fields, strides and sizes of any unit of any layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvviz.engine.recording import Recording
from deconvviz.engine.rules import rule_of
from deconvviz.engine.windows import Places


def spans(rec: Recording, value: int, start: Places, axis: int, clipped: bool) -> tuple[Places, Places]:
    """Rows (axis 0) or columns (axis 1) of the image, half-open, that row `start` of a value reads: for K rows at once.

    Interval arithmetic through the rules' `needs`, in one walk; `clipped` keeps every interval inside its own map.
    """
    everything = np.zeros_like(start), np.full_like(start, rec.values[0].shape[2 + axis])
    if value == 0:
        return start, start + 1
    if len(rec.values[value].shape) != 4:
        return everything
    pending = {value: _Rows(start, start + 1, _outer(rec, value, axis), rec.values[value].shape[2 + axis])}
    last = rec.producer[value].index
    for op in reversed(rec.ops[: last + 1]):
        for out in op.outputs:
            if out is None or out not in pending:
                continue
            rows = pending.pop(out)
            for i, source in enumerate(op.inputs):
                need = _need(rec, op, i, rows, axis, clipped)
                old = pending.get(source, need)
                if need is None or old is None or need.outer != old.outer:
                    return everything
                low, high = np.minimum(old.low, need.low), np.maximum(old.high, need.high)
                pending[source] = _Rows(low, high, need.outer, need.size)
    image = pending.get(0)
    if image is None or image.outer != _outer(rec, 0, axis):
        return everything
    return image.low, image.high


@dataclass(frozen=True)
class _Rows:
    """Intervals of rows (or columns) of a value of any rank; `outer` and `size` as for `Rule.row_dimension`."""

    low: Places
    high: Places
    outer: int
    size: int


def _outer(rec: Recording, value: int, axis: int) -> int:
    """The `outer` of rows (axis 0) or columns of a map (1, C, H, W); 0 for other values."""
    shape = rec.values[value].shape
    return math.prod(shape[: 2 + axis]) if len(shape) == 4 else 0


def _need(rec: Recording, op: Any, i: int, rows: _Rows, axis: int, clipped: bool) -> _Rows | None:
    source = op.inputs[i]
    outer = _outer(rec, source, axis)
    need = None
    if outer and rows.outer == _outer(rec, op.outputs[0], axis):
        need = rule_of(op).needs(rec, op, i, (rows.low, rows.high), axis)
    if need is None:
        # Values of another rank, or with their dimensions in another order.
        found = rule_of(op).row_dimension(rec, op, i, rows.outer, rows.size)
        # A gate (1, C, 1, 1) is read as a whole and depends on everything.
        return None if found is None else _Rows(rows.low, rows.high, found, rows.size)
    size = rec.values[source].shape[2 + axis]
    low, high = (np.maximum(need[0], 0), np.minimum(need[1], size)) if clipped else need
    return _Rows(low, high, outer, size)


def boxes(rec: Recording, value: int, places: Sequence[tuple[int, int]]) -> Tensor:
    """Receptive fields (K, 4) top, left, bottom, right of the units at `places`, clipped to the image, half-open."""
    rows, cols = np.array(places, dtype=np.int64).reshape(-1, 2).T
    (top, bottom), (left, right) = spans(rec, value, rows, 0, True), spans(rec, value, cols, 1, True)
    return torch.from_numpy(np.stack([top, left, bottom, right], 1))


def field_of(rec: Recording, value: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Stride and receptive field (rows, columns) of a value, borders left aside."""
    stride, size = [], []
    for axis in (0, 1):
        low, high = spans(rec, value, np.array([0, 1]), axis, False)
        step = int(low[1] - low[0])
        size.append(int(high[0] - low[0]))
        stride.append(step if step > 0 else int(rec.values[0].shape[2 + axis]))
    return (stride[0], stride[1]), (size[0], size[1])
