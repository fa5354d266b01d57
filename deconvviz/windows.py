"""Windows: a signal that lives on a part of a feature map, K units at once, each at its own place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class Signal:
    """K signals on one value of shape `shape` (with its batch dimension of 1).

    Windowed (`shape` is (1, C, H, W)): `data` is (K, C, h, w) and unit k's window starts at `rows[k]`, `cols[k]`,
    always inside the map; what lies outside a window is zero. Otherwise `data` is (K, *shape).
    """

    data: Tensor
    shape: tuple[int, ...]
    rows: list[int] | None = None
    cols: list[int] | None = None

    @property
    def windowed(self) -> bool:
        """Whether this signal has a window."""
        return self.rows is not None

    def __len__(self) -> int:
        return int(self.data.shape[0])

    def origins(self) -> tuple[list[int], list[int]]:
        """Top-left corners (rows, cols) of the K windows."""
        assert self.rows is not None and self.cols is not None
        return self.rows, self.cols

    def whole(self) -> Tensor:
        """The signal on the whole value, (K, *shape)."""
        if not self.windowed:
            return self.data
        height, width = self.shape[2:]
        k = len(self)
        return refit(self, [0] * k, [0] * k, height, width).data.unsqueeze(1)

    def like(self, data: Tensor) -> Signal:
        """The same windows with other numbers."""
        return Signal(data, self.shape, self.rows, self.cols)

    def take(self, units: list[int]) -> Signal:
        """The signals of some of the K units."""
        rows, cols = self.rows, self.cols
        return Signal(
            self.data[units],
            self.shape,
            None if rows is None else [rows[k] for k in units],
            None if cols is None else [cols[k] for k in units],
        )


def from_whole(data: Tensor, shape: tuple[int, ...]) -> Signal:
    """A signal (K, *shape) over the whole value; maps become windows as large as the map."""
    if len(shape) == 4 and shape[0] == 1:
        k = data.shape[0]
        return Signal(data.reshape(k, *shape[1:]), shape, [0] * k, [0] * k)
    return Signal(data, shape)


def refit(s: Signal, rows: list[int], cols: list[int], height: int, width: int) -> Signal:
    """Move each window to another place and size: cut what is left out, zeros where nothing was."""
    old_rows, old_cols = s.origins()
    shifts = [(r - a, c - b) for r, c, a, b in zip(rows, cols, old_rows, old_cols, strict=True)]
    h, w = s.data.shape[2:]
    if len(set(shifts)) == 1:
        dy, dx = shifts[0]
        data = s.data
        if (dy, dx, height, width) != (0, 0, h, w):
            data = F.pad(data, (-dx, dx + width - w, -dy, dy + height - h))
        return Signal(data, s.shape, rows, cols)
    out = s.data.new_zeros(len(s), s.data.shape[1], height, width)
    for k, (dy, dx) in enumerate(shifts):
        y0, y1, x0, x1 = max(dy, 0), min(h, dy + height), max(dx, 0), min(w, dx + width)
        if y1 > y0 and x1 > x0:
            out[k, :, y0 - dy : y1 - dy, x0 - dx : x1 - dx] = s.data[k, :, y0:y1, x0:x1]
    return Signal(out, s.shape, rows, cols)


def clip(s: Signal) -> Signal:
    """Bring windows that overlap the border back inside the map: what fell outside is padding and is dropped."""
    rows, cols = s.origins()
    h, w = s.data.shape[2:]
    height, width = s.shape[2:]
    if min(rows) >= 0 and min(cols) >= 0 and max(rows) + h <= height and max(cols) + w <= width:
        return s
    new_h = max(min(r + h, height) - max(r, 0) for r in rows)
    new_w = max(min(c + w, width) - max(c, 0) for c in cols)
    new_h, new_w = max(new_h, 1), max(new_w, 1)
    new_rows = [min(max(r, 0), height - new_h) for r in rows]
    new_cols = [min(max(c, 0), width - new_w) for c in cols]
    return refit(s, new_rows, new_cols, new_h, new_w)


def add(a: Signal, b: Signal) -> Signal:
    """Sum of two signals on the same value."""
    if not (a.windowed and b.windowed):
        return Signal(a.whole() + b.whole(), a.shape)
    (ar, ac), (br, bc) = a.origins(), b.origins()
    if ar == br and ac == bc and a.data.shape == b.data.shape:
        return a.like(a.data + b.data)
    height, width = a.shape[2:]
    (ah, aw), (bh, bw) = a.data.shape[2:], b.data.shape[2:]
    rows = [min(x, y) for x, y in zip(ar, br, strict=True)]
    cols = [min(x, y) for x, y in zip(ac, bc, strict=True)]
    h = max(max(x + ah, y + bh) - r for x, y, r in zip(ar, br, rows, strict=True))
    w = max(max(x + aw, y + bw) - c for x, y, c in zip(ac, bc, cols, strict=True))
    rows = [min(r, height - h) for r in rows]
    cols = [min(c, width - w) for c in cols]
    total = refit(a, rows, cols, h, w).data + refit(b, rows, cols, h, w).data
    return Signal(total, a.shape, rows, cols)


def cut(value: Tensor, s: Signal) -> Tensor:
    """The parts of a map (1, C, H, W) under the windows of `s`, (K, C, h, w); size-1 axes are broadcast."""
    if value.shape[2] == 1 and value.shape[3] == 1:
        return value
    value = value.expand(*value.shape[:2], *s.shape[2:])
    rows, cols = s.origins()
    h, w = s.data.shape[2:]
    if len(set(rows)) == 1 and len(set(cols)) == 1:
        return value[:, :, rows[0] : rows[0] + h, cols[0] : cols[0] + w]
    return torch.cat([value[:, :, r : r + h, c : c + w] for r, c in zip(rows, cols, strict=True)])
