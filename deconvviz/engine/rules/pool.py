"""Pools: max with the recorded switches, average transposed."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvviz.engine.recording import Op, Recording
from deconvviz.engine.rules.base import GlobalNeeds, Rule, Span, Walk, as_recorded, register, touched
from deconvviz.engine.windows import Frame, Signal, clip, cut, from_whole, refit


def _pair(v: Any) -> tuple[int, int]:
    v = [v] if isinstance(v, int) else list(v)
    return int(v[0]), int(v[-1])


def pool_geometry(op: Op) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Kernel, stride, padding and dilation of a 2-d pool."""
    args = list(op.args) + [None] * 6
    kernel = _pair(args[1])
    stride = _pair(args[2]) if args[2] else kernel
    padding = _pair(args[3]) if args[3] is not None else (0, 0)
    maximum = op.name.startswith("max")
    dilation = _pair(args[4]) if maximum and args[4] is not None else (1, 1)
    return kernel, stride, padding, dilation


class _Windowed(Rule):
    def needs(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """Rows under the kernel."""
        kernel, stride, padding, dilation = (g[axis] for g in pool_geometry(op))
        start = span[0] * stride - padding
        return start, (span[1] - 1) * stride - padding + dilation * (kernel - 1) + 1

    def reaches(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """Rows whose window touches the given ones."""
        return touched(span, *(g[axis] for g in pool_geometry(op)))

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """As recorded."""
        return as_recorded(rec, op, values)


@register("max_pool2d_with_indices")
class MaxPool(_Windowed):
    """Unpool: each value goes back to its recorded switch (paper, section 2.1)."""

    padding = -torch.inf

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], frame: Frame) -> Any:
        """The pool, its padding already in the windows. Switches of windows would mean nothing: none are given."""
        kernel, stride, _, dilation = pool_geometry(op)
        return F.max_pool2d(windows[op.inputs[0]], kernel, stride, 0, dilation), None

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Unpool on the windows, by the policy for repeated switches."""
        kernel, stride, padding, dilation = pool_geometry(op)
        if walk.overlap != "add":
            s = _grown(s, kernel, stride, dilation)
        switches = walk.rec.values[op.outputs[1]]  # type: ignore[index]  # this operator has two outputs
        index = cut(switches, s).expand_as(s.data)
        rows, cols = s.origins()
        shape = walk.shape(op.inputs[i])
        h = (s.data.shape[2] - 1) * stride[0] + dilation[0] * (kernel[0] - 1) + 1
        w = (s.data.shape[3] - 1) * stride[1] + dilation[1] * (kernel[1] - 1) + 1
        top = [r * stride[0] - padding[0] for r in rows]
        left = [c * stride[1] - padding[1] for c in cols]
        y0 = torch.tensor(top, device=index.device).view(-1, 1, 1, 1)
        x0 = torch.tensor(left, device=index.device).view(-1, 1, 1, 1)
        width = shape[3]
        flat = (torch.div(index, width, rounding_mode="floor") - y0) * w + (index % width - x0)
        data = unpool(s.data.flatten(2), flat.flatten(2), h * w, walk.overlap)
        return clip(Signal(data.view(*s.data.shape[:2], h, w), shape, top, left))


def _grown(s: Signal, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> Signal:
    """Take in every output whose pool window overlaps that of one in the window: their zeros count too."""
    grow = [(d * (k - 1)) // t for k, t, d in zip(kernel, stride, dilation, strict=True)]
    rows, cols = s.origins()
    h, w = s.data.shape[2] + 2 * grow[0], s.data.shape[3] + 2 * grow[1]
    return clip(refit(s, [r - grow[0] for r in rows], [c - grow[1] for c in cols], h, w))


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


@register("adaptive_max_pool2d")
class AdaptiveMaxPool(GlobalNeeds):
    """As `MaxPool`, on the whole map."""

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """As recorded."""
        return as_recorded(rec, op, values)

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Unpool on the whole map."""
        shape = walk.shape(op.inputs[i])
        whole = s.whole().flatten(1, 2).flatten(2)
        index = walk.rec.values[op.outputs[1]].flatten(2).expand_as(whole)  # type: ignore[index]
        data = unpool(whole, index, shape[2] * shape[3], walk.overlap)
        return from_whole(data.view(-1, *shape), shape)


@register("avg_pool2d")
class AvgPool(_Windowed):
    """Average pools, transposed: each value spread over its window."""

    role = "linear"

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], frame: Frame) -> Any:
        """Sums of the windows times the recorded share."""
        kernel, stride, _, _ = pool_geometry(op)
        total = F.avg_pool2d(windows[op.inputs[0]], kernel, stride, divisor_override=1)
        return total * frame.cut(_share(rec, op))

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Divide by the recorded divisor, then spread."""
        kernel, stride, padding, _ = pool_geometry(op)
        shape = walk.shape(op.inputs[i])
        data = s.data * cut(walk.once(("divisor", op.index), lambda: _share(walk.rec, op)), s)
        ones = data.new_ones(1, 1, *kernel)
        k, c = data.shape[:2]
        spread = F.conv_transpose2d(data.reshape(k * c, 1, *data.shape[2:]), ones, None, stride)
        rows, cols = s.origins()
        top = [r * stride[0] - padding[0] for r in rows]
        left = [x * stride[1] - padding[1] for x in cols]
        return clip(Signal(spread.view(k, c, *spread.shape[2:]), shape, top, left))


def _share(rec: Recording, op: Op) -> Tensor:
    """The factor of one input value at each output: 1 / divisor, which depends on ceil mode and padding."""
    x = rec.values[op.inputs[0]]
    kernel, stride, padding, _ = pool_geometry(op)
    # The mean of ones counts the pixels inside over the divisor; the pixels inside are counted alone.
    args = list(op.args)
    ones = torch.ones_like(x[:, :1])
    args[0] = ones
    mean: Tensor = op.func(*args, **op.kwargs)
    full = F.pad(ones, (padding[1], padding[1] + kernel[1], padding[0], padding[0] + kernel[0]))
    count = F.avg_pool2d(full, kernel, stride, divisor_override=1)[:, :, : mean.shape[2], : mean.shape[3]]
    return mean / count


@register("_adaptive_avg_pool2d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d")
class BatchLinear(GlobalNeeds):
    """Linear operators that treat every picture of a batch alike: transposed by autograd, all units at once."""

    role = "linear"

    def needs(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """An adaptive pool to the map's own size is the identity; else all rows."""
        size, out = rec.values[op.inputs[0]].shape, rec.values[op.outputs[0]].shape  # type: ignore[index]
        return span if op.name == "_adaptive_avg_pool2d" and size == out else None

    def reaches(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """The same rows where the pool is the identity."""
        return self.needs(rec, op, i, span, axis)

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], frame: Frame) -> Any:
        """The identity."""
        return windows[op.inputs[0]]

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """As recorded."""
        return as_recorded(rec, op, values)

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """The transposed operator on whole maps."""
        shape = walk.shape(op.inputs[i])
        if op.name == "_adaptive_avg_pool2d" and s.shape == shape:
            return s
        whole = s.whole().flatten(0, 1)
        with torch.enable_grad():
            x = whole.new_zeros(whole.shape[0], *shape[1:]).requires_grad_(True)
            out = op.func(x, *op.args[1:], **op.kwargs)
            (data,) = torch.autograd.grad(out, x, whole)
        return from_whole(data.unsqueeze(1), shape)


@register("mean", "sum")
class Mean(GlobalNeeds):
    """A mean or sum over some axes, transposed."""

    role = "linear"

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """As recorded, unless it goes over the pictures."""
        shape = rec.values[op.inputs[0]].shape
        dims = op.args[1] if len(op.args) > 1 else None
        dims = [dims] if isinstance(dims, int) else list(dims or [])
        over = not dims or 0 in [d % len(shape) for d in dims]
        return None if over else as_recorded(rec, op, values)

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Spread evenly."""
        shape = walk.shape(op.inputs[i])
        dims = op.args[1] if len(op.args) > 1 and op.args[1] else list(range(len(shape)))
        dims = sorted(d % len(shape) for d in ([dims] if isinstance(dims, int) else dims))
        keep = bool(op.args[2]) if len(op.args) > 2 else bool(op.kwargs.get("keepdim", False))
        data, count = s.whole(), 1
        for d in dims:
            count *= shape[d]
            data = data if keep else data.unsqueeze(d + 1)
        data = data / count if op.name == "mean" else data
        return from_whole(data.expand(-1, *shape), shape)
