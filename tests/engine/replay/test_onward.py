"""What follows from a changed value, against plain passes with a hook, on networks with skips, branches, in-place."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from deconvviz.engine.recorder import record
from deconvviz.engine.replay.onward import onward


class Skips(nn.Module):
    """The changed value is read by a branch, by a skip around it, and in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer = nn.Conv2d(2, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.branch, self.pool = nn.Conv2d(4, 4, 1), nn.MaxPool2d(2)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.layer(x)
        z = self.branch(y)
        y = self.relu(y)
        y += x  # the skip around the layer; written in place
        y = torch.cat([y[:, :2], z.sigmoid()[:, 2:] * y[:, 2:]], 1)
        return self.fc(self.pool(y).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("unit", [0, 3])
@pytest.mark.parametrize("path", ["stem", "layer", "branch", "relu", "pool"])
def test_a_map_set_to_zero_as_a_hook_would(path: str, unit: int) -> None:
    torch.manual_seed(0)
    net = Skips().double().eval()
    x = torch.randn(1, 2, 10, 9, dtype=torch.float64)
    rec = record(net, x)
    value, end = rec.calls[path][-1], rec.output
    assert value is not None and end is not None
    data = rec.values[value].clone()
    data[:, unit] = 0
    before = [v.clone() for v in rec.values]
    found = onward(rec, value, data, end)

    other = copy.deepcopy(net)

    def without(module: nn.Module, given: object, out: Tensor) -> Tensor:
        out = out.clone()
        out[:, unit] = 0
        return out

    other.get_submodule(path).register_forward_hook(without)
    with torch.no_grad():
        torch.testing.assert_close(found, other(x), rtol=1e-12, atol=1e-12)
        read = path != "branch" or unit > 1  # of the branch's maps the last two
        assert found.allclose(net(x)) != read
    assert all(a.equal(b) for a, b in zip(before, rec.values, strict=True))  # the recording is as it was


def test_a_value_that_leads_nowhere() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.idle, self.fc = nn.ReLU(), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            self.idle(x)
            return self.fc(x)  # type: ignore[no-any-return]

    rec = record(Idle().eval(), torch.rand(1, 3))
    value, end = rec.calls["idle"][-1], rec.output
    assert value is not None and end is not None
    assert onward(rec, value, torch.zeros(1, 3), end).equal(rec.values[end])
