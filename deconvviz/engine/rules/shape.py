"""Operators that move numbers and change none: views, slices, padding."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from deconvviz.engine.recording import Op, Recording, Ref
from deconvviz.engine.rules.base import (
    Pointwise,
    Rule,
    Walk,
    Windowed,
    differentiable,
    laid_out,
    refuse,
    register,
    share,
    too_small,
)
from deconvviz.engine.rules.kernels import Kernel, Span
from deconvviz.engine.windows import Signal, Windows, from_whole


@register("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "squeeze", "squeeze_", "unsqueeze",
          "unsqueeze_")  # fmt: skip
class View(Rule):
    """The same numbers in the same order in another shape."""

    role = "linear"
    moves = True

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return ()

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


@register("clone", "alias", "_to_copy", "contiguous", "lift_fresh")
class Identity(Pointwise):
    """The same values, perhaps as another type; a mask or a place as a number is a constant."""

    role = "linear"
    moves = True
    elementwise = True

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        value = walk.rec.values[op.inputs[i]]
        return s.like(s.data.to(value.dtype)) if differentiable(value) else None


@register("detach", "detach_")
class Detach(Identity):
    """The same values, where `gradient` ends, as autograd does."""

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        return None if walk.method == "gradient" else super().project(walk, op, i, s)


@register("copy", "copy_")
class Copy(Pointwise):
    """Values written over a tensor of any shape that they can be spread to; what it held is gone."""

    role = "linear"

    def source(self, op: Op) -> Any:
        """What is written."""
        return op.arg("src")

    def aligned(self, rec: Recording, op: Op, i: int, axis: int) -> bool:
        source = self.source(op)
        if not isinstance(source, Ref) or op.inputs[i] != source.value:
            return super().aligned(rec, op, i, axis)
        a, b = rec.values[source.value].shape, rec.values[op.output()].shape
        return len(a) == len(b) == 4 and a[2 + axis] == b[2 + axis]

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], at: Windows) -> Any:
        """What is written, on the windows."""
        source, like = self.source(op), rec.values[op.output()]
        data = windows[source.value] if isinstance(source, Ref) else at.cut(source.to(like.device))
        return data.to(like.dtype).expand(len(at), like.shape[1], at.height, at.width).clone()

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """What is written, for each picture."""
        source, like = self.source(op), rec.values[op.output()]
        if not isinstance(source, Ref) or rec.values[source.value].shape != like.shape:
            return None
        return values[source.value].to(like.dtype).clone()

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        value = walk.rec.values[op.inputs[i]]
        if not differentiable(value) or op.operand(i) != "src":
            return None
        sent = share(s, 1, tuple(value.shape))
        return sent.like(sent.data.to(value.dtype))


@register("fill", "fill_", "zero", "zero_")
class Filling(Pointwise):
    """A constant over the whole tensor, or one number of the image (`fill_` with a tensor)."""

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        return share(s, 1, walk.shape(op.inputs[i])) if op.operand(i) == "value" else None


@register("write_over")
class WriteOver(Rule):
    """What an in-place write to a part of a tensor comes to: the places written take theirs from what was written."""

    role = "linear"

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """All pictures at once, each flattened."""
        into, part = op.arg("into"), op.arg("part")
        shape = rec.values[op.output()].shape
        base = values[into.value].reshape(k, -1) if isinstance(into, Ref) else into.reshape(1, -1).expand(k, -1)
        flat = base.clone()
        flat[:, op.arg("to")] = values[part.value].reshape(k, -1)[:, op.arg("source")]
        return flat.view(k, *(shape[1:] if shape[:1] == (1,) else shape))

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """What was not written over stays; what was goes to where it came from."""
        shape, whole, to = walk.shape(op.inputs[i]), s.whole().reshape(len(s), -1), op.arg("to")
        if op.operand(i) == "into":
            return from_whole(whole.index_fill(1, to, 0).view(len(s), *shape))
        data = whole.new_zeros(len(s), math.prod(shape)).index_add_(1, op.arg("source"), whole[:, to])
        return from_whole(data.view(len(s), *shape))


@register("as_strided_")
class SameStrides(Identity):
    """Only the memory layout changes (adaptive pools of channels-last maps do this)."""

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        return values[op.inputs[0]]

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], at: Windows) -> Any:
        return windows[op.inputs[0]]

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """The signal unchanged; another shape would be a view without a rule."""
        if walk.shape(op.inputs[i]) != s.shape:
            refuse(op, "changes the shape by strides; it has no rule")
        return s


@register("repeat", "flip", "roll", "gather", "take", "as_strided", "as_strided_copy", "diagonal", "rot90")
class Moves(Rule):
    """Linear rearrangements: transposed by moving place numbers the same way; which ones move is a constant."""

    role = "linear"
    moves = True

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return op.inputs[1:]

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Send each number back to where it came from; numbers read more than once add up.

        Where rows and columns stay, only the numbers of the maps are moved, and the signal keeps its windows.
        """
        if not differentiable(walk.rec.values[op.inputs[i]]):
            return None
        shape = walk.shape(op.inputs[i])
        by_map = s.windows is not None and all(self.aligned(walk.rec, op, i, axis) for axis in (0, 1))
        moved = (1, shape[1], 1, 1) if by_map else shape
        number = walk.output

        def make() -> Tensor:
            places = torch.arange(math.prod(moved), device=s.data.device).view(moved)
            if not by_map:  # some look at the strides
                places = laid_out(places, walk.rec.values[op.inputs[i]])
            out = walk.rec.run(op, {op.inputs[0]: places})
            result: Tensor = out[number] if isinstance(out, tuple | list) else out
            return result.reshape(-1)

        places = walk.once(("places", op.index, number), make)
        signal = s.data if by_map else s.whole().reshape(len(s), -1)
        data = signal.new_zeros(len(s), math.prod(moved), *signal.shape[2:]).index_add_(1, places, signal)
        return s.like(data) if by_map else from_whole(data.view(len(s), *shape))


@register("permute", "transpose", "t", "transpose_", "t_")
class Permutation(Moves):
    """Whole dimensions move."""

    def order(self, rec: Recording, op: Op) -> list[int]:
        """Which dimension of the input each one of the output is, found on a tensor with other sizes everywhere."""
        sizes = range(2, 2 + rec.values[op.inputs[0]].dim())
        moved: Tensor = rec.run(op, {op.inputs[0]: torch.empty(*sizes, device="meta")})
        return [size - 2 for size in moved.shape]

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """The dimensions moved back."""
        if not differentiable(walk.rec.values[op.inputs[i]]):
            return None
        order = self.order(walk.rec, op)
        return from_whole(s.whole().permute(0, *(1 + order.index(d) for d in range(len(order)))).contiguous())

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


@register(
    "split",
    "split_with_sizes",
    "unsafe_split",
    "unsafe_split_with_sizes",
    "chunk",
    "unbind",
    "index_select",
    "unfold",
    "slice",
    "select",
)
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


@register("index", "_unsafe_index")
class Index(Moves):
    """Numbers taken at places that are given, or at which a mask holds."""

    def alike(self, rec: Recording, op: Op) -> bool:
        """One constant index, not of the pictures."""
        places = op.arg("indices")
        given = [a for a in places if a is not None]
        return places[0] is None and len(given) == 1 and isinstance(given[0], Tensor)


@register("pixel_shuffle", "pixel_unshuffle")
class PixelShuffle(Moves):
    """Maps become places, or places maps."""

    keeps_gates = True

    def alike(self, rec: Recording, op: Op) -> bool:
        return True


@register("channel_shuffle", "native_channel_shuffle")
class ChannelShuffle(PixelShuffle):
    """Maps in another order."""

    def aligned(self, rec: Recording, op: Op, i: int, axis: int) -> bool:
        return rec.values[op.output()].dim() == 4


@register("reflection_pad2d", "replication_pad2d", "reflection_pad1d", "replication_pad1d", "reflection_pad3d",
          "replication_pad3d")  # fmt: skip
class CopyPad(PixelShuffle):
    """Padding by copies of what lies inside."""

    def misfit(self, op: Op) -> str | None:
        return too_small(op)


@register("constant_pad_nd")
class ConstantPad(Windowed):
    """Padding by a constant: what falls on the padding is dropped."""

    role = "linear"
    keeps_gates = True

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

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        pads, shape = self.pads(op), walk.shape(op.inputs[i])
        if s.windows is not None and not any(pads[4:]):
            return self.kernel(op).spread(s, s.data, shape)
        data = s.whole()
        for axis, before in zip(range(1, 1 + len(pads) // 2), pads[::2], strict=True):
            data = data.narrow(-axis, max(before, 0), shape[-axis])
        return from_whole(data)
