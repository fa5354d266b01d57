"""A recording read as geometry: receptive fields, strides and sizes of any unit of any layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError
from deconvviz.recording import Recording, record, record_to
from deconvviz.rules import rule_of
from deconvviz.rules.base import Span


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


def spans(rec: Recording, value: int, start: int, stop: int, axis: int, clipped: bool) -> Span:
    """Rows (axis 0) or columns (axis 1) of the image that rows [start, stop) of a value read.

    Interval arithmetic through the rules' `needs`; `clipped` keeps every interval inside its own map.
    """
    size = rec.values[0].shape[2 + axis]
    shape = rec.values[value].shape
    if value == 0:
        return start, stop
    if len(shape) != 4:
        return 0, size
    pending: dict[int, Span] = {value: (start, stop)}
    last = rec.producer[value].index
    for op in reversed(rec.ops[: last + 1]):
        for out in op.outputs:
            if out is None or out not in pending:
                continue
            span = pending.pop(out)
            for i, source in enumerate(op.inputs):
                need = _need(rec, op, i, span, axis, clipped)
                if need is None:
                    return 0, size
                old = pending.get(source, need)
                pending[source] = (min(old[0], need[0]), max(old[1], need[1]))
    low, high = pending.get(0, (0, size))
    return (max(low, 0), min(high, size)) if clipped else (low, high)


def _need(rec: Recording, op: Any, i: int, span: Span, axis: int, clipped: bool) -> Span | None:
    shape = rec.values[op.inputs[i]].shape
    if len(shape) != 4:
        return None
    need = rule_of(op).needs(rec, op, i, span, axis)
    # A gate (1, C, 1, 1) is read as a whole and depends on everything.
    if need is None or not clipped:
        return need
    return max(need[0], 0), min(need[1], shape[2 + axis])


def boxes(rec: Recording, value: int, places: list[tuple[int, int]]) -> Tensor:
    """Receptive fields (K, 4) top, left, bottom, right of the units at `places`, clipped to the image, half-open."""
    rows = {r: spans(rec, value, r, r + 1, 0, True) for r in {p[0] for p in places}}
    cols = {c: spans(rec, value, c, c + 1, 1, True) for c in {p[1] for p in places}}
    out = [[rows[r][0], cols[c][0], rows[r][1], cols[c][1]] for r, c in places]
    return torch.tensor(out, dtype=torch.long).view(-1, 4)


def field_of(rec: Recording, value: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Stride and receptive field (rows, columns) of a value, borders left aside."""
    stride, size = [], []
    for axis in (0, 1):
        first, second = (spans(rec, value, a, a + 1, axis, False) for a in (0, 1))
        whole = rec.values[0].shape[2 + axis]
        step = second[0] - first[0]
        size.append(first[1] - first[0])
        stride.append(step if step > 0 else whole)
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
    row, col = place
    if not (0 <= row < height and 0 <= col < width):
        raise DeconvvizValueError(f"place {tuple(place)} is outside the {height}×{width} map of layer '{target.path}'")
    box = boxes(rec, target.value, [(int(row), int(col))])[0].tolist()
    return box[0], box[1], box[2], box[3]


__all__ = ["Layer", "boxes", "field_of", "layers", "receptive_field"]
