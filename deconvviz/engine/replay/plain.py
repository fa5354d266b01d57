"""A changed picture run again by the recorded operators as they are; and which way to replay is quicker here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from deconvviz.engine.recording import Recording
from deconvviz.engine.rules.base import laid_out
from deconvviz.engine.windows import Patch

_TURNS = 4


class OneByOne(Protocol):
    """Replays one change of the picture after the other."""

    def run(self, patch: Patch, take: Callable[[int, Patch], None]) -> None:
        """Replay the change `patch` (K = 1); `take` gets every kept value as it comes."""


class AsRecorded:
    """Every operator that leads to the values `keep` once more, whole: what the network itself would do.

    Where nothing is saved by windows (small networks, gates from the whole map, an accelerator that waits for calls)
    this is the quickest.
    """

    def __init__(self, rec: Recording, keep: tuple[int, ...]) -> None:
        self.rec, self.keep, self.ops = rec, keep, rec.ancestors(keep)
        last = {value: op.index for op in self.ops for value in (*op.inputs, *op.outputs) if value is not None}
        self.free: dict[int, list[int]] = {}
        for value, index in last.items():
            self.free.setdefault(index, []).append(value)

    def run(self, patch: Patch, take: Callable[[int, Patch], None]) -> None:
        """Replay the change `patch` of the picture (K = 1); `take` gets every kept value as it comes."""
        at = patch.windows
        assert at is not None
        image = self.rec.values[0].clone()
        row, col = int(at.rows[0]), int(at.cols[0])
        image[:, :, row : row + at.height, col : col + at.width] = patch.data
        live: dict[int, Tensor] = {0: image}
        for op in self.ops:
            if op.in_place:  # what is written to may be read again as it was, also through a view of it
                live[op.inputs[0]] = laid_out(live[op.inputs[0]], live[op.inputs[0]])
            out = self.rec.run(op, live)
            for value, data in zip(op.outputs, out if isinstance(out, tuple | list) else (out,), strict=False):
                if value is not None:
                    live[value] = data
                    if value in self.keep:
                        take(value, Patch(data, None))
            for value in self.free.get(op.index, ()):
                live.pop(value, None)


def quickest(ways: Sequence[OneByOne], patch: Patch) -> OneByOne:
    """The way that replays a change in the least time: each is tried, after a first time that makes it ready.

    They take turns, so that what else the machine does meanwhile slows each of them now and then, and none always.
    """
    best = [float("inf")] * len(ways)
    for turn in range(1 + _TURNS):
        for n, way in enumerate(ways):
            start = time.perf_counter()
            way.run(patch, lambda *_: None)
            if patch.data.is_cuda:
                torch.cuda.synchronize(patch.data.device)
            if turn:
                best[n] = min(best[n], time.perf_counter() - start)
    return ways[best.index(min(best))]
