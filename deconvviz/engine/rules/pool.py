"""Pools: max with the recorded switches, average transposed."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvviz.engine.compact import Switches
from deconvviz.engine.recording import Op, Recording
from deconvviz.engine.rules.base import Rule, Walk, Windowed, axes, gradient, register, too_small
from deconvviz.engine.rules.kernels import Kernel, Span, pair
from deconvviz.engine.windows import Signal, Windows, from_whole


class _Pool(Windowed):
    keeps_gates = True

    def kernel(self, op: Op) -> Kernel:
        """As given; the stride is the kernel's size if none is."""
        size = pair(op.arg("kernel_size"))
        stride = pair(op.arg("stride") or size)
        return Kernel(size, stride, pair(op.arg("padding")), pair(op.arg("dilation", 1)))


@register("max_pool2d_with_indices")
class MaxPool(_Pool):
    """Unpool: each value goes back to its recorded switch (paper, section 2.1)."""

    padding = -torch.inf
    switches = True

    def reaches(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """As for every pool; a network that reads the switches itself needs those of whole maps."""
        return None if rec.consumers(op.output(1)) else super().reaches(rec, op, i, span, axis)

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], at: Windows) -> Any:
        """The pool, its padding already in the windows. Switches of windows would mean nothing: none are given."""
        kernel = self.kernel(op)
        return F.max_pool2d(windows[op.inputs[0]], kernel.size, kernel.stride, 0, kernel.dilation), None

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return op.outputs[1:]  # type: ignore[return-value]  # tensors both

    def condense(self, walk: Walk, op: Op) -> bool:
        """Switches as places under their kernels, of maps (1, C, H, W)."""
        shape, kernel = walk.shape(op.inputs[0]), self.kernel(op)
        if len(shape) != 4 or shape[0] != 1:
            return False
        index = walk.rec.values[op.output(1)]
        found = Switches.of(index, shape[3], kernel.stride, kernel.padding, kernel.extent)
        walk.rec.condensed["switches", op.index] = found
        return found is not None

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        kernel, shape = self.kernel(op), walk.shape(op.inputs[i])
        if s.windows is None:
            return unpool_whole(walk, op, s, shape)
        if walk.overlap != "add":
            s = _grown(s, kernel)
        under = kernel.under(s.at, (shape[2], shape[3]))
        switches: Switches | None = walk.rec.condensed.get(("switches", op.index))
        if switches is not None:
            flat = switches.under(s.at, under.width).expand(s.data.shape)
        else:
            index = s.at.cut(walk.rec.values[op.output(1)]).expand_as(s.data)
            y0, x0 = (torch.from_numpy(c).to(index.device).view(-1, 1, 1, 1) for c in (under.rows, under.cols))
            flat = (torch.div(index, shape[3], rounding_mode="floor") - y0) * under.width + (index % shape[3] - x0)
        data = unpool(s.data.flatten(2), flat.flatten(2), under.height * under.width, walk.overlap)
        return Signal(data.view(*s.data.shape[:2], under.height, under.width), under).inside()


def _grown(s: Signal, kernel: Kernel) -> Signal:
    """Take in every output whose pool window overlaps that of one in the window: their zeros count too."""
    down, right = ((e - 1) // t for e, t in zip(kernel.extent, kernel.stride, strict=True))
    at = s.at
    around = Windows(at.rows - down, at.cols - right, at.height + 2 * down, at.width + 2 * right, at.size)
    return s.on(around.inside())


def unpool(signal: Tensor, index: Tensor, size: int, overlap: str) -> Tensor:
    """(K, C, n) values to (K, C, size) at `index`; repeated places add, take the last (raster order) or the largest."""
    out = signal.new_zeros(*signal.shape[:2], size)
    if overlap == "add":
        return out.scatter_add_(2, index, signal)
    if overlap == "max":
        return out.scatter_reduce_(2, index, signal, "amax", include_self=False)
    order = torch.arange(signal.shape[2], device=index.device).expand_as(index).contiguous()
    last = torch.full(out.shape, -1, dtype=torch.long, device=index.device)
    last.scatter_reduce_(2, index, order, "amax")
    return torch.where(last >= 0, signal.gather(2, last.clamp_min(0)), out)


def unpool_whole(walk: Walk, op: Op, s: Signal, shape: tuple[int, ...]) -> Signal:
    """Every value of signals on whole maps (…, C, spatial) back to its recorded switch there."""
    index = walk.rec.values[op.output(1)]
    spatial = len(shape) - 2
    whole, index = s.whole().flatten(-spatial), index.flatten(-spatial)
    data = unpool(whole.flatten(1, -2), index.flatten(0, -2).expand(len(s), -1, -1), math.prod(shape[2:]), walk.overlap)
    return from_whole(data.view(len(s), *shape))


class _WholeMaps(Rule):
    """A rule that goes by whole maps, the same for every picture."""

    keeps_gates = True

    def alike(self, rec: Recording, op: Op) -> bool:
        return True

    def misfit(self, op: Op) -> str | None:
        return too_small(op) if "pool" in op.name else None


@register("adaptive_max_pool2d", "adaptive_max_pool3d", "max_pool3d_with_indices")
class AdaptiveMaxPool(_WholeMaps):
    """As `MaxPool`, on whole maps or volumes."""

    def alike(self, rec: Recording, op: Op) -> bool:
        return rec.values[op.inputs[0]].dim() == _rank(op)

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return op.outputs[1:2]  # type: ignore[return-value]  # tensors both

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        shape = walk.shape(op.inputs[i])
        if not self.alike(walk.rec, op):  # without a dimension of pictures
            shape = (1, *shape)
            s = Signal(s.whole().unsqueeze(1))
            return Signal(unpool_whole(walk, op, s, shape).whole()[:, 0])
        return unpool_whole(walk, op, s, shape)


def _rank(op: Op) -> int:
    """How many dimensions a batch of this operator's maps has."""
    return {"im2col": 4, "col2im": 3}.get(op.name) or next(n + 2 for n in (1, 2, 3) if f"{n}d" in op.name)


@register("avg_pool2d")
class AvgPool(_Pool):
    """Average pools, transposed: each value spread over its window."""

    role = "linear"

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], at: Windows) -> Any:
        """Sums of the windows times the recorded share."""
        kernel = self.kernel(op)
        total = F.avg_pool2d(windows[op.inputs[0]], kernel.size, kernel.stride, divisor_override=1)
        return total * at.cut(self.share(rec, op))

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        shape = walk.shape(op.inputs[0])
        return () if len(shape) == 4 and shape[0] == 1 else op.inputs

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Divide by the recorded divisor, then spread."""
        if s.windows is None:
            return gradient(walk, op, i, s)
        kernel = self.kernel(op)
        data = s.data * s.at.cut(walk.once(("divisor", op.index), lambda: self.share(walk.rec, op)))
        ones = data.new_ones(1, 1, *kernel.size)
        spread = F.conv_transpose2d(data.flatten(0, 1).unsqueeze(1), ones, None, kernel.stride)
        return kernel.spread(s, spread.view(*data.shape[:2], *spread.shape[2:]), walk.shape(op.inputs[i]))

    def share(self, rec: Recording, op: Op) -> Tensor:
        """The factor of one input value at each output: 1 / divisor, which depends on ceil mode and padding."""
        kernel = self.kernel(op)
        # The mean of ones counts the pixels inside over the divisor; the pixels inside are counted alone.
        like = rec.values[op.inputs[0]]
        ones = torch.ones(like[:, :1].shape, dtype=like.dtype, device=rec.values[0].device)
        mean: Tensor = rec.run(op, {op.inputs[0]: ones})
        (above, before), (height, width) = kernel.padding, kernel.size
        full = F.pad(ones, (before, before + width, above, above + height))
        count = F.avg_pool2d(full, kernel.size, kernel.stride, divisor_override=1)
        return mean / count[:, :, : mean.shape[2], : mean.shape[3]]


@register("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact1d",
          "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "upsample_linear1d", "upsample_bilinear2d",
          "upsample_trilinear3d", "upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
          "_upsample_lanczos2d_aa", "im2col", "col2im", "avg_pool3d", "_adaptive_avg_pool3d")  # fmt: skip
class Upsampling(_WholeMaps):
    """Linear operators that treat every picture of a batch alike: transposed by autograd, all units at once."""

    role = "linear"

    def alike(self, rec: Recording, op: Op) -> bool:
        return rec.values[op.inputs[0]].dim() == _rank(op)

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return () if self.alike(walk.rec, op) else op.inputs

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        shape = walk.shape(op.inputs[i])
        if not self.alike(walk.rec, op):  # without a dimension of pictures
            return gradient(walk, op, i, s)
        whole = s.whole().flatten(0, 1)
        with torch.enable_grad():
            x = whole.new_zeros(whole.shape[0], *shape[1:]).requires_grad_(True)
            (data,) = torch.autograd.grad(walk.rec.run(op, {op.inputs[0]: x}), x, whole.contiguous())
        return from_whole(data.view(len(s), *shape))


@register("grid_sampler_2d", "grid_sampler_3d", "torchvision.deform_conv2d", "torchvision.roi_align",
          "torchvision.ps_roi_align")  # fmt: skip
class GridSample(Rule):
    """Samples between places that are recorded: constants, but in `gradient`, which moves them too.

    So are the weights that such samples are summed with (deformable convolution), and its modulation a gate.
    """

    role = "linear"
    keeps_gates = True

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return op.inputs

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        if walk.method != "gradient" and op.operand(i) != "input":
            return None
        return gradient(walk, op, i, s)


@register("max_unpool2d", "max_unpool3d")
class MaxUnpool(GridSample):
    """Unpooling as a layer of the network: its switches are recorded places."""

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return op.inputs

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        return gradient(walk, op, i, s)


@register("_adaptive_avg_pool2d")
class AdaptiveAvgPool(Upsampling):
    """The same downwards; a pool to the map's own size is the identity."""

    def aligned(self, rec: Recording, op: Op, i: int, axis: int) -> bool:
        return rec.values[op.inputs[0]].shape == rec.values[op.output()].shape

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], at: Windows) -> Any:
        return windows[op.inputs[0]]

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return Upsampling.keeps(self, walk, op)

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        return s if s.shape == walk.shape(op.inputs[i]) else super().project(walk, op, i, s)


@register("mean", "sum")
class Mean(Rule):
    """A mean or sum over some axes, transposed."""

    role = "linear"
    keeps_gates = True

    def alike(self, rec: Recording, op: Op) -> bool:
        return 0 not in axes(op, rec.values[op.inputs[0]].dim())

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        shape = walk.shape(op.inputs[i])
        data, count = s.whole(), 1
        for d in axes(op, len(shape)):
            count *= shape[d]
            data = data if op.arg("keepdim", False) else data.unsqueeze(d + 1)
        data = data / count if op.name == "mean" else data
        data = data.to(walk.rec.values[op.inputs[i]].dtype)
        return from_whole(data.expand(-1, *shape))
