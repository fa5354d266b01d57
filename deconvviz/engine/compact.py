"""What a walk needs of recorded values, in little room: masks as bits, switches as places under their kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from deconvviz.engine import costs
from deconvviz.engine.windows import Windows


def outline(value: Tensor) -> Tensor:
    """A tensor of the same shape, strides and type that holds no numbers."""
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def parts(value: Tensor) -> list[Tensor]:
    """A value in parts of moderate size along its first dimension that is not 1: what is made of one is short-lived.

    A tensor without numbers, which only tells what memory it would take, has none.
    """
    return parts_like(value, value)


class Bits:
    """A mask, one bit a place; rows (the last dimension) begin at whole bytes."""

    def __init__(self, packed: Tensor, width: int) -> None:
        self.packed, self.width = packed, width

    @classmethod
    def of(cls, value: Tensor, holds: Callable[[Tensor], Tensor]) -> Bits:
        """Where something holds of the numbers of `value`, found part by part."""
        value = value if value.dim() else value.view(1)
        width = value.shape[-1]
        packed = value.new_empty(*value.shape[:-1], -(-width // 8), dtype=torch.uint8)
        for part, into in zip(parts(value), parts_like(packed, value), strict=True):
            into.copy_(_packed(holds(part)))
        return cls(packed, width)

    def cut(self, windows: Windows) -> Tensor:
        """The mask under windows within the map, (K or 1, C, height, width), as `Windows.cut` cuts a map."""
        first = windows.cols // 8
        count = min(self.packed.shape[-1], (windows.width + 14) // 8)
        first = np.minimum(first, self.packed.shape[-1] - count)
        size = (windows.size[0], self.packed.shape[-1])
        taken = Windows(windows.rows, first, windows.height, count, size).cut(self.packed)
        bits, off = _unpacked(taken), windows.cols - 8 * first
        if (off == off[0]).all():
            return bits[..., int(off[0]) : int(off[0]) + windows.width]
        alike = len(bits) == 1  # the same bytes for all, of which each takes others
        own = [
            bits[0 if alike else k : 1 if alike else k + 1, ..., o : o + windows.width]
            for k, o in enumerate(off.tolist())
        ]
        return torch.cat(own)

    def whole(self) -> Tensor:
        """The mask of the whole value."""
        return _unpacked(self.packed)[..., : self.width]


def parts_like(value: Tensor, other: Tensor) -> list[Tensor]:
    """A value split where `parts` splits `other`, of as many dimensions; never within a row."""
    if isinstance(other, FakeTensor):
        return []
    dim = next((d for d, n in enumerate(other.shape[:-1]) if n > 1), None)
    if other.numel() <= costs.PART or dim is None:
        return [value]
    size = max(1, costs.PART * other.shape[dim] // other.numel())
    return [value.narrow(dim, n, min(size, value.shape[dim] - n)) for n in range(0, value.shape[dim], size)]


def _packed(mask: Tensor) -> Tensor:
    """Eight places of the last dimension to a byte, the first one in its lowest bit."""
    width = mask.shape[-1]
    rows = mask.new_zeros(*mask.shape[:-1], -(-width // 8) * 8, dtype=torch.uint8)
    rows[..., :width] = mask
    # Eight bytes of 0 or 1 as one number: the product brings one bit of each into its highest byte.
    return (rows.view(torch.int64) * 0x0102040810204080 >> 56).to(torch.uint8)


def _unpacked(packed: Tensor) -> Tensor:
    bit = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=packed.device)
    return (packed.unsqueeze(-1) & bit).bool().flatten(-2)


@dataclass
class Switches:
    """The switches of a max pool of maps, one byte each (two under large kernels): places under the kernel.

    `codes` (1, C, h, w) count those row by row, `across` a row; `stride` is the pool's.
    """

    codes: Tensor
    across: int
    stride: tuple[int, int]

    @classmethod
    def of(
        cls, index: Tensor, width: int, stride: tuple[int, int], padding: tuple[int, int], extent: tuple[int, int]
    ) -> Switches | None:
        """From places (1, C, h, w) in the flattened map, `width` its columns; None for a kernel that is too large."""
        places = extent[0] * extent[1]
        if index.dim() != 4 or places > 1 << 15:
            return None
        codes = torch.empty_like(index, dtype=torch.uint8 if places <= 256 else torch.int16)
        device = index.device
        top = torch.arange(index.shape[2], device=device).view(-1, 1) * stride[0] - padding[0]
        left = torch.arange(index.shape[3], device=device) * stride[1] - padding[1]
        corner = top * width + left
        for part, into in zip(parts(index), parts_like(codes, index), strict=True):
            # How far a place lies behind the corner, in whole rows of the map and columns: columns may be behind the
            # corner by less than the kernel's width only.
            off = part - corner
            down = torch.div(off, width, rounding_mode="floor")
            into.copy_(down * extent[1] + off.sub_(down, alpha=width))
        return cls(codes, extent[1], stride)

    def under(self, windows: Windows, width: int) -> Tensor:
        """Places (K or 1, C, h, w) in the flattened input windows, `width` their columns, for windows of the output."""
        codes = windows.cut(self.codes).long()
        down = torch.div(codes, self.across, rounding_mode="floor")
        device = codes.device
        top = torch.arange(windows.height, device=device).view(-1, 1) * self.stride[0]
        left = torch.arange(windows.width, device=device) * self.stride[1]
        return codes.add_(down, alpha=width - self.across).add_(top * width + left)
