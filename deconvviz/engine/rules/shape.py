"""Operators that move numbers and change none: views, slices, padding."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from deconvviz.engine.recording import Op, Recording
from deconvviz.engine.rules.base import Pointwise, Rule, Walk, Windowed, refuse, register, too_small
from deconvviz.engine.rules.kernels import Kernel, Span
from deconvviz.engine.windows import Signal, Windows, from_whole


@register("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "squeeze", "squeeze_", "unsqueeze",
          "unsqueeze_")  # fmt: skip
class View(Rule):
    """The same numbers in the same order in another shape."""

    role = "linear"
    moves = True

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        shape = walk.shape(op.inputs[i])
        return s if shape == s.shape else from_whole(s.whole().reshape(len(s), *shape))

    def aligned(self, rec: Recording, op: Op, i: int, axis: int) -> bool:
        a, b = rec.values[op.inputs[0]].shape, rec.values[op.output()].shape
        return len(a) == len(b) == 4 and a[2:] == b[2:]

    def row_dimension(self, rec: Recording, op: Op, i: int, outer: int, size: int) -> int | None:
        return outer

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], at: Windows) -> Any:
        """Maps rearranged: with (1, C, H, W) on both sides nothing moves."""
        return windows[op.inputs[0]]

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        shape = rec.values[op.output()].shape
        return values[op.inputs[0]].reshape(k, *(shape[1:] if shape[:1] == (1,) else shape))


@register("clone", "alias", "detach", "_to_copy", "contiguous", "lift_fresh", "copy")
class Identity(Pointwise):
    """The same values."""

    role = "linear"
    moves = True
    elementwise = True

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        return s


@register("as_strided_")
class SameStrides(Identity):
    """Only the memory layout changes (adaptive pools of channels-last maps do this)."""

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        return values[op.inputs[0]]

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], at: Windows) -> Any:
        return windows[op.inputs[0]]

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """The signal unchanged; another shape would be a view without a rule."""
        if walk.shape(op.inputs[i]) != s.shape:
            refuse(op, "changes the shape by strides; it has no rule")
        return s


@register("repeat", "flip", "roll")
class Moves(Rule):
    """Linear rearrangements: transposed by moving place numbers the same way."""

    role = "linear"
    moves = True

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Send each number back to where it came from; numbers read more than once add up.

        Where rows and columns stay, only the numbers of the maps are moved, and the signal keeps its windows.
        """
        shape = walk.shape(op.inputs[i])
        by_map = s.windows is not None and all(self.aligned(walk.rec, op, i, axis) for axis in (0, 1))
        moved = (1, shape[1], 1, 1) if by_map else shape
        number = walk.output

        def make() -> Tensor:
            places = torch.arange(math.prod(moved), device=s.data.device).view(moved)
            out = walk.rec.run(op, {op.inputs[0]: places})
            result: Tensor = out[number] if isinstance(out, tuple | list) else out
            return result.reshape(-1)

        places = walk.once(("places", op.index, number), make)
        signal = s.data if by_map else s.whole().reshape(len(s), -1)
        data = signal.new_zeros(len(s), math.prod(moved), *signal.shape[2:]).index_add_(1, places, signal)
        return s.like(data) if by_map else from_whole(data.view(len(s), *shape))


@register("permute", "transpose", "t")
class Permutation(Moves):
    """Whole dimensions move."""

    def order(self, rec: Recording, op: Op) -> list[int]:
        """Which dimension of the input each one of the output is, found on a tensor with other sizes everywhere."""
        sizes = range(2, 2 + rec.values[op.inputs[0]].dim())
        moved: Tensor = rec.run(op, {op.inputs[0]: torch.empty(*sizes, device="meta")})
        return [size - 2 for size in moved.shape]

    def row_dimension(self, rec: Recording, op: Op, i: int, outer: int, size: int) -> int | None:
        a, b = rec.values[op.inputs[0]].shape, rec.values[op.output()].shape
        found = [d for n, d in enumerate(self.order(rec, op)) if b[n] == size and math.prod(b[:n]) == outer]
        return math.prod(a[: found[0]]) if found else None

    def alike(self, rec: Recording, op: Op) -> bool:
        return self.order(rec, op)[:1] == [0]


@register("expand")
class Expansion(Moves):
    """Dimensions of size 1 repeated."""

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """The same behind the dimension of the pictures; None if there is a new one in front, or it is repeated."""
        out, x = rec.values[op.output()].shape, values[op.inputs[0]]
        return x.expand(k, *out[1:]) if len(out) == rec.values[op.inputs[0]].dim() and out[0] == 1 else None


@register("split", "split_with_sizes", "chunk", "unbind", "index_select", "unfold", "slice", "select")
class Parts(Moves):
    """Parts along one dimension; of maps, on the windows."""

    def dimension(self, rec: Recording, op: Op) -> int:
        """That dimension."""
        found: int = op.arg("dim", None) if "dimension" not in op.given else op.arg("dimension")
        return found % rec.values[op.inputs[0]].dim()

    def aligned(self, rec: Recording, op: Op, i: int, axis: int) -> bool:
        a, b = rec.values[op.inputs[0]].shape, rec.values[op.output()].shape
        return len(a) == len(b) == 4 and self.dimension(rec, op) == 1

    def alike(self, rec: Recording, op: Op) -> bool:
        return self.dimension(rec, op) != 0


@register("pixel_shuffle", "pixel_unshuffle")
class PixelShuffle(Moves):
    """Maps become places, or places maps."""

    def alike(self, rec: Recording, op: Op) -> bool:
        return True


@register("channel_shuffle", "native_channel_shuffle")
class ChannelShuffle(PixelShuffle):
    """Maps in another order."""

    def aligned(self, rec: Recording, op: Op, i: int, axis: int) -> bool:
        return rec.values[op.output()].dim() == 4


@register("reflection_pad2d", "replication_pad2d")
class CopyPad(PixelShuffle):
    """Padding by copies of what lies inside."""

    def misfit(self, op: Op) -> str | None:
        return too_small(op)


@register("constant_pad_nd")
class ConstantPad(Windowed):
    """Padding by a constant: what falls on the padding is dropped."""

    role = "linear"

    def pads(self, op: Op) -> list[int]:
        """Before and after the columns, the rows, and any dimensions in front of those."""
        return [*op.arg("pad"), 0, 0][: max(4, len(op.arg("pad")))]

    def kernel(self, op: Op) -> Kernel:
        """One tap, with the padding above and before."""
        pads = self.pads(op)
        return Kernel((1, 1), (1, 1), (pads[2], pads[0]), (1, 1))

    def reaches(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """Shifted by the padding, if that is zero: windows have no other border."""
        plain = not op.arg("value") and not any(self.pads(op)[4:])
        return super().reaches(rec, op, i, span, axis) if plain else None

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], at: Windows) -> Any:
        """The windows, zeros already around them."""
        return windows[op.inputs[0]]

    def alike(self, rec: Recording, op: Op) -> bool:
        return len(op.arg("pad")) <= 6

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        pads, shape = self.pads(op), walk.shape(op.inputs[i])
        if s.windows is not None and not any(pads[4:]):
            return self.kernel(op).spread(s, s.data, shape)
        data = s.whole()
        for axis, before in zip(range(1, 1 + len(pads) // 2), pads[::2], strict=True):
            data = data.narrow(-axis, max(before, 0), shape[-axis])
        return from_whole(data)
