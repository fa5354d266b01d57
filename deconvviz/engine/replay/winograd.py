"""3×3 convolutions with about a third of the multiplications: F(m×n, 3×3), m and n from 2 to 4.

A filter and a tile of the input are taken as polynomials and evaluated at six points; there their values are
multiplied, and the results follow from the products (Toom 1963, Cook 1966, Winograd 1980; for convolutional networks
Lavin & Gray 2016, with the points of Barabasz et al. 2020, which lose the least in float32). Smaller tiles use some of
the same points, so that maps of any size do without much waste, with one set of filters.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deconvviz.engine import costs
from deconvviz.engine.windows import Places

# The sixth point is infinity: of a polynomial the leading coefficient.
_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
_COUNT = len(_POINTS) + 1
# Where both rows and columns are taken at the point one, what is added to a product is added to all results of a tile.
_BOTH_ONE = _POINTS.index(1.0) * (_COUNT + 1)
# The tiles of a block: their transforms are one matrix.
_BLOCKS = ((2,), (3,), (4,), (3, 2), (3, 3), (4, 3), (4, 4))

Matrix = np.ndarray[Any, np.dtype[np.float64]]


def suits(weight: Tensor, stride: Sequence[int], dilation: Sequence[int], groups: int) -> bool:
    """Whether a convolution has 3×3 filters at stride 1, in float32 on a processor."""
    plain = tuple(weight.shape[2:]) == (3, 3) and {*stride, *dilation} == {1} and groups == 1
    return plain and weight.device.type == "cpu" and weight.dtype == torch.float32


class Winograd:
    """A convolution with `weight` (O, C, 3, 3) and `bias` (O,) or None, of `expected` maps in all, batch by batch.

    Its filters are made when first used.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias, self.expected = weight, bias, 1000

    def price(self, count: int, height: int, width: int, padding: Sequence[int] = (0, 0)) -> float:
        """What each of `count` maps costs that come out `height` × `width`, in places of a plain convolution.

        With its share of preparing the filters.
        """
        maps, channels = self.weight.shape[:2]
        tiling = _tiling(height, width, tuple(padding), channels, maps)
        once = costs.TILE_CALL / count + costs.TILE_FILTER / self.expected * channels * maps
        return (tiling.price(channels, maps) + once) / (9 * channels * maps)

    def work(self, height: int, width: int, padding: Sequence[int] = (0, 0)) -> float:
        """Multiplications and additions for one map that comes out `height` × `width`, with those of the transforms."""
        maps, channels = self.weight.shape[:2]
        return 2.0 * sum(_tiling(height, width, tuple(padding), channels, maps).work(channels, maps))

    @cached_property
    def filters(self) -> list[Tensor]:
        """At every pair of points (36,) the matrix of the filters (O, C)."""
        maps, channels = self.weight.shape[:2]
        at = self.weight.new_tensor(_evaluated(3, range(_COUNT)))
        # In blocks that are given back to the process, not to the system: fresh memory is slow.
        rows = self.weight.reshape(-1, 9).t()
        both = torch.kron(at, at).view(_COUNT, _COUNT, -1)
        parts = [_product(some, rows).view(-1, maps, channels) for some in both]
        return [matrix for part in parts for matrix in part]

    def __call__(self, x: Tensor, padding: Sequence[int] = (0, 0)) -> Tensor:
        """The convolution of x (K, C, h, w), zeros around it, channels last."""
        maps, channels = self.weight.shape[:2]
        height, width = (n + 2 * p - 2 for n, p in zip(x.shape[2:], padding, strict=True))
        tiling = _tiling(height, width, tuple(padding), channels, maps)
        out = x.new_empty(len(x), height, width, maps)
        numbers = max(costs.TILE_PART, costs.TILE_PART_OF_FILTER * channels * maps)
        most = max(1, numbers // (tiling.products * max(channels, maps)))
        part = -(-len(x) // -(-len(x) // most))
        for begin in range(0, len(x), part):
            some = slice(begin, begin + part)
            tiling.join(self._convolved(tiling, x[some]), out[some])
        return out.permute(0, 3, 1, 2)

    def _convolved(self, tiling: _Tiling, x: Tensor) -> Tensor:
        """The results (places of a block, K · blocks · O) for all blocks of x (K, C, h, w)."""
        spread, gather, points = tiling.matrices
        cells = tiling.cut(x)
        values = _product(spread.to(cells), cells)
        products = []
        for point, begin, end in points:
            bias = self.bias if point == _BOTH_ONE else None
            rows = values[begin:end].view(-1, self.weight.shape[1])
            products.append(_product(rows, self.filters[point].t(), bias))
        del cells, values  # the next three take their memory
        together = torch.cat(products)
        del products
        return _product(gather.to(together), together.view(tiling.points, -1))


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """The matrix product, by oneDNN where torch has it, as convolutions are: MKL uses half of an AMD's vector width."""
    if a.dtype == torch.float32 and _has_one_dnn():
        result: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.t(), bias, "none", [], "")
        return result
    return a @ b if bias is None else torch.addmm(bias, a, b)


@lru_cache(maxsize=1)
def _has_one_dnn() -> bool:
    one = torch.ones(1, 1)
    try:
        torch.ops.mkldnn._linear_pointwise(one, one, None, "none", [], "")
    except (AttributeError, RuntimeError):  # a build of torch without it
        return False
    return True


# Tiles --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Axis:
    """How rows (or columns) are tiled: `blocks` of `tiles` side by side make `length` of them from length + 2.

    Of one block, what lies in the `padding` or beyond the end is left out of the matrices; several lie on a map that
    has its padding, the last one moved inwards.
    """

    tiles: tuple[int, ...]
    length: int
    padding: int

    @property
    def size(self) -> int:
        return sum(self.tiles)

    @property
    def blocks(self) -> int:
        return -(-self.length // self.size)

    @property
    def points(self) -> int:
        return self.size + 2 * len(self.tiles)

    @property
    def pad(self) -> int:
        """Zeros to set on both sides of the map."""
        return self.padding if self.blocks > 1 else 0

    @property
    def read(self) -> int:
        """How many rows a block reads."""
        return self.size + 2 if self.blocks > 1 else self.length + 2 - 2 * self.padding

    @property
    def made(self) -> int:
        """How many rows a block makes."""
        return min(self.size, self.length)

    @property
    def even(self) -> bool:
        """Whether the blocks make no row twice."""
        return self.length == self.blocks * self.made

    def starts(self) -> Places:
        """The first row that each block makes."""
        return np.asarray(np.minimum(np.arange(self.blocks) * self.size, self.length - self.made))

    def matrices(self) -> tuple[Matrix, Matrix, Places]:
        """From what is read to the points (points, read), from there to what is made (made, points), and which are."""
        spread, gather = np.zeros((self.points, self.size + 2)), np.zeros((self.size, self.points))
        which: list[int] = []
        row = 0
        for m in self.tiles:
            used = [*range(m + 1), _COUNT - 1]
            at = slice(len(which), len(which) + m + 2)
            spread[at, row : row + m + 2] = np.linalg.inv(_evaluated(m + 2, used)).T
            gather[row : row + m, at] = _evaluated(m, used).T
            which += used
            row += m
        first = self.padding - self.pad
        return spread[:, first : first + self.read], gather[: self.made], np.array(which)


def _evaluated(terms: int, points: Sequence[int]) -> Matrix:
    """The matrix (points, terms) that evaluates a polynomial of so many terms at some of the points."""
    rows = [[p**n for n in range(terms)] for p in _POINTS] + [[0.0] * (terms - 1) + [1.0]]
    return np.array(rows)[list(points)]


class _Tiling:
    """Tiles in both directions."""

    def __init__(self, rows: _Axis, cols: _Axis) -> None:
        self.rows, self.cols = rows, cols
        self.blocks = rows.blocks * cols.blocks
        self.points, self.read, self.made = rows.points * cols.points, rows.read * cols.read, rows.made * cols.made
        self.products = self.points * self.blocks

    def work(self, channels: int, maps: int) -> tuple[float, float]:
        """Multiplications for one map: at the points, and of the transforms."""
        return self.products * channels * maps, self.products * (self.read * channels + self.made * maps)

    def price(self, channels: int, maps: int) -> float:
        """What one map costs, in multiplications of a plain convolution."""
        products, transforms = self.work(channels, maps)
        carried = self.blocks * self.read * channels + (self.products + self.blocks * self.made) * maps
        return costs.TILE_PRODUCT * products + costs.TILE_TRANSFORM * transforms + costs.TILE_NUMBER * carried

    @cached_property
    def matrices(self) -> tuple[Tensor, Tensor, list[tuple[int, int, int]]]:
        """From the places that a block reads to its points, from those to the places that it makes, and the points.

        The same point of different tiles is next to each other: each has its number, first row and row behind the last.
        """
        (down, up, rows), (right, left, cols) = self.rows.matrices(), self.cols.matrices()
        which = (rows[:, None] * _COUNT + cols).reshape(-1)
        order = np.argsort(which, kind="stable")
        point, begin, count = np.unique(which[order], return_index=True, return_counts=True)
        groups = list(zip(point.tolist(), begin.tolist(), (begin + count).tolist(), strict=True))
        spread, gather = np.kron(down, right)[order], np.kron(up, left)[:, order]
        return torch.from_numpy(spread), torch.from_numpy(gather), groups

    def cut(self, x: Tensor) -> Tensor:
        """What the blocks of x (K, C, h, w) read: (places of a block, K · blocks · C)."""
        rows, cols = self.rows, self.cols
        if self.blocks == 1:
            return x.permute(2, 3, 0, 1).reshape(self.read, -1)
        if rows.pad or cols.pad:
            x = F.pad(x, (cols.pad, cols.pad, rows.pad, rows.pad))
        count, channels, height, width = x.shape
        down = np.arange(rows.read)[:, None] + rows.starts()
        right = np.arange(cols.read)[:, None] + cols.starts()
        of_map = np.arange(count)[:, None, None] * (height * width)
        at = of_map + down[:, None, None, :, None] * width + right[None, :, None, None, :]
        flat = x.permute(0, 2, 3, 1).reshape(-1, channels)
        return flat.index_select(0, torch.from_numpy(at.reshape(-1))).view(self.read, -1)

    def join(self, results: Tensor, out: Tensor) -> None:
        """Write what the blocks have made into `out` (K, height, width, O)."""
        rows, cols = self.rows, self.cols
        count, maps = len(out), out.shape[-1]
        if rows.even and cols.even:
            made = results.view(rows.made, cols.made, count, rows.blocks, cols.blocks, maps)
            parts = out.view(count, rows.blocks, rows.made, cols.blocks, cols.made, maps)
            parts.copy_(made.permute(2, 3, 0, 4, 1, 5))
            return
        places = []
        for axis in (rows, cols):
            block = np.minimum(np.arange(axis.length) // axis.size, axis.blocks - 1)
            places.append((block, np.arange(axis.length) - axis.starts()[block]))
        (block, down), (beside, right) = places
        at = (down[:, None] * cols.made + right) * count + np.arange(count)[:, None, None]
        at = at * self.blocks + block[:, None] * cols.blocks + beside
        torch.index_select(results.view(-1, maps), 0, torch.from_numpy(at.reshape(-1)), out=out.view(-1, maps))


@lru_cache(maxsize=4096)
def _tiling(height: int, width: int, padding: tuple[int, int], channels: int, maps: int) -> _Tiling:
    """The cheapest way to tile maps that come out `height` × `width`."""
    lines = [[_Axis(b, n, p) for b in _BLOCKS] for n, p in zip((height, width), padding, strict=True)]
    return min(itertools.starmap(_Tiling, itertools.product(*lines)), key=lambda t: t.price(channels, maps))
