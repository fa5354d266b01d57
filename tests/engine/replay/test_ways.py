"""Windows of a changed map, wherever they lie: as recorded around the change, padding beyond the border."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deconvviz.engine.recorder import record
from deconvviz.engine.replay.single import Single
from deconvviz.engine.replay.ways import Around, Convolved, Part
from deconvviz.engine.windows import Patch, Windows

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("padding", [0.0, -torch.inf])
def test_windows_of_a_changed_map(padding: float) -> None:
    x = torch.randn(1, 3, 9, 11)
    around, chance = Around(record(nn.Identity(), x), {}), random.Random(0)
    around.widen(0, padding, ([(-2, 4), (5, 12)], [(-1, 4), (7, 13)]))
    for _ in range(60):
        h, w = chance.randint(1, 9), chance.randint(1, 11)
        part = Part(torch.randn(1, 3, h, w), chance.randint(0, 9 - h), chance.randint(0, 11 - w), whole=False)
        changed = x.clone()
        changed[:, :, part.row : part.row + h, part.col : part.col + w] = part.data
        top, left = chance.randint(-2, 8), chance.randint(-1, 10)
        rows, cols = (top, chance.randint(max(top, 0) + 1, 12)), (left, chance.randint(max(left, 0) + 1, 13))
        want = F.pad(changed, (1, 2, 2, 3), value=padding)[:, :, top + 2 : rows[1] + 2, left + 1 : cols[1] + 1]
        before = part.data.clone()
        assert torch.equal(around.window(0, part, rows, cols, padding), want)
        assert torch.equal(part.data, before)
        live = {0: part}
        assert torch.equal(around.whole(0, live), changed) and live[0].whole
    assert torch.equal(around.recorded(0, (0, 9), (0, 11), padding), x)  # no window has written to what was recorded


def test_each_way_of_a_convolution_is_taken_and_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """By differences, on a window, on the whole map: what the price says, and the same."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=2)).double().eval()
    x = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    rec = record(net, x)
    assert rec.output is not None
    taken: list[str] = []
    for way in ("on_window", "on_whole", "by_differences"):
        plain = getattr(Convolved, way)
        monkeypatch.setattr(Convolved, way, lambda *a, w=way, f=plain: (taken.append(w), f(*a))[1])
    for costs, expected in (
        ({"GATHER": 0.0}, "by_differences"),
        ({"GATHER": 0.0, "DIFFERENCE": 1e9}, "on_window"),
        ({"GATHER": 1e12}, "on_whole"),
    ):
        for name, value in ({"DIFFERENCE": 1.14} | costs).items():
            monkeypatch.setattr(f"deconvviz.engine.costs.{name}", value)
        single = Single(rec, (rec.output,), (4, 4))
        taken.clear()
        for row, col in ((0, 0), (5, 7), (12, 12)):
            y = x.clone()
            y[:, :, row : row + 4, col : col + 4] = 1
            patch = Patch(torch.ones(1, 3, 4, 4, dtype=x.dtype), None)
            patch.windows = Windows(*torch.tensor([[row], [col]]).numpy(), 4, 4, (16, 16))
            found: dict[int, Patch] = {}
            with torch.no_grad():
                single.run(patch, found.__setitem__)
                got = found[rec.output]
                made = single.around.whole(rec.output, {rec.output: _part(got)})
                torch.testing.assert_close(made, net(y))
        assert set(taken) == {expected}


def _part(patch: Patch) -> Part:
    if patch.windows is None:
        return Part(patch.data)
    return Part(patch.data, int(patch.windows.rows[0]), int(patch.windows.cols[0]), whole=False)
