"""Which way is the quickest is measured; running as recorded is exactly the network's own pass."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from deconvviz.engine.recorder import record
from deconvviz.engine.replay.plain import AsRecorded, quickest
from deconvviz.engine.windows import Patch, Windows


def patch() -> Patch:
    return Patch(torch.ones(1, 3, 4, 4), Windows(np.array([2]), np.array([5]), 4, 4, (12, 12)))


class Sleeps:
    def __init__(self, seconds: list[float]) -> None:
        self.seconds = seconds

    def run(self, patch: Patch, take: Callable[[int, Patch], None]) -> None:
        time.sleep(self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0])


def test_neither_the_first_time_nor_a_slow_one_counts() -> None:
    slow, quick = Sleeps([0.0, 0.05]), Sleeps([0.1, 0.06, 0.001])
    assert quickest([slow, quick], patch()) is quick


def test_as_recorded_is_the_networks_own_pass_and_writes_to_nothing() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x + 1
            view = y[:, :1]
            kept = view * 2
            view.relu_()
            return torch.cat([y, kept, torch.relu_(kept + 0)], 1)

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), Twice()).eval()
    x = torch.randn(1, 3, 12, 12)
    rec = record(net, x)
    assert rec.output is not None
    before = [value.clone() for value in rec.values]
    found: dict[int, Patch] = {}
    changed = x.clone()
    changed[:, :, 2:6, 5:9] = 1
    with torch.no_grad():
        AsRecorded(rec, (rec.output,)).run(patch(), found.__setitem__)
        assert torch.equal(found[rec.output].data, net(changed))
    assert all(torch.equal(a, b) for a, b in zip(before, rec.values, strict=True))
