"""Many places of an occluder at once, and part by part: what `at` and `occlude` say; the map that is watched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import deconvviz


@pytest.fixture
def module() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4),
    ).double().eval().requires_grad_(False)  # fmt: skip


IMAGE = torch.randn(1, 2, 20, 17, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def covered(row: int, col: int) -> Tensor:
    x = IMAGE.clone()
    x[:, :, row : row + 4, col : col + 5] = 0
    return x


@pytest.mark.parametrize("layer", [None, "4", "8"])
def test_a_grid_in_any_parts_is_the_network_on_every_covered_picture(module: nn.Sequential, layer: str | None) -> None:
    live = deconvviz.record(module, IMAGE).occluder((4, 5), layer=layer, target=2)
    for rows, cols in (([0, 3, 16], [0, 5, 12]), ([7], [1, 2, 3, 4]), ([2, 9], [12]), ([0], [0])):
        found = live.grid(rows, cols, batch=3)
        assert found.logits.shape == (len(rows), len(cols), 4)
        for i, row in enumerate(rows):
            for j, col in enumerate(cols):
                wanted = module(covered(row, col))[0]
                assert torch.allclose(found.logits[i, j], wanted, atol=1e-10)
                assert float(found.probability[i, j]) == pytest.approx(float(wanted.softmax(0)[2]), abs=1e-10)
                assert int(found.prediction[i, j]) == int(wanted.argmax())
                there = live.at(row, col)
                assert torch.allclose(there.logits, wanted, atol=1e-10)
                if layer is None:
                    assert found.activity is there.activity is there.map is None
                    continue
                assert live.unit is not None and found.activity is not None and there.map is not None
                values = module[: int(layer) + 1](covered(row, col))[0, live.unit]
                assert float(found.activity[i, j]) == pytest.approx(float(values.sum()), abs=1e-9)
                assert torch.allclose(there.map, values.reshape(there.map.shape), atol=1e-10)


@pytest.mark.parametrize(("rows", "cols"), [([17], [0]), ([0], [13]), ([-1], [0])])
def test_places_where_the_window_does_not_fit_are_refused(
    module: nn.Sequential, rows: list[int], cols: list[int]
) -> None:
    live = deconvviz.record(module, IMAGE).occluder((4, 5))
    with pytest.raises(deconvviz.DeconvvizValueError, match="where the window fits"):
        live.grid(rows, cols)
    with pytest.raises(deconvviz.DeconvvizValueError, match="batch"):
        live.grid([0], [0], batch=0)


@pytest.mark.parametrize("target", [None, 1, 3])
def test_contributions_are_activation_times_derivative(module: nn.Sequential, target: int | None) -> None:
    rec = deconvviz.record(module, IMAGE)
    maps = module[:5](IMAGE).requires_grad_()
    logits = module[5:](maps)[0]
    (gradient,) = torch.autograd.grad(logits[int(logits.argmax()) if target is None else target], maps)
    wanted = (maps.detach() * gradient)[0].sum((1, 2))
    found = rec.contributions("4", target)
    assert torch.allclose(found, wanted.float(), atol=1e-6)
    order = rec.project("4", "class", target=target, top=8).units
    assert order.tolist() == torch.sort(found, descending=True, stable=True).indices.tolist()


def test_a_recording_knows_its_memory_and_whether_it_is_current(module: nn.Sequential) -> None:
    rec = deconvviz.record(module, IMAGE)
    assert rec.nbytes >= IMAGE.nbytes + 2 * 6 * 20 * 17 * 8 and rec.current
    module[8].bias.add_(1)
    assert not rec.current
