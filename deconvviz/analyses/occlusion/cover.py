"""What of a picture is covered, where, and with what: the occluder of Fig. 7."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from deconvviz.engine.windows import Patch, RecordedMap, Windows, paste
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnknownNameError, suggest

FILLS = ("grey", "mean", "blur", "noise")


@dataclass(frozen=True)
class Positions:
    """Positions in raster order: `origins` (P, 2), `shape` (rows, cols) of the grid, the picture's `size`."""

    origins: NDArray[np.int64]
    shape: tuple[int, int]
    window: tuple[int, int]
    stride: tuple[int, int]
    size: tuple[int, int]


def positions_of(x: Tensor, window: Any, stride: Any, positions: str = "all") -> Positions:
    """Where a window goes on the picture `x` (1, C, H, W); `positions`: "all" that fit, or those of "captum"."""
    sides, steps = _pair("window", window), _pair("stride", stride)
    size = (int(x.shape[2]), int(x.shape[3]))
    if sides[0] > size[0] or sides[1] > size[1]:
        raise DeconvvizValueError(
            f"window is {sides[0]}×{sides[1]}; allowed: no larger than the picture, {size[0]}×{size[1]}"
        )
    lines = []
    for side, step, full in zip(sides, steps, size, strict=True):
        count = math.ceil((full - side) / step) + 1
        line = np.arange(count, dtype=np.int64) * step
        lines.append(line if positions == "captum" else np.minimum(line, full - side))
    rows, cols = np.meshgrid(*lines, indexing="ij")
    origins = np.stack([rows.ravel(), cols.ravel()], 1)
    return Positions(origins, (len(lines[0]), len(lines[1])), sides, steps, size)


def _pair(name: str, given: Any) -> tuple[int, int]:
    pair = (given, given) if isinstance(given, int) else tuple(given) if isinstance(given, Sequence) else ()
    whole = all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in pair)
    if len(pair) != 2 or not whole:
        raise DeconvvizValueError(f"{name} is {given!r}; allowed: a positive int or a pair (rows, columns)")
    return pair[0], pair[1]


@dataclass(frozen=True)
class Cover:
    """What stands in a window: `values` (C, 1, 1) or (C, H, W) in input scale; the covered pixels of the window."""

    values: Tensor
    words: str
    mask: Tensor | None


def cover_of(x: Tensor, fill: Any, mask: Any, grid: Positions, seed: int) -> Cover:
    """What `fill` and `mask`, as `occlude` takes them, come to on the picture `x` (1, C, H, W)."""
    channels = x.shape[1]
    covered: Tensor | None = None
    if mask is not None:
        covered = torch.as_tensor(np.asarray(mask) if not isinstance(mask, Tensor) else mask).cpu()
        if covered.dtype != torch.bool or tuple(covered.shape) != grid.window:
            raise DeconvvizValueError(
                f"mask is {covered.dtype} of shape {tuple(covered.shape)}; allowed: boolean, the window's {grid.window}"
            )
    if isinstance(fill, str):
        if fill not in FILLS:
            raise UnknownNameError(
                f"fill is {fill!r}; allowed: {', '.join(map(repr, FILLS))}, a number, a colour (C,)"
                f"{suggest(fill, FILLS)}"
            )
        return Cover(_named_fill(x, fill, grid, seed), fill, covered)
    try:
        colour = torch.as_tensor(fill, dtype=torch.float64).reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        raise DeconvvizTypeError(f"fill is {fill!r}; allowed: a name, a number, a colour of {channels}") from None
    if len(colour) not in (1, channels) or not bool(colour.isfinite().all()):
        raise DeconvvizValueError(
            f"fill has {len(colour)} values; allowed: one, or one for each of {channels} channels"
        )
    words = ", ".join(f"{v:g}" for v in colour.tolist())
    return Cover(colour.to(x).expand(channels).reshape(channels, 1, 1).clone(), words, covered)


def _named_fill(x: Tensor, fill: str, grid: Positions, seed: int) -> Tensor:
    if fill in ("grey", "mean"):
        # Normalised inputs: the mean colour is 0, for a bare module as for a card's mean.
        return x.new_zeros(x.shape[1], 1, 1)
    if fill == "blur":
        sigma = [max(side / 4, 0.5) for side in grid.window[::-1]]
        kernel = [min(2 * math.ceil(3 * s) + 1, 2 * full - 1) for s, full in zip(sigma, grid.size[::-1], strict=True)]
        blurred: Tensor = TF.gaussian_blur(as_result(x), kernel, sigma)[0].to(x.dtype)
        return blurred
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(x.shape[1:], generator=generator, dtype=torch.float64).to(x.device)
    mean, deviation = x[0].double().mean((1, 2), keepdim=True), x[0].double().std((1, 2), keepdim=True)
    return (noise * deviation.nan_to_num() + mean).to(x.dtype)


def as_result(x: Tensor) -> Tensor:
    """As results keep numbers: half types as float32."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class Covered:
    """The picture `x` (1, C, H, W) as changed by an occluder wherever it stands."""

    def __init__(self, x: Tensor, grid: Positions, cover: Cover) -> None:
        self.grid, self.cover, self.picture = grid, cover, RecordedMap(x)
        self.filled = RecordedMap(cover.values[None]) if cover.values.shape[1:] != (1, 1) else None
        self.colour: Tensor | None = None

    def one(self, row: int, col: int) -> Patch:
        """The same at one place where the window fits; a plain colour is the same tensor everywhere."""
        if self.filled is not None or self.cover.mask is not None:
            return self.at(np.array([[row, col]]))
        if self.colour is None:
            values = self.cover.values.expand(1, -1, *self.grid.window)
            self.colour = values.contiguous(memory_format=torch.channels_last)
        at = Windows(np.array([row]), np.array([col]), *self.grid.window, self.grid.size)
        return Patch(self.colour, at, own=False)

    def at(self, origins: NDArray[np.int64]) -> Patch:
        """The picture's changed windows at K `origins` (K, 2): covered pixels over its own."""
        k, (h, w), size = len(origins), self.grid.window, self.grid.size
        where = Windows(origins[:, 0], origins[:, 1], h, w, size)
        if self.filled is None:
            fill = self.cover.values.expand(k, -1, h, w).contiguous(memory_format=torch.channels_last)
        else:
            fill = self.filled.on(where)
        if self.cover.mask is not None:
            fill = torch.where(self.cover.mask.to(fill.device), fill, self.picture.on(where))
        # A last window that hangs over the border is cut there.
        at = Windows(np.minimum(where.rows, size[0] - h), np.minimum(where.cols, size[1] - w), h, w, size)
        data = self.picture.on(at)
        paste(data, at, fill, where)
        return Patch(data, at)
