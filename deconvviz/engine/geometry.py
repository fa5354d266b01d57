"""A recording read as geometry: receptive fields, strides and sizes of any unit of any layer."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deconvviz.engine.recording import Recording, record, record_to
from deconvviz.engine.rules import rule_of
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError

Places = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Layer:
    """One row of `Network.layers()`.

    `maps` is the number of feature maps (units), `size` their (height, width) or None for (N, C) outputs, `stride` and
    `receptive_field` (rows, columns) in input pixels; a layer that reads everything has the input's own size.
    """

    name: str
    aliases: tuple[str, ...]
    operator: str
    maps: int
    size: tuple[int, int] | None
    stride: tuple[int, int]
    receptive_field: tuple[int, int]


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


def example_input(module: nn.Module, channels: int, size: tuple[int, int]) -> Tensor:
    """A picture of zeros (1, C, H, W) on the module's device and in its dtype.

    `channels` 0 (a card without mean and std) stands for what the first convolution takes.
    """
    if not channels:
        convolution = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
        channels = convolution.in_channels if convolution is not None else 3
    first = next(module.parameters(), None)
    device = first.device if first is not None else torch.device("cpu")
    dtype = first.dtype if first is not None and first.dtype.is_floating_point else torch.float32
    return torch.zeros(1, channels, *size, device=device, dtype=dtype)


def layers(net: Any, input_size: int | tuple[int, int] | None = None) -> list[Layer]:
    """Every leaf module of a Network that ran, in the order of running; see `Layer`.

    A module called twice stands once for each call, as `path#0`, `path#1`.
    """
    card = net.card
    size = card.input_size if input_size is None else input_size
    size = (size, size) if isinstance(size, int) else size
    rec = record(net.module, example_input(net.module, card.channels, size))
    inner = {p.rpartition(".")[0] for p in rec.kinds if p}
    short: dict[str, list[str]] = {}
    for alias, path in card.aliases.items():
        short.setdefault(path, []).append(alias)
    rows: list[tuple[int, Layer]] = []
    for path, calls in rec.calls.items():
        if not path or (path in inner and path not in short):
            continue
        for n, value in enumerate(calls):
            if value is None or value not in rec.producer or len(rec.values[value].shape) not in (2, 4):
                continue
            name = path if len(calls) == 1 else f"{path}#{n}"
            rows.append((value, _row(rec, name, tuple(short.get(path, ())), rec.kinds[path], value)))
    return [row for _, row in sorted(rows, key=lambda r: r[0])]


def _row(rec: Recording, name: str, aliases: tuple[str, ...], kind: str, value: int) -> Layer:
    shape = rec.values[value].shape
    stride, field = field_of(rec, value)
    size = (int(shape[2]), int(shape[3])) if len(shape) == 4 else None
    return Layer(name, aliases, kind, int(shape[1]), size, stride, field)


def receptive_field(model: Any, layer: str | nn.Module, place: tuple[int, int]) -> tuple[int, int, int, int]:
    """Receptive field (top, left, bottom, right), half-open, clipped to the image, of `place` (row, column) of a layer.

    `model` is a Network (its card gives the input size). Raises for an unknown layer or a place outside the map.
    """
    if not hasattr(model, "card"):
        raise DeconvvizTypeError(
            "receptive_field needs a Network, which knows its input size; wrap the module in Network"
        )
    image = example_input(model.module, model.card.channels, model.card.input_size)
    rec, target = record_to(model.module, image, layer, model.card.aliases)
    shape = rec.values[target.value].shape
    height, width = (shape[2], shape[3]) if len(shape) == 4 else (1, 1)
    row, col = _place(place)
    if not (0 <= row < height and 0 <= col < width):
        raise DeconvvizValueError(f"place {(row, col)} is outside the {height}×{width} map of layer '{target.path}'")
    box = boxes(rec, target.value, [(row, col)])[0].tolist()
    return box[0], box[1], box[2], box[3]


def _place(place: Any) -> tuple[int, int]:
    try:
        row, col = (operator.index(number) for number in place)
    except (TypeError, ValueError):
        raise DeconvvizTypeError(f"place is {place!r}; allowed: two whole numbers (row, column)") from None
    return row, col


__all__ = ["Layer", "boxes", "field_of", "layers", "receptive_field"]
