"""The result of `scheme`: one real pass through a convolution, its rectification and its pooling, and back (Fig. 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from deconvviz.results.base import OnePictureResult


class Piece(NamedTuple):
    """Numbers of a few pool windows: `rectified` (h, w) under them, `pooled` and `signal` (s, s), the `switches`
    (s, s, 2) as row and column in `rectified`, and `unpooled` (h, w), the signal of these windows alone."""

    rectified: Tensor
    pooled: Tensor
    switches: Tensor
    signal: Tensor
    unpooled: Tensor


@dataclass(frozen=True, eq=False)
class Scheme(OnePictureResult):
    """What the first pooled convolution does with one picture, and the DeconvNet with one activation from above it.

    Forwards, of one map (`unit`): `convolved` (h, w), `rectified` (h, w), `pooled` (h', w'), and `switches`
    (h', w', 2), the row and column of each maximum. Backwards, of the same map: `signal` (h', w') that arrives from
    `above` (layer, unit), `unpooled` and `passed` (h, w), the latter rectified; `pixels` (C, H, W) is the sum over all
    maps after the transposed filters. `image` (C, H, W) is the preprocessed input. `corner` (row, column) is where a
    piece of 3 x 3 pool outputs is worth a closer look; `window` has kernel, stride and padding of the pool, one for
    both axes.

    >>> s = deconvviz.scheme(deconvviz.load("zfnet"), "image.jpg")
    >>> s.above[0], s.pixels.shape
    ('relu2', torch.Size([3, 224, 224]))
    """

    layer: str
    unit: int
    above: tuple[str, int]
    corner: tuple[int, int]
    window: tuple[int, int, int]
    convolved: Annotated[Tensor, "h w"]
    rectified: Annotated[Tensor, "h w"]
    pooled: Annotated[Tensor, "s t"]
    switches: Annotated[Tensor, "s t 2"]
    signal: Annotated[Tensor, "s t"]
    unpooled: Annotated[Tensor, "h w"]
    passed: Annotated[Tensor, "h w"]
    pixels: Annotated[Tensor, "C H W"]

    @property
    def title(self) -> str:
        """Model and layer."""
        return f"{self.model_name} {self.layer}: convolution and deconvolution"

    def piece(self, side: int = 3) -> Piece:
        """Return the numbers of `side` x `side` pool outputs from `corner` on, and what unpooling makes of them."""
        kernel, stride, padding = self.window
        side = min(side, *self.signal.shape)
        row, column = (min(c, n - side) for c, n in zip(self.corner, self.signal.shape, strict=True))
        rows, columns = slice(row, row + side), slice(column, column + side)
        top, left = max(row * stride - padding, 0), max(column * stride - padding, 0)
        reach = (side - 1) * stride + kernel
        below = self.rectified[top : row * stride - padding + reach, left : column * stride - padding + reach]
        switches = self.switches[rows, columns] - torch.tensor([top, left], device=self.switches.device)
        signal = self.signal[rows, columns]
        unpooled = torch.zeros_like(below)
        # One place may be the maximum of several windows: what arrives there is added.
        unpooled.index_put_(tuple(switches.reshape(-1, 2).T), signal.reshape(-1), accumulate=True)
        return Piece(below, self.pooled[rows, columns], switches, signal, unpooled)
