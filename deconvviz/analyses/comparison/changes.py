"""Pictures in which some cells are changed, any cells, and what the network makes of them: by incremental replay.

A picture of a set of cells is a change of the recorded one within the smallest window around them. Changes of about one
size go together, so that few and narrow ones (the first steps along a compact map, all of them in a unit's receptive
field) cost little; wide ones go by whole maps, with norms folded in and filters made ready.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deconvviz.analyses.comparison.question import Question
from deconvviz.engine.passes import plain_mode
from deconvviz.engine.replay.replay import Reach, Replay
from deconvviz.engine.replay.schedule import capacity
from deconvviz.engine.windows import Patch, Windows


@dataclass(frozen=True)
class Grid:
    """Cells of `side` × `side` pixels over a `box` (top, left, bottom, right) of a picture, the last ones cut."""

    box: tuple[int, int, int, int]
    side: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        top, left, bottom, right = self.box
        return -(-(bottom - top) // self.side), -(-(right - left) // self.side)

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1]

    def cut(self, pixels: Tensor) -> Tensor:
        """The part of pixels (..., H, W) in the box."""
        top, left, bottom, right = self.box
        return pixels[..., top:bottom, left:right]

    def sums(self, pixels: Tensor) -> Tensor:
        """The sum of pixels (H, W) over each cell, (n,) in raster order."""
        found = self.cut(pixels).double()
        rows, cols = (n * self.side for n in self.shape)
        found = F.pad(found, (0, cols - found.shape[1], 0, rows - found.shape[0]))
        return found.view(self.shape[0], self.side, self.shape[1], self.side).sum((1, 3)).flatten()

    def means(self, pixels: Tensor) -> Tensor:
        """The mean of pixels (H, W) over each cell, (n,)."""
        return self.sums(pixels) / self.sums(torch.ones_like(pixels))


@dataclass(frozen=True)
class Changes:
    """K sets of cells of a grid: the first `counts` (K,) in the order `ranks[which]` gives; `which` (K,) say whose.

    `ranks` (R, n) are the cells' numbers in each of R orders.
    """

    grid: Grid
    ranks: NDArray[np.int64]
    which: NDArray[np.int64]
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.counts)

    def mask(self, k: int) -> NDArray[np.bool_]:
        """Which pixels of the box are changed in picture k."""
        top, left, bottom, right = self.grid.box
        cells = (self.ranks[self.which[k]] < self.counts[k]).reshape(self.grid.shape)
        side = self.grid.side
        found: NDArray[np.bool_] = cells.repeat(side, 0).repeat(side, 1)[: bottom - top, : right - left]
        return found

    def window(self, k: int) -> tuple[int, int, int, int]:
        """The smallest window around what is changed in picture k, in the picture: top, left, height, width."""
        mask = self.mask(k)
        top, left = self.grid.box[:2]
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return top, left, 1, 1
        return top + int(rows[0]), left + int(cols[0]), int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1


def answers(
    question: Question, changes: Changes, fill: Tensor, batch: int = 64, add: Callable[[int], object] | None = None
) -> Tensor:
    """What `Question.answers` says of each of the K pictures, in which the changed cells show `fill` (C, H, W).

    Equal, to rounding, to passes of the changed pictures. Memory is bounded by `batch` pictures at a time. `add` is
    called with how many more are done.
    """
    replay = Replay(question.rec, (question.value,), expected=len(changes))
    most = max(1, int(capacity(replay, batch).min(initial=batch)))
    windows = np.array([changes.window(k) for k in range(len(changes))])
    order = np.argsort(windows[:, 2] * windows[:, 3], kind="stable")
    found: list[Tensor] = [torch.empty(0)] * len(changes)
    with plain_mode(fill.device.type):
        for begin in range(0, len(order), most):
            part = order[begin : begin + most]
            for k, row in zip(part, _replayed(question, replay, changes, part, windows[part], fill), strict=True):
                found[k] = row
            if add is not None:
                add(len(part))
    return torch.stack(found)


def _replayed(
    question: Question, replay: Replay, changes: Changes, part: NDArray[np.int64], windows: NDArray[np.int64],
    fill: Tensor,
) -> Tensor:  # fmt: skip
    """The answers to the changes `part`, all on windows of one size."""
    size = (question.image.shape[2], question.image.shape[3])
    height, width = int(windows[:, 2].max()), int(windows[:, 3].max())
    # A window larger than its own change moves inside, where it computes recorded values again.
    at = Windows(
        np.minimum(windows[:, 0], size[0] - height), np.minimum(windows[:, 1], size[1] - width), height, width, size
    )
    data = torch.stack(
        [_changed(question.image[0], fill, changes, k, *place) for k, place in zip(part, _places(at), strict=True)]
    )
    whole = (height, width) == size
    patch = Patch(data.contiguous(memory_format=torch.channels_last), None if whole else at)
    traces = None if whole else (replay.trace(at.rows, height, 0), replay.trace(at.cols, width, 1))
    found: list[Tensor] = []

    def reach(n: int) -> Reach | None:
        down, right = (None, None) if traces is None else (traces[0][n], traces[1][n])
        return None if down is None or right is None else (down, right)

    replay.run({0: patch}, range(len(replay.steps)), lambda _, kept: found.append(question.answers(kept)), reach)
    return found[-1]


def _places(at: Windows) -> Sequence[tuple[int, int, int, int]]:
    return [(int(r), int(c), at.height, at.width) for r, c in zip(at.rows, at.cols, strict=True)]


def _changed(x: Tensor, fill: Tensor, changes: Changes, k: int, top: int, left: int, height: int, width: int) -> Tensor:
    """A window of picture k, (C, height, width)."""
    where = torch.zeros(x.shape[1:], dtype=torch.bool)
    box = changes.grid.box
    where[box[0] : box[2], box[1] : box[3]] = torch.from_numpy(changes.mask(k))
    down, right = slice(top, top + height), slice(left, left + width)
    return torch.where(where[down, right].to(x.device), fill[:, down, right], x[:, down, right])
