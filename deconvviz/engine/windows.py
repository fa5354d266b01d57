"""Windows: a signal that lives on a part of a feature map, K units at once, each at its own place."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deconvviz.engine import costs


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


# Windows of recorded maps, for replaying --------------------------------------------------------------------------


@dataclass
class Frame:
    """Where K equal windows of `height` × `width` lie in a map of `size` (H, W): `rows`, `cols` (K,) of the corners."""

    rows: np.ndarray[Any, np.dtype[np.int64]]
    cols: np.ndarray[Any, np.dtype[np.int64]]
    height: int
    width: int
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, which: slice) -> Frame:
        """Some of the K windows."""
        return Frame(self.rows[which], self.cols[which], self.height, self.width, self.size)

    def whole(self) -> Frame:
        """As many windows that are the whole map."""
        corners = np.zeros(len(self), np.int64)
        return Frame(corners, corners, *self.size, self.size)

    def places(self, beyond: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Places (K · height · width,) in the flattened map; `beyond` where the window leaves the map."""
        full_h, full_w = self.size
        r = self.rows[:, None] + np.arange(self.height)
        c = self.cols[:, None] + np.arange(self.width)
        at = r[:, :, None] * full_w + c[:, None, :]
        if r.min() < 0 or c.min() < 0 or r.max() >= full_h or c.max() >= full_w:
            inside = ((r >= 0) & (r < full_h))[:, :, None] & ((c >= 0) & (c < full_w))[:, None, :]
            at = np.where(inside, at, beyond)
        return at.reshape(-1)

    def cut(self, constant: Tensor) -> Tensor:
        """The parts (K, …, height, width) of a constant that lies on the map; any other constant as it is."""
        spans = [n > 1 and n == full for n, full in zip((1, *constant.shape)[-2:], self.size, strict=True)]
        if not any(spans):
            return constant
        while constant.dim() < 4:
            constant = constant.unsqueeze(0)
        r = torch.from_numpy(self.rows[:, None] + np.arange(self.height)).to(constant.device)
        c = torch.from_numpy(self.cols[:, None] + np.arange(self.width)).to(constant.device)
        r, c = r if spans[0] else r * 0, c if spans[1] else c * 0
        return constant[0].permute(1, 2, 0)[r[:, :, None], c[:, None, :]].permute(0, 3, 1, 2)


class Table:
    """A recorded map (1, C, H, W) as rows of a table, one a place, so that windows are one `index_select`.

    Two rows more stand for what lies outside: zero and -inf.
    """

    def __init__(self, value: Tensor) -> None:
        _, channels, height, width = value.shape
        self.size = (height, width)
        self.rows = value.new_empty(height * width + 2, channels)
        self.rows[:-2].view(height, width, channels).copy_(value[0].permute(1, 2, 0))
        self.rows[-2] = 0
        self.rows[-1] = -torch.inf if value.is_floating_point() else 0

    def windows(self, frame: Frame, padding: float = 0.0) -> Tensor:
        """The windows (K, C, h, w), channels last; `padding` (0 or -inf) beyond the border."""
        outside = self.rows.shape[0] - (1 if padding else 2)
        places = torch.from_numpy(frame.places(outside)).to(self.rows.device)
        flat = self.rows.index_select(0, places)
        return flat.view(len(frame), frame.height, frame.width, -1).permute(0, 3, 1, 2)

    def add_around(self, onto: Tensor, at: Frame, inner: Frame) -> None:
        """Add to the windows `onto` (K, C, h, w), lying at `at`, what was recorded, but not inside of the K `inner`."""
        value = self.rows[:-2].view(1, *self.size, -1).permute(0, 3, 1, 2)
        down, right = inner.rows - at.rows, inner.cols - at.cols
        for k, (r, c, y, x) in enumerate(np.stack([at.rows, at.cols, down, right], 1).tolist()):
            y0, y1 = max(y, 0), min(y + inner.height, at.height)
            x0, x1 = max(x, 0), min(x + inner.width, at.width)
            strips = ((0, y0, 0, at.width), (y1, at.height, 0, at.width), (y0, y1, 0, x0), (y0, y1, x1, at.width))
            for top, low, left, end in strips:
                if top < low and left < end:
                    onto[k : k + 1, :, top:low, left:end] += value[:, :, r + top : r + low, c + left : c + end]


def paste(
    onto: Tensor, at: Frame, patch: Tensor, where: Frame, add: bool = False, every: tuple[int, int] = (1, 1)
) -> None:
    """Write (or `add`) K patches, lying in the same map as the K windows `onto`, into those; not what lies outside.

    `every`: the windows are of the map that has only such rows and columns, from 0, and of the patches only those come.
    """
    if every == (1, 1):
        dy, dx = where.rows - at.rows, where.cols - at.cols
        runs = [0, *(np.flatnonzero((np.diff(dy) != 0) | (np.diff(dx) != 0)) + 1).tolist(), len(dy)]
        if len(runs) <= costs.COPIED_BLOCKS + 1:
            for i, j in itertools.pairwise(runs):
                _paste_alike(onto[i:j], patch[i:j], int(dy[i]), int(dx[i]), add)
            return
    # Where each place of the windows lies in its patch.
    r = every[0] * (at.rows[:, None] + np.arange(at.height)) - where.rows[:, None]
    c = every[1] * (at.cols[:, None] + np.arange(at.width)) - where.cols[:, None]
    inside = ((r >= 0) & (r < where.height))[:, :, None] & ((c >= 0) & (c < where.width))[:, None, :]
    source = (np.arange(len(at))[:, None, None] * where.height + r[:, :, None]) * where.width + c[:, None, :]
    flat = onto.permute(0, 2, 3, 1).view(-1, onto.shape[1])
    rows = patch.permute(0, 2, 3, 1).reshape(-1, patch.shape[1])
    to, used = (torch.from_numpy(n).to(flat.device) for n in (np.flatnonzero(inside), source[inside]))
    if len(used) < len(rows):  # else all come, in the order that they have
        rows = rows.index_select(0, used)
    flat.index_copy_(0, to, rows + flat.index_select(0, to) if add else rows)


def _paste_alike(onto: Tensor, patch: Tensor, dy: int, dx: int, add: bool) -> None:
    height, width = onto.shape[2:]
    h, w = patch.shape[2:]
    y0, y1, x0, x1 = max(dy, 0), min(dy + h, height), max(dx, 0), min(dx + w, width)
    if y1 > y0 and x1 > x0:
        target, source = onto[:, :, y0:y1, x0:x1], patch[:, :, y0 - dy : y1 - dy, x0 - dx : x1 - dx]
        target.add_(source) if add else target.copy_(source)
