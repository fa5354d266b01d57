"""A schedule carried out: every change replayed, batch by batch on windows, then merged on whole maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from deconvviz.engine.replay.replay import Replay
from deconvviz.engine.replay.schedule import Batch, Schedule, capacity
from deconvviz.engine.windows import Patch, Places

Live = dict[int, Patch]
First = Callable[[Places], Patch]
Take = Callable[[Places, int, Patch], None]


def run(schedule: Schedule, first: First, take: Take, last: bool = True) -> Iterator[int]:
    """Replay all changes; `first` makes the changed windows of the picture for some of them (K,).

    `take` gets the numbers of changes and every kept value of theirs as it comes. Behind the `last` run of a replay
    no other will use what it has prepared. Yields how many have come to whole maps.
    """
    replay = schedule.replay
    tail = WholeMaps.of(schedule, range(schedule.tail, len(replay.steps)), take)
    maps = WholeMaps.of(schedule, range(schedule.merge, schedule.tail), take, tail)
    done = 0
    for index, live in _on_windows(schedule, schedule.tree, None, first, take):
        maps.add(index, live)
        done += len(index)
        yield done
    if last:
        replay.forget(range(schedule.merge))
    maps.flush(last)
    tail.flush(last)


def _on_windows(
    schedule: Schedule, batch: Batch, live: Live | None, first: First, take: Take
) -> Iterator[tuple[Places, Live]]:
    """Run a batch and its parts; gives those that are not split again, with what is live at their end."""
    if live is None and (batch.start < batch.stop or not batch.parts):
        live = {0: first(batch.index)}
    if live is not None:
        steps = range(batch.start, batch.stop)
        schedule.replay.run(live, steps, partial(take, batch.index), partial(schedule.reach, batch.index))
    if not batch.parts:
        assert live is not None
        yield batch.index, live
    begin = 0
    for part in batch.parts:
        here = slice(begin, begin + len(part))
        of_part = None if live is None else {value: patch.part(here) for value, patch in live.items()}
        yield from _on_windows(schedule, part, of_part, first, take)
        begin = here.stop


@dataclass
class WholeMaps:
    """Changes that wait until `most` can take `steps` together on whole maps; from there they go on to `then`."""

    replay: Replay
    steps: range
    most: int
    take: Take
    then: WholeMaps | None = None
    waiting: list[tuple[Places, Live]] = field(default_factory=list)

    @classmethod
    def of(cls, schedule: Schedule, steps: range, take: Take, then: WholeMaps | None = None) -> WholeMaps:
        """As many at once as every step can take, in batches of about one size."""
        most = int(capacity(schedule.replay, schedule.most)[steps.start : steps.stop].min(initial=schedule.count))
        return cls(schedule.replay, steps, -(-schedule.count // -(-schedule.count // most)), take, then)

    def add(self, index: Places, live: Live) -> None:
        """Let changes wait here; those before them go first if there are too many."""
        if sum(len(i) for i, _ in self.waiting) + len(index) > self.most:
            self.flush()
        for begin in range(0, len(index), self.most):
            some = slice(begin, begin + self.most)
            part = {value: patch.part(some) for value, patch in live.items()}
            maps = {value: Patch(self.replay.spread(value, part), None) for value in list(part)}
            self.waiting.append((index[some], maps))
            if begin + self.most < len(index):
                self.flush()

    def flush(self, last: bool = False) -> None:
        """All that wait take their steps; behind the `last` no more will come."""
        if not self.waiting:
            return
        index = np.concatenate([i for i, _ in self.waiting])
        states = [live for _, live in self.waiting]
        self.waiting.clear()
        live = {value: Patch(torch.cat([s[value].data for s in states]), None) for value in states[0]}
        del states
        self.replay.run(live, self.steps, partial(self.take, index), last=last)
        if self.then is not None:
            self.then.add(index, live)
