"""Operators that move numbers and change none: views, slices, padding."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from deconvviz.engine.recording import Op, Recording
from deconvviz.engine.rules.base import GlobalNeeds, PointwiseNeeds, Rule, Span, Walk, as_recorded, refuse, register
from deconvviz.engine.windows import Frame, Signal, clip, from_whole


@register("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "squeeze", "squeeze_", "unsqueeze",
          "unsqueeze_")  # fmt: skip
class View(GlobalNeeds):
    """The same numbers in the same order in another shape."""

    role = "linear"

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """The input's shape back."""
        shape = walk.shape(op.inputs[i])
        return s if shape == s.shape else from_whole(s.whole().reshape(len(s), *shape), shape)

    def needs(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """The same rows if only the maps (dimension 1) are rearranged."""
        a, b = rec.values[op.inputs[0]].shape, rec.values[op.outputs[0]].shape  # type: ignore[index]
        return span if len(a) == len(b) == 4 and a[2:] == b[2:] else None

    def carries(self, rec: Recording, op: Op, i: int, outer: int, size: int) -> int | None:
        """Where they are: the order of the numbers stays."""
        return outer

    def reaches(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """The same rows if only the maps are rearranged."""
        return self.needs(rec, op, i, span, axis)

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], frame: Frame) -> Any:
        """Maps rearranged: with (1, C, H, W) on both sides nothing moves."""
        return windows[op.inputs[0]]

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """The same for each picture."""
        shape = rec.values[op.outputs[0]].shape  # type: ignore[index]
        return values[op.inputs[0]].reshape(k, *(shape[1:] if shape[:1] == (1,) else shape))


@register("clone", "alias", "detach", "_to_copy", "contiguous", "lift_fresh", "copy")
class Identity(PointwiseNeeds):
    """The same values."""

    role = "linear"

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """The signal unchanged."""
        return s


@register("as_strided_")
class SameStrides(PointwiseNeeds):
    """Only the memory layout changes (adaptive pools of channels-last maps do this)."""

    role = "linear"

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """Unchanged."""
        return values[op.inputs[0]]

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], frame: Frame) -> Any:
        """The windows unchanged."""
        return windows[op.inputs[0]]

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """The signal unchanged; another shape would be a view without a rule."""
        if walk.shape(op.inputs[i]) != s.shape:
            refuse(op, "changes the shape by strides; it has no rule")
        return s


class _Moves(GlobalNeeds):
    """Linear rearrangements: transposed by moving place numbers the same way."""

    role = "linear"

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Send each number back to where it came from; numbers read more than once add up."""
        shape = walk.shape(op.inputs[i])
        number = walk.output

        def make() -> torch.Tensor:
            places = torch.arange(torch.Size(shape).numel(), device=s.data.device).view(shape)
            args, kwargs = walk.rec.fill(op, {op.inputs[0]: places})
            out = op.func(*args, **kwargs)
            moved: torch.Tensor = out[number] if isinstance(out, (tuple, list)) else out
            return moved.reshape(-1)

        places = walk.once(("places", op.index, number), make)
        whole = s.whole().reshape(len(s), -1)
        data = whole.new_zeros(len(s), torch.Size(shape).numel()).index_add_(1, places, whole)
        return from_whole(data.view(len(s), *shape), shape)

    def carries(self, rec: Recording, op: Op, i: int, outer: int, size: int) -> int | None:
        """A permutation moves whole dimensions."""
        a, b = rec.values[op.inputs[0]].shape, rec.values[op.outputs[0]].shape  # type: ignore[index]
        if op.name not in ("permute", "transpose", "t"):
            return None
        order = list(range(len(a)))
        if op.name == "permute":
            order = [int(d) % len(a) for d in op.args[1]]
        elif len(a) > 1:
            first, second = (int(d) % len(a) for d in (op.args[1:3] if op.name == "transpose" else (0, 1)))
            order[first], order[second] = order[second], order[first]
        found = [order[d] for d in range(len(b)) if b[d] == size and math.prod(b[:d]) == outer]
        return math.prod(a[: found[0]]) if found else None

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """As recorded, if the first dimension is a bystander."""
        out = rec.values[op.outputs[0]].shape  # type: ignore[index]
        if op.name == "expand" and len(op.args[1]) == rec.values[op.inputs[0]].dim() and out[0] == 1:
            return values[op.inputs[0]].expand(k, *out[1:])
        return as_recorded(rec, op, values) if self.leaves_first(rec, op) else None

    def leaves_first(self, rec: Recording, op: Op) -> bool:
        """Whether dimension 0 is neither moved nor cut."""
        dims = rec.values[op.inputs[0]].dim()
        given: Any = op.args[1] if len(op.args) > 1 else None
        if op.name == "permute":
            return int(given[0]) % dims == 0
        if op.name == "transpose":
            return int(op.args[1]) % dims != 0 and int(op.args[2]) % dims != 0
        if op.name in ("split", "split_with_sizes", "chunk", "unbind"):
            return int(op.args[2] if len(op.args) > 2 else op.kwargs.get("dim", 0)) % dims != 0
        if op.name in ("slice", "select", "index_select", "unfold"):
            return int(given or 0) % dims != 0
        return op.name in (
            "reflection_pad2d", "replication_pad2d", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
            "native_channel_shuffle",
        )  # fmt: skip


@register("permute", "transpose", "t", "expand", "split", "split_with_sizes", "chunk", "unbind", "repeat", "flip",
          "roll", "index_select", "reflection_pad2d", "replication_pad2d", "pixel_shuffle", "pixel_unshuffle",
          "channel_shuffle", "native_channel_shuffle", "unfold")  # fmt: skip
class Moves(_Moves):
    """Permutations, splits, repeats and paddings by copies."""

    def needs(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """Splits and shuffles of maps keep the rows."""
        a, b = rec.values[op.inputs[0]].shape, rec.values[op.outputs[0]].shape  # type: ignore[index]
        by_map = op.name.startswith(("split", "chunk", "channel_shuffle", "native_channel_shuffle"))
        return span if by_map and len(a) == 4 and a[2:] == b[2:] else None

    def reaches(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """The same rows where they are kept."""
        return self.needs(rec, op, i, span, axis)

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], frame: Frame) -> Any:
        """The same maps of the windows."""
        args, kwargs = rec.fill(op, windows)
        return op.func(*args, **kwargs)


@register("slice", "select")
class Slice(_Moves):
    """A slice along one dimension; of maps, on the windows."""

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Put the slice back among zeros."""
        dim, start, step = _slice(op)
        shape = walk.shape(op.inputs[i])
        if op.name == "select" or not s.windowed or dim != 1 or step != 1 or len(shape) != 4:
            return super().project(walk, op, i, s)
        data = s.data.new_zeros(len(s), shape[1], *s.data.shape[2:])
        start = start + shape[1] if start < 0 else start
        data[:, start : start + s.data.shape[1]] = s.data
        return Signal(data, shape, s.rows, s.cols)

    def needs(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """A slice of maps keeps the rows."""
        return span if op.name == "slice" and _slice(op)[0] == 1 and rec.values[op.inputs[0]].dim() == 4 else None

    def reaches(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """The same rows of a slice of maps."""
        return self.needs(rec, op, i, span, axis)

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], frame: Frame) -> Any:
        """The same maps of the windows."""
        args, kwargs = rec.fill(op, windows)
        return op.func(*args, **kwargs)


def _slice(op: Op) -> tuple[int, int, int]:
    args = list(op.args) + [None] * 5
    return int(args[1] or 0), int(args[2] or 0), int(args[4] or 1)


@register("constant_pad_nd")
class ConstantPad(Rule):
    """Padding by a constant: what falls on the padding is dropped."""

    role = "linear"

    def needs(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """Shifted by the padding."""
        pad = _pads(op)
        before = pad[2 * (1 - axis)]
        return span[0] - before, span[1] - before

    def reaches(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """Shifted by the padding, if that is zero: windows have no other border."""
        pad = _pads(op)
        value = op.args[2] if len(op.args) > 2 else op.kwargs.get("value", 0)
        before = pad[2 * (1 - axis)]
        return (span[0] + before, span[1] + before) if not value and not any(pad[4:]) else None

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], frame: Frame) -> Any:
        """The windows, zeros already around them."""
        return windows[op.inputs[0]]

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """As recorded, unless it pads the pictures."""
        return as_recorded(rec, op, values) if len(op.args[1]) <= 6 else None

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Shift the windows, cut at the border."""
        pad, shape = _pads(op), walk.shape(op.inputs[i])
        if not s.windowed or any(pad[4:]):
            data = s.whole()
            for axis, before in zip(range(1, 1 + len(pad) // 2), pad[::2], strict=True):
                data = data.narrow(-axis, max(before, 0), shape[-axis])
            return from_whole(data, shape)
        rows, cols = s.origins()
        return clip(Signal(s.data, shape, [r - pad[2] for r in rows], [c - pad[0] for c in cols]))


def _pads(op: Op) -> list[int]:
    return (list(op.args[1]) + [0] * 8)[: max(4, len(op.args[1]))]
