"""An occluder that is moved by hand: what the network makes of the picture with one window covered, at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deconvviz.analyses.occlusion.cover import Covered, as_result
from deconvviz.analyses.occlusion.sweep import Sweep
from deconvviz.analyses.occlusion.watch import Watch
from deconvviz.engine.passes import plain_mode
from deconvviz.engine.readout import Readout
from deconvviz.engine.recording import Recording
from deconvviz.engine.replay.plain import AsRecorded, OneByOne, quickest
from deconvviz.engine.replay.single import Single
from deconvviz.engine.windows import Patch, RecordedMap
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, check_counts

# Places of a map that is filled part by part: what is prepared pays.
_EXPECTED = 400


@dataclass(frozen=True, eq=False)
class Occluded:
    """What a network makes of a picture with one window covered.

    `origin` is the window's left upper corner (row, column); `logits` (classes,), `probability` that of the occluder's
    `target`, `prediction` the top class; `map` (h, w) the watched map and `activity` its sum, if a layer was given.

    >>> live = deconvviz.record(deconvviz.load("zfnet"), "image.jpg").occluder(window=64)
    >>> there = live.at(80, 80)
    >>> there.origin, there.logits.shape, 0 <= there.probability <= 1
    ((80, 80), torch.Size([101]), True)
    """

    origin: tuple[int, int]
    logits: Tensor
    probability: float
    prediction: int
    activity: float | None
    map: Tensor | None = None


@dataclass(frozen=True, eq=False)
class OccludedGrid:
    """The same for a window at every one of R rows with every one of C columns.

    `logits` (R, C, classes), `probability` (R, C) of the occluder's `target`, `prediction` (R, C) the top class,
    `activity` (R, C) float64 of the watched map, if a layer was given.

    >>> live = deconvviz.record(deconvviz.load("zfnet"), "image.jpg").occluder(window=64)
    >>> live.grid([0, 80], [0, 80, 160]).logits.shape
    torch.Size([2, 3, 101])
    """

    logits: Tensor
    activity: Tensor | None
    target: int

    @property
    def probability(self) -> Tensor:
        """That of the target, (R, C)."""
        return self.logits.softmax(2)[..., self.target]

    @property
    def prediction(self) -> Tensor:
        """The top class, (R, C)."""
        return self.logits.argmax(2)


class Occluder:
    """A window that covers a part of a recorded picture, wherever it is asked for: `Record.occluder` makes it.

    `window` (rows, columns), `size` (H, W) of the picture, `target` the class of `probability`, `baseline` the logits
    (classes,) of the picture itself; with a layer, `unit` is the map that is watched and `baseline_activity` its sum on
    the picture itself. May be asked from several threads.

    >>> live = deconvviz.record(deconvviz.load("zfnet"), "image.jpg").occluder(window=64, layer="conv5")
    >>> live.window, live.size, live.unit is not None
    ((64, 64), (224, 224), True)
    """

    def __init__(
        self,
        rec: Recording,
        readout: Readout,
        target: int,
        covered: Covered,
        watch: Watch | None,
        check: Callable[[], None],
        shared: dict[Hashable, Any],
    ) -> None:
        self.window, self.size, self.target = covered.grid.window, covered.grid.size, target
        self.unit = None if watch is None else watch.unit
        self.baseline_activity = None if watch is None else watch.total
        self._rec, self._readout, self._covered, self._watch, self._check = rec, readout, covered, watch, check
        classes = rec.values[readout.value]
        with plain_mode(classes.device.type):
            self.baseline = as_result(readout.scores(classes)[0].clone())
            self._dense = RecordedMap(classes) if classes.dim() == 4 else None
            kept = (readout.value,) if watch is None else (readout.value, watch.value)
            self._replay = self._quickest(kept, shared)
        self._lock = threading.Lock()
        # For many places at once, made when first asked for.
        self._sweep: Sweep | None = None
        self._sweeping = threading.Lock()

    def _quickest(self, kept: tuple[int, ...], shared: dict[Hashable, Any]) -> OneByOne:
        """By windows or as recorded, whichever answers sooner in the middle of the picture."""
        middle = [(full - side) // 2 for full, side in zip(self.size, self.window, strict=True)]
        ways = Single(self._rec, kept, self.window, shared), AsRecorded(self._rec, kept)
        return quickest(ways, self._covered.one(*middle))

    def __repr__(self) -> str:
        return f"Occluder(window {self.window}, picture {self.size}, target {self.target})"

    def at(self, row: int, col: int) -> Occluded:
        """What the network makes of the picture with the window's left upper corner at `row`, `col`.

        Equal, to rounding, to a forward pass of the covered picture. Raises `DeconvvizTypeError` and
        `DeconvvizValueError` for a place where the window does not fit, or a model that has changed since.

        >>> live = deconvviz.record(deconvviz.load("zfnet"), "image.jpg").occluder()
        >>> live.at(0, 192).logits.shape
        torch.Size([101])
        """
        self._check()
        origin = self._origin(row, col)
        found: dict[int, Patch] = {}
        with self._lock, plain_mode(self.baseline.device.type):
            self._replay.run(self._covered.one(*origin), found.__setitem__)
            value = found[self._readout.value]
            data = value.data if self._dense is None else self._dense.changed(value)
            logits = as_result(self._readout.scores(data)[0].clone())
            watch = self._watch
            activity = None if watch is None else float(watch.activity(found[watch.value])[0])
            shown = None if watch is None else watch.map(found[watch.value])[0]
        probability = logits.double().softmax(0)
        return Occluded(origin, logits, float(probability[self.target]), int(logits.argmax()), activity, shown)

    def grid(
        self, rows: Sequence[int] | NDArray[Any], cols: Sequence[int] | NDArray[Any], batch: int = 64
    ) -> OccludedGrid:
        """What the network makes of the window at every one of `rows` with every one of `cols`, as `occlude` does it.

        What it prepares is kept, so that a large map may be filled part by part. Memory is bounded by `batch` pictures
        at a time. Raises the errors of `at`.

        >>> live = deconvviz.record(deconvviz.load("zfnet"), "image.jpg").occluder(window=64)
        >>> bool((live.grid([80], [80]).logits[0, 0] - live.at(80, 80).logits).abs().max() < 1e-4)
        True
        """
        self._check()
        check_counts(batch=batch)
        lines = [np.asarray(line, dtype=np.int64) for line in (rows, cols)]
        for row in lines[0]:
            self._origin(row, 0)
        for col in lines[1]:
            self._origin(0, col)
        with self._sweeping, plain_mode(self.baseline.device.type):
            if self._sweep is None:
                self._sweep = Sweep(self._rec, self._readout, self._covered, self._watch, _EXPECTED)
            seen = self._sweep.over(lines[0], lines[1], batch, last=False)
        shape = (len(lines[0]), len(lines[1]))
        activity = None if seen.activity is None else seen.activity.view(shape)
        return OccludedGrid(as_result(seen.logits).view(*shape, -1), activity, self.target)

    def forget(self) -> None:
        """Free what `grid` has prepared; it is made again when needed."""
        self._sweep = None

    def _origin(self, row: int, col: int) -> tuple[int, int]:
        last = tuple(full - side for full, side in zip(self.size, self.window, strict=True))
        if any(isinstance(n, bool) or not isinstance(n, int | np.integer) for n in (row, col)):
            raise DeconvvizTypeError(f"row, col is {row!r}, {col!r}; allowed: whole numbers")
        if not (0 <= row <= last[0] and 0 <= col <= last[1]):
            raise DeconvvizValueError(
                f"row, col is {row}, {col}; allowed: 0 to {last[0]} and 0 to {last[1]}, where the window fits"
            )
        return int(row), int(col)
