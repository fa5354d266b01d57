"""3×3 convolutions with 16 multiplications where the plain way takes 36 (Lavin & Gray 2016, F(2×2, 3×3)).

In float32 it is no less exact than the plain convolution: the sums are shorter. Worth it for many maps only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Numbers of transformed tiles in one part: with more they leave the processor's cache.
_PART = 3 << 20
# Input maps × output maps from which the transforms pay: as they come, and where the input must be copied first.
_ENOUGH, _ENOUGH_COPIED = 25_000, 60_000
# So many times the time of the same product as a convolution, and the saved multiplications are spent.
_SLOWER = 1.5


def suits(weight: Tensor, stride: Sequence[int], dilation: Sequence[int], groups: int) -> bool:
    """Whether a convolution has 3×3 filters at stride 1 and maps enough, in float32 on a processor."""
    plain = tuple(weight.shape[2:]) == (3, 3) and {*stride, *dilation} == {1} and groups == 1
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return plain and on_cpu and weight.shape[0] * weight.shape[1] >= _ENOUGH and products_are_fast()


@lru_cache(maxsize=1)
def products_are_fast() -> bool:
    """Whether plain matrix products run about as fast here as convolutions do; measured once, in some milliseconds.

    Where they take twice as long (MKL on AMD's processors uses half their vector width), the plain convolution wins.
    """
    n, maps = 2048, 256
    rows, matrix = torch.ones(1, n, maps), torch.ones(1, maps, maps)
    places, filters = rows.view(1, n, 1, maps).permute(0, 3, 1, 2), matrix.view(maps, maps, 1, 1)
    product = _fastest(lambda: torch.bmm(rows, matrix))
    return product < _SLOWER * _fastest(lambda: F.conv2d(places, filters))


def _fastest(call: Callable[[], object]) -> float:
    times = []
    for _ in range(6):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


class Winograd:
    """A convolution with `weight` (O, C, 3, 3) and `bias` (O,) or None, prepared once."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        g = weight.new_tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], dtype=torch.float64)
        tiles = torch.einsum("ij,ocjk,lk->ilco", g, weight.double(), g).to(weight.dtype)
        self.filters = tiles.reshape(16, weight.shape[1], weight.shape[0]).contiguous()
        self.bias = bias

    def pays(self, x: Tensor, padding: Sequence[int] = (0, 0)) -> bool:
        """Whether it is faster than the plain convolution on x (K, C, h, w): tiles are even, and copies cost."""
        rows, cols = (n + 2 * p - 2 for n, p in zip(x.shape[2:], padding, strict=True))
        copied = any(padding) or rows % 2 or cols % 2
        used = rows * cols / ((rows + rows % 2) * (cols + cols % 2))
        maps = self.filters.shape[1] * self.filters.shape[2]
        return maps * used >= (_ENOUGH_COPIED if copied else _ENOUGH)

    def __call__(self, x: Tensor, padding: Sequence[int] = (0, 0)) -> Tensor:
        """The convolution of x (K, C, h, w), zeros around it, channels last."""
        k, channels, height, width = x.shape
        rows, cols = height + 2 * padding[0] - 2, width + 2 * padding[1] - 2
        if any(padding) or rows % 2 or cols % 2:
            even = x.new_zeros(k, rows + rows % 2 + 2, cols + cols % 2 + 2, channels)
            even[:, padding[0] : padding[0] + height, padding[1] : padding[1] + width] = x.permute(0, 2, 3, 1)
        else:
            even = x.permute(0, 2, 3, 1)
        out = x.new_empty(k, even.shape[1] - 2, even.shape[2] - 2, self.filters.shape[2])
        part = max(1, _PART // (4 * even.shape[1] * even.shape[2] * channels))
        for start in range(0, k, part):
            self._tiles(even[start : start + part], out[start : start + part])
        if self.bias is not None:
            out += self.bias
        return out[:, :rows, :cols].permute(0, 3, 1, 2)

    def _tiles(self, x: Tensor, out: Tensor) -> None:
        """Tiles of 4×4 numbers with 2×2 results, both (K, h, w, maps)."""
        k, height, width, channels = x.shape
        h, w = (height - 2) // 2, (width - 2) // 2
        lines = x.new_empty(4, k, h, width, channels)
        _spread([x[:, i : i + 2 * h : 2] for i in range(4)], list(lines))
        tiles = x.new_empty(4, 4, k, h, w, channels)
        _spread([lines[:, :, :, i : i + 2 * w : 2] for i in range(4)], [tiles[:, i] for i in range(4)])
        products = torch.bmm(tiles.view(16, k * h * w, channels), self.filters).view(4, 4, k, h, w, -1)
        halves = products.new_empty(2, *products.shape[:1], *products.shape[2:])
        _gather([products[:, i] for i in range(4)], [halves[0], halves[1]])
        pairs = out.view(k, h, 2, w, 2, -1)
        for j in (0, 1):
            _gather(list(halves[j]), [pairs[:, :, i, :, j] for i in (0, 1)])


def _spread(x: list[Tensor], out: list[Tensor]) -> None:
    """Four numbers of a tile along one axis, before the product."""
    torch.sub(x[0], x[2], out=out[0])
    torch.add(x[1], x[2], out=out[1])
    torch.sub(x[2], x[1], out=out[2])
    torch.sub(x[1], x[3], out=out[3])


def _gather(x: list[Tensor], out: list[Tensor]) -> None:
    """Two results from four products along one axis."""
    torch.add(x[0], x[1], out=out[0])
    out[0].add_(x[2])
    torch.sub(x[1], x[2], out=out[1])
    out[1].sub_(x[3])
