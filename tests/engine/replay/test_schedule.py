"""Which changes go together: every change once, none too many at once, and no more work than apart or together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from deconvviz.engine.recorder import record
from deconvviz.engine.replay.replay import Replay
from deconvviz.engine.replay.run import run
from deconvviz.engine.replay.schedule import Batch, Schedule, lengths
from deconvviz.engine.windows import Patch, Windows


def net(maps: int = 4) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, maps, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(maps, maps, 5, padding=2)]
    return nn.Sequential(*layers, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(maps * 36, 3)).eval()


def grid(module: nn.Module, rows: list[int], cols: list[int], window: tuple[int, int], most: int) -> Schedule:
    with torch.no_grad():
        rec = record(module, torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(1)))
        assert rec.output is not None
        return Schedule(Replay(rec, (rec.output,)), np.array(rows), np.array(cols), window, most)


def batches(batch: Batch) -> Iterator[Batch]:
    yield batch
    for part in batch.parts:
        yield from batches(part)


LINES = [([0, 5, 10, 15], [0, 3, 6, 9, 12, 15]), ([0], list(range(20))), (list(range(20)), [7]), ([3], [4])]


@pytest.mark.parametrize("most", [1, 2, 5, 100])
@pytest.mark.parametrize("lines", LINES)
def test_every_change_once_and_never_too_many(lines: tuple[list[int], list[int]], most: int) -> None:
    changes = grid(net(), *lines, (5, 5), most)
    count = len(lines[0]) * len(lines[1])
    assert sorted(changes.tree.index.tolist()) == list(range(count))
    for batch in batches(changes.tree):
        if batch.parts:
            # In the order of the parts, which begin where the branch ends: they are slices of it.
            assert np.array_equal(batch.index, np.concatenate([part.index for part in batch.parts]))
            assert {part.start for part in batch.parts} == {batch.stop}
        else:
            assert batch.stop == changes.merge
        assert len(batch.index) <= most or batch.start == batch.stop


@pytest.mark.parametrize("window", [(5, 5), (24, 24), (1, 24)])
@pytest.mark.parametrize("most", [1, 3, 100])
def test_run_gives_every_change_once(window: tuple[int, int], most: int) -> None:
    """Whole pictures as windows come out right too, and never more than `most` of them at once."""
    module = net()
    rows, cols = ([0, 24 - w] if w < 24 else [0] for w in window)
    changes = grid(module, rows, cols, window, most)
    count, sizes = len(rows) * len(cols), []
    want = {}

    def first(index: np.ndarray) -> Patch:
        sizes.append(len(index))
        places = [(rows[n // len(cols)], cols[n % len(cols)]) for n in index.tolist()]
        frame = Windows(np.array([p[0] for p in places]), np.array([p[1] for p in places]), *window, (24, 24))
        return Patch(torch.zeros(len(index), 1, *window), frame)

    def take(index: np.ndarray, value: int, patch: Patch) -> None:
        want.update(zip(index.tolist(), patch.data, strict=True))

    with torch.no_grad():
        steps = list(run(changes, first, take))
    assert steps[-1] == count and sorted(want) == list(range(count)) and max(sizes) <= most
    x = torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(1))
    for n, logits in want.items():
        top, left = rows[n // len(cols)], cols[n % len(cols)]
        changed = x.clone()
        changed[:, :, top : top + window[0], left : left + window[1]] = 0
        torch.testing.assert_close(module(changed)[0], logits, rtol=1e-4, atol=1e-5)


def sizes_of(changes: Schedule) -> list[np.ndarray]:
    """How many rows and columns each step multiplies for every change (changes, steps)."""
    steps, index = changes.replay.steps[: changes.merge], np.arange(changes.count)
    known = [rows is not None and cols is not None for rows, cols in zip(*changes.traces, strict=True)]
    counts, which = (changes.count // changes.width, changes.width), (index // changes.width, index % changes.width)
    maps = [changes.replay.rec.values[step.value].shape for step in steps]
    return [lengths(steps, maps, t, known, n)[w] for t, n, w in zip(changes.traces, counts, which, strict=True)]


def test_parting_saves_work_where_steps_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without overhead every size goes alone: the work is the least there is. With a huge one all go together."""
    lines = ([0, 1, 9, 19], [0, 2, 10, 19])
    monkeypatch.setattr("deconvviz.engine.costs.WEIGHT", 0.0)
    monkeypatch.setattr("deconvviz.engine.costs.SPREAD", 1e12)

    def work(step_cost: float) -> tuple[float, int]:
        monkeypatch.setattr("deconvviz.engine.costs.STEP", step_cost)
        changes = grid(net(), *lines, (5, 5), 100)
        total, (rows, cols) = 0.0, sizes_of(changes)
        for batch in batches(changes.tree):
            areas = rows[batch.index].max(0) * cols[batch.index].max(0) * len(batch.index)
            total += sum(changes.replay.steps[n].cost * float(areas[n]) for n in range(batch.start, batch.stop))
        return total, len(list(batches(changes.tree)))

    changes = grid(net(), *lines, (5, 5), 100)
    rows, cols = sizes_of(changes)
    costs = [step.cost for step in changes.replay.steps[: changes.merge]]
    least = float((rows * cols * costs).sum())
    apart, together = work(0.0), work(1e12)
    assert together[1] == 1 and apart[1] > 1
    assert apart[0] == pytest.approx(least)
    assert apart[0] < together[0]
