"""Windows of maps: where they lie (`Windows`), and values that are known on them, backwards and forwards.

A `Signal` on its way back is zero outside of its windows; a `Patch`, the changed part of a value on its way forwards,
is as it was recorded. Both are K versions of one value at once, each on a window of its own; all K are of one size.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deconvviz.engine import costs

Places = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class Windows:
    """Where K equal windows of `height` × `width` lie in a map of `size` (H, W): `rows`, `cols` (K,) of the corners.

    They may reach beyond the border, to negative rows as well. Example: the middle of a map and its left upper corner,
    two places of 3 × 3, are `Windows(np.array([5, 0]), np.array([5, 0]), 3, 3, (13, 13))`.
    """

    rows: Places
    cols: Places
    height: int
    width: int
    size: tuple[int, int]

    @classmethod
    def whole(cls, count: int, size: tuple[int, int]) -> Windows:
        """As many windows that are the whole map."""
        corners = np.zeros(count, np.int64)
        return cls(corners, corners, *size, size)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, which: slice | list[int]) -> Windows:
        """Some of the K windows."""
        return Windows(self.rows[which], self.cols[which], self.height, self.width, self.size)

    def same(self, other: Windows | None) -> bool:
        """Whether they are equal, window by window."""
        alike = other is not None and (self.height, self.width) == (other.height, other.width)
        return alike and bool((self.rows == other.rows).all() and (self.cols == other.cols).all())  # type: ignore[union-attr]  # `alike` has seen to it

    def inside(self) -> Windows:
        """Equal windows within the map that hold all that these show of it; they are no larger than these."""
        (rows, height), (cols, width) = (
            _inside(first, length, full)
            for first, length, full in zip((self.rows, self.cols), (self.height, self.width), self.size, strict=True)
        )
        return Windows(rows, cols, height, width, self.size)

    def joined(self, other: Windows) -> Windows:
        """Equal windows within the map, each around one of these and the one of `other`; all lie within the map."""
        rows, cols = np.minimum(self.rows, other.rows), np.minimum(self.cols, other.cols)
        height = int((np.maximum(self.rows + self.height, other.rows + other.height) - rows).max())
        width = int((np.maximum(self.cols + self.width, other.cols + other.width) - cols).max())
        rows, cols = np.minimum(rows, self.size[0] - height), np.minimum(cols, self.size[1] - width)
        return Windows(rows, cols, height, width, self.size)

    def places(self, beyond: int) -> Places:
        """Places (K · height · width,) in the flattened map; `beyond` where a window leaves the map."""
        full_h, full_w = self.size
        r = self.rows[:, None] + np.arange(self.height)
        c = self.cols[:, None] + np.arange(self.width)
        at = r[:, :, None] * full_w + c[:, None, :]
        if r.min() < 0 or c.min() < 0 or r.max() >= full_h or c.max() >= full_w:
            inside = ((r >= 0) & (r < full_h))[:, :, None] & ((c >= 0) & (c < full_w))[:, None, :]
            at = np.where(inside, at, beyond)
        return at.reshape(-1)

    def cut(self, value: Tensor) -> Tensor:
        """The parts of a map (1, C, H, W) under windows within it, (K, C, height, width).

        `value` may be anything that broadcasts to such a map; so does what is returned to the parts.
        """
        spans = [n == full for n, full in zip((1, 1, *value.shape)[-2:], self.size, strict=True)]
        if not any(spans):
            return value
        value = value.view(*[1] * (4 - value.dim()), *value.shape)
        alike = bool((self.rows == self.rows[0]).all() and (self.cols == self.cols[0]).all())
        parts = []
        for r, c in zip(self.rows.tolist()[: 1 if alike else None], self.cols.tolist(), strict=not alike):
            down = slice(r, r + self.height) if spans[0] else slice(None)
            right = slice(c, c + self.width) if spans[1] else slice(None)
            parts.append(value[:, :, down, right])
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _inside(first: Places, length: int, full: int) -> tuple[Places, int]:
    """Intervals of one length brought inside 0 to `full`, and their length then: at least 1."""
    if first.min() >= 0 and first.max() + length <= full:
        return first, length
    kept = np.minimum(first + length, full) - np.maximum(first, 0)
    length = max(int(kept.max()), 1)
    return np.clip(first, 0, full - length), length


# Backwards ----------------------------------------------------------------------------------------------------------


@dataclass
class Signal:
    """K signals on one recorded value, on their way back.

    On a map (1, C, H, W) `data` is (K, C, h, w), on `windows` within the map and zero outside of them; on any other
    value it is (K, *shape), without windows.
    """

    data: Tensor
    windows: Windows | None = None

    def __len__(self) -> int:
        return len(self.data)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value that the signals are on, with its batch dimension of 1."""
        if self.windows is None:
            return tuple(self.data.shape[1:])
        return (1, self.data.shape[1], *self.windows.size)

    @property
    def at(self) -> Windows:
        """The windows, of signals that have some."""
        assert self.windows is not None
        return self.windows

    def whole(self) -> Tensor:
        """The signals on the whole value, (K, *shape)."""
        if self.windows is None:
            return self.data
        return self.on(Windows.whole(len(self), self.windows.size)).data.unsqueeze(1)

    def like(self, data: Tensor) -> Signal:
        """Other numbers on the same windows."""
        return Signal(data, self.windows)

    def take(self, which: list[int]) -> Signal:
        """Some of the K signals."""
        return Signal(self.data[which], None if self.windows is None else self.windows.take(which))

    def on(self, windows: Windows) -> Signal:
        """The same signals on other windows: what those leave out is cut, where nothing was it is zero."""
        h, w = self.data.shape[2:]
        height, width = windows.height, windows.width
        down, right = windows.rows - self.at.rows, windows.cols - self.at.cols
        if (down == down[0]).all() and (right == right[0]).all():
            dy, dx, data = int(down[0]), int(right[0]), self.data
            if (dy, dx, height, width) != (0, 0, h, w):
                data = F.pad(data, (-dx, dx + width - w, -dy, dy + height - h))
            return Signal(data, windows)
        out = self.data.new_zeros(len(self), self.data.shape[1], height, width)
        for k, (dy, dx) in enumerate(zip(down.tolist(), right.tolist(), strict=True)):
            _write(out[k : k + 1], self.data[k : k + 1], -dy, -dx)
        return Signal(out, windows)

    def inside(self) -> Signal:
        """Windows that overlap the border are brought back inside the map: what fell outside is padding, dropped."""
        return self.on(self.at.inside())

    def __add__(self, other: Signal) -> Signal:
        """Sum of signals on the same value."""
        if self.windows is None or other.windows is None:
            return Signal(self.whole() + other.whole())
        if self.windows.same(other.windows):
            return self.like(self.data + other.data)
        windows = self.windows.joined(other.windows)
        return Signal(self.on(windows).data + other.on(windows).data, windows)


def from_whole(data: Tensor) -> Signal:
    """The signals `data` (K, *shape) on a whole value; those on a map (1, C, H, W) get windows as large as it."""
    if data.dim() == 5 and data.shape[1] == 1:
        return Signal(data[:, 0], Windows.whole(len(data), (data.shape[3], data.shape[4])))
    return Signal(data)


# Forwards again -----------------------------------------------------------------------------------------------------


@dataclass
class Patch:
    """K changed versions of one recorded value, on their way forwards.

    On a map `data` is (K, C, h, w), on `windows` within the map and as recorded outside of them; without windows it is
    the whole value, (K, …) where (1, …) was recorded and (K, *shape) where the shape begins otherwise. `own` says that
    nothing else shares the memory, so that an operator may write in place.
    """

    data: Tensor
    windows: Windows | None
    own: bool = True

    def part(self, which: slice) -> Patch:
        """Some of the K, in the same memory."""
        return Patch(self.data[which], None if self.windows is None else self.windows.take(which), self.own)


class RecordedMap:
    """A recorded map (1, C, H, W) as rows of numbers, one a place, so that windows of it are one `index_select`.

    Two rows more stand for what lies outside: zero and -inf.
    """

    def __init__(self, value: Tensor) -> None:
        _, channels, height, width = value.shape
        self.size = (height, width)
        self.rows = value.new_empty(height * width + 2, channels)
        self.rows[:-2].view(height, width, channels).copy_(value[0].permute(1, 2, 0))
        self.rows[-2] = 0
        self.rows[-1] = -torch.inf if value.is_floating_point() else 0

    def on(self, windows: Windows, padding: float = 0.0) -> Tensor:
        """The map on windows, (K, C, h, w), channels last; `padding` (0 or -inf) beyond the border."""
        outside = self.rows.shape[0] - (1 if padding else 2)
        places = torch.from_numpy(windows.places(outside)).to(self.rows.device)
        flat = self.rows.index_select(0, places)
        return flat.view(len(windows), windows.height, windows.width, -1).permute(0, 3, 1, 2)

    def changed(self, patch: Patch) -> Tensor:
        """K changed versions of the map, whole, (K, C, H, W)."""
        if patch.windows is None:
            return patch.data
        at = Windows.whole(len(patch.data), self.size)
        data = self.on(at)
        paste(data, at, patch.data, patch.windows)
        return data

    def add_around(self, onto: Tensor, at: Windows, inner: Windows) -> None:
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
    onto: Tensor, at: Windows, patch: Tensor, where: Windows, add: bool = False, every: tuple[int, int] = (1, 1)
) -> None:
    """Write (or `add`) K patches, lying in the same map as the K windows `onto`, into those; not what lies outside.

    `every`: the windows are of the map that has only such rows and columns, from 0, and of the patches only those come.
    """
    if every == (1, 1):
        dy, dx = where.rows - at.rows, where.cols - at.cols
        runs = [0, *(np.flatnonzero((np.diff(dy) != 0) | (np.diff(dx) != 0)) + 1).tolist(), len(dy)]
        if len(runs) <= costs.COPIED_BLOCKS + 1:
            for i, j in itertools.pairwise(runs):
                _write(onto[i:j], patch[i:j], int(dy[i]), int(dx[i]), add)
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


def _write(onto: Tensor, patch: Tensor, dy: int, dx: int, add: bool = False) -> None:
    """Write (or `add`) patches into windows in which they begin at row `dy` and column `dx`; not what lies outside."""
    height, width = onto.shape[2:]
    h, w = patch.shape[2:]
    y0, y1, x0, x1 = max(dy, 0), min(dy + h, height), max(dx, 0), min(dx + w, width)
    if y1 > y0 and x1 > x0:
        target, source = onto[:, :, y0:y1, x0:x1], patch[:, :, y0 - dy : y1 - dy, x0 - dx : x1 - dx]
        target.add_(source) if add else target.copy_(source)
