"""Kernels that slide over maps: which rows they read and touch, and the filters of a convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deconvviz.engine.windows import Signal, Windows

# Half-open interval of rows or columns. The formulas of the rules are plain integer arithmetic (`//` rounds down), so
# that an interval may also be a pair of integer arrays: the intervals of K windows at once.
Span = tuple[Any, Any]
Pair = tuple[int, int]


def pair(given: int | Sequence[int]) -> Pair:
    """Rows and columns of an argument that may name one number for both."""
    numbers = [given] if isinstance(given, int) else list(given)
    return int(numbers[0]), int(numbers[-1])


@dataclass(frozen=True)
class Kernel:
    """A kernel that slides over a map: everything as (rows, columns)."""

    size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    @property
    def extent(self) -> Pair:
        """Rows and columns from its first tap to its last."""
        down, right = (d * (n - 1) + 1 for d, n in zip(self.dilation, self.size, strict=True))
        return down, right

    def needs(self, span: Span, axis: int) -> Span:
        """Rows (axis 0) or columns of the input under the output's `span`, unclipped."""
        first, last = (row * self.stride[axis] - self.padding[axis] for row in (span[0], span[1] - 1))
        return first, last + self.extent[axis]

    def reaches(self, span: Span, axis: int) -> Span:
        """Rows (axis 0) or columns of the output between the first and the last whose kernel touches `span`."""
        stride, padding = self.stride[axis], self.padding[axis]
        first = -((self.extent[axis] - 1 - padding - span[0]) // stride)
        return first, (span[1] - 1 + padding) // stride + 1

    def under(self, windows: Windows, size: Pair) -> Windows:
        """What windows of the output read of an input of this `size` (H, W), unclipped."""
        (down, right), (above, before), (tall, wide) = self.stride, self.padding, self.extent
        height, width = (windows.height - 1) * down + tall, (windows.width - 1) * right + wide
        return Windows(windows.rows * down - above, windows.cols * right - before, height, width, size)

    def spread(self, s: Signal, data: Tensor, shape: tuple[int, ...]) -> Signal:
        """The signal `data` (K, C, h, w) on the input (`shape`), made of `s` on the output; the padding is cut off."""
        return Signal(data, self.under(s.at, (shape[2], shape[3]))).inside()


@dataclass(frozen=True, eq=False)
class FilterBank(Kernel):
    """The filters of a convolution of maps: `weight` (O, C / groups, h, w) and `bias` (O,) or None."""

    weight: Tensor
    bias: Tensor | None
    groups: int

    @property
    def channels(self) -> int:
        """How many maps they read."""
        return int(self.weight.shape[1]) * self.groups

    @property
    def every(self) -> Pair | None:
        """The strides of 1×1 filters without padding, if there are any: they read only such rows and columns."""
        return self.stride if self.size == (1, 1) and not any(self.padding) and self.stride != (1, 1) else None

    @property
    def reach(self) -> Pair | None:
        """By how many rows and columns a change spreads at stride 1 in one group, if it does; else None."""
        down, right = self.extent[0] - 1, self.extent[1] - 1
        return (down, right) if self.groups == 1 and self.stride == (1, 1) and (down or right) else None

    def inside(self, size: Sequence[int], out: Sequence[int]) -> float:
        """The share of their taps that lie on a map of this `size` (H, W), and not in the padding around it."""
        share = []
        for axis in (0, 1):
            taps = np.arange(self.size[axis]) * self.dilation[axis] - self.padding[axis]
            at = np.arange(out[axis])[:, None] * self.stride[axis] + taps
            share.append(float(((at >= 0) & (at < size[axis])).mean()))
        return math.prod(share)

    def scaled(self, scale: Tensor, shift: Tensor) -> FilterBank:
        """The same filters with a scale and a shift (O,) of their output taken in."""
        bias = shift if self.bias is None else shift + self.bias * scale
        return replace(self, weight=self.weight * scale.view(-1, 1, 1, 1), bias=bias)

    def for_windows(self) -> FilterBank:
        """The same filters, laid out as the windows of a replay are: channels last."""
        return replace(self, weight=self.weight.contiguous(memory_format=torch.channels_last))

    def __call__(self, x: Tensor, padding: Pair = (0, 0)) -> Tensor:
        """The convolution of x (K, C, h, w)."""
        if self.every:
            # Leaving out first what is never read is several times as fast.
            return self.sampled(x[:, :, :: self.stride[0], :: self.stride[1]])
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def sampled(self, x: Tensor) -> Tensor:
        """The same of an x that holds only the rows and columns of `every`."""
        return F.conv2d(x, self.weight, self.bias, groups=self.groups)

    def spread_change(self, change: Tensor) -> Tensor:
        """What a `change` (K, C, h, w) of the input adds to the output, on windows larger by `reach`."""
        assert self.reach is not None
        return F.conv2d(change, self.weight, None, 1, self.reach, self.dilation, self.groups)

    def transposed(self, signal: Tensor) -> Tensor:
        """The signal (K, O, h, w) sent back through the transposed filters, the padding still around it."""
        return F.conv_transpose2d(signal, self.weight, None, self.stride, 0, 0, self.groups, self.dilation)

    def flipped(self) -> FilterBank:
        """At stride 1 the transposed convolution is one with flipped filters, which runs faster: the same as those."""
        out, inn, *size = self.weight.shape
        weight = self.weight.view(self.groups, out // self.groups, inn, *size).transpose(1, 2).flip(3, 4)
        weight = weight.reshape(self.groups * inn, out // self.groups, *size).contiguous()
        around = (self.extent[0] - 1, self.extent[1] - 1)
        return replace(self, weight=weight, bias=None, padding=around)
