"""One change of a picture after the other replayed: as `replay` does with batches, but with nothing left to plan.

A change has one size and so few places in each direction that what every step makes and reads for each of them is known
before: a change is carried on by reading tables. What a call costs besides its arithmetic counts here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from deconvviz.engine.recording import Recording
from deconvviz.engine.replay.prepared import Convolution, Matrix, Rows, adds_up, packs_matrix
from deconvviz.engine.replay.replay import Replay, Spans
from deconvviz.engine.replay.steps import Step
from deconvviz.engine.replay.ways import Around, Convolved, Multiplied, Part, Places, Pooled, Summed, Tables, Way
from deconvviz.engine.rules.pool import MaxPool
from deconvviz.engine.windows import Patch, Windows


class Single:
    """Changes of one `window` (rows, columns) of the recorded picture, one at a time; `keep` must come out.

    `shared` holds what other such replays of the same recording have made ready.
    """

    def __init__(
        self, rec: Recording, keep: tuple[int, ...], window: tuple[int, int], shared: dict[Hashable, Any] | None = None
    ) -> None:
        self.rec, self.keep = rec, keep
        self.shared: dict[Hashable, Any] = {} if shared is None else shared
        replay = Replay(rec, keep, expected=1)
        corners = [np.arange(rec.values[0].shape[2 + axis] - side + 1) for axis, side in enumerate(window)]
        traces = [replay.trace(corners[axis], side, axis) for axis, side in enumerate(window)]
        self.around = Around(rec, self.shared.setdefault("maps", {}))
        self.ways = [self._way(step, traces[0][n], traces[1][n]) for n, step in enumerate(replay.steps)]
        self.free = [tuple(step.free) for step in replay.steps]

    def run(self, patch: Patch, take: Callable[[int, Patch], None]) -> None:
        """Replay the change `patch` of the picture (K = 1); `take` gets every kept value as it comes."""
        at = patch.windows
        assert at is not None
        row, col = int(at.rows[0]), int(at.cols[0])
        live = {0: Part(patch.data, row, col, whole=False)}
        for way, free in zip(self.ways, self.free, strict=True):
            made = way(live, row, col)
            live.update(made)
            for value in made:
                if value in self.keep:
                    take(value, self._patch(value, made[value]))
            for value in free:
                live.pop(value, None)

    def _patch(self, value: int, part: Part) -> Patch:
        """The part as others know it."""
        if part.whole:
            return Patch(part.data, None)
        height, width = self.rec.values[value].shape[2:]
        corner = np.array([part.row]), np.array([part.col])
        return Patch(part.data, Windows(*corner, part.data.shape[2], part.data.shape[3], (height, width)))

    def _way(self, step: Step, down: Spans | None, right: Spans | None) -> Way:
        """How a step is taken, with its tables."""
        tables = None if down is None or right is None else self._tables(step, (down, right))
        op, rule = step.op, step.rule
        key = (step.value, op.index)
        if step.filters is not None:
            convolution = self._once(("filters", *key), lambda: Convolution(step.filters, step.after))  # type: ignore[arg-type]  # not None
            return Convolved(step, tables, self.around, convolution)
        recorded = self.rec.values
        if rule.adds(op) and len({*op.inputs}) == 2 and len({recorded[v].shape for v in (*op.inputs, step.sum)}) == 1:
            return Summed(step, tables, self.around)
        if isinstance(rule, MaxPool) and tables is not None:
            return Pooled(step, tables, self.around)
        if tables is None and adds_up(self.rec, step):
            return Multiplied(step, None, self.around, self._once(("rows", *key), lambda: Rows(self.rec, step)))
        if tables is None and packs_matrix(self.rec, step):
            return Multiplied(step, None, self.around, self._once(("matrix", *key), lambda: Matrix(self.rec, step)))
        return Way(step, tables, self.around)

    def _tables(self, step: Step, spans: tuple[Spans, Spans]) -> Tables:
        """For every place of a change in each direction what the step makes, and what it reads of each input."""
        needs: dict[int, Places] = {}
        for i, value in enumerate(step.op.inputs):
            found = [step.rule.needs(self.rec, step.op, i, span, axis) for axis, span in enumerate(spans)]
            assert found[0] is not None and found[1] is not None  # a rule that says what is reached says what is needed
            needs[value] = (_table(found[0]), _table(found[1]))
            self.around.widen(value, step.rule.padding, needs[value])
        return Tables((_table(spans[0]), _table(spans[1])), needs)

    def _once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self.shared:
            self.shared[key] = make()
        return self.shared[key]


def _table(spans: tuple[Any, Any]) -> list[tuple[int, int]]:
    return list(zip(spans[0].tolist(), spans[1].tolist(), strict=True))
