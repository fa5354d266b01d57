"""Many places of an occluder at once: every one of some rows with every one of some columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvviz.analyses.occlusion.cover import Covered
from deconvviz.analyses.occlusion.watch import Watch
from deconvviz.engine.readout import Readout
from deconvviz.engine.recording import Recording
from deconvviz.engine.replay.replay import Replay
from deconvviz.engine.replay.run import run as replay_all
from deconvviz.engine.replay.schedule import Schedule
from deconvviz.engine.windows import Patch, RecordedMap
from deconvviz.progress import Report

Lines = NDArray[np.int64]


@dataclass
class Seen:
    """What came out at P places in raster order: `logits` (P, classes), `activity` (P,) float64 of the watched map."""

    logits: Tensor
    activity: Tensor | None


class Sweep:
    """An occluder over one recording; `expected`, about how many places there will be in all, says what is prepared."""

    def __init__(
        self, rec: Recording, readout: Readout, covered: Covered, watched: Watch | None, expected: int
    ) -> None:
        self._classes = rec.values[readout.value]
        self._readout, self._covered, self._watched = readout, covered, watched
        kept = (readout.value,) if watched is None else (readout.value, watched.value)
        self._replay = Replay(rec, kept, expected=expected)
        self._dense = RecordedMap(self._classes) if self._classes.dim() == 4 else None
        self._count = 0

    def over(self, rows: Lines, cols: Lines, batch: int, progress: Report | None = None, last: bool = True) -> Seen:
        """What is seen with the window's left upper corner at every one of `rows` (R,) with every one of `cols` (C,).

        Unless it is the `last` time, what was prepared is kept for the next.
        """
        places = np.stack([line.ravel() for line in np.meshgrid(rows, cols, indexing="ij")], 1)
        watched, count = self._watched, len(places)
        logits = self._classes.new_empty(count, self._classes.shape[1])
        activity = torch.empty(count, dtype=torch.float64) if watched is not None else None

        def take(part: NDArray[np.int64], value: int, patch: Patch) -> None:
            if watched is not None and activity is not None and value == watched.value:
                activity[part] = watched.activity(patch).cpu()
            if value == self._readout.value:
                data = patch.data if self._dense is None else self._dense.changed(patch)
                logits[part] = self._readout.scores(data)

        schedule = Schedule(self._replay, rows, cols, self._covered.grid.window, batch)
        for done in replay_all(schedule, lambda k: self._covered.at(places[k]), take, last):
            if progress is not None:
                progress(done, count)
        self._count += count
        return Seen(logits, activity)

    @property
    def arithmetic(self) -> float:
        """The share of the filters' arithmetic of as many whole passes that was left to do."""
        return self._replay.done / max(self._replay.whole_work() * self._count, 1)
