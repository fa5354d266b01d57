"""Layers' values in plain passes of batches: found where the recording says, whatever the picture was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvviz.engine.capture import MisfitError, TappedModel, find_taps
from deconvviz.engine.layers import find_layer
from deconvviz.engine.recorder import record


class Functional(nn.Module):
    """Two ReLUs of one shape that no module returns, and a normalisation whose operator has several results."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.register_buffer("mean", torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x), inplace=True)
        return F.batch_norm(self.conv3(x), self.mean, torch.ones(3)) + 0  # type: ignore[arg-type]


ALIASES = {"1": "conv1", "2": "conv2", "3": "conv3"}


def by_hand(m: Functional, x: Tensor) -> dict[str, Tensor]:
    one = m.conv1(x).clamp(min=0)
    two = m.conv2(one).clamp(min=0)
    return {"1": one, "2": two, "3": (m.conv3(two) - m.mean[:, None, None]) / (1 + 1e-5) ** 0.5}  # type: ignore[index]


@pytest.mark.parametrize("copied", [True, False])
def test_a_picture_on_which_layers_are_equal_does_not_mix_them_up(copied: bool) -> None:
    model = Functional().eval().requires_grad_(False)
    assert model.conv1.bias is not None and model.conv2.bias is not None
    model.conv1.bias.zero_()
    model.conv2.bias.fill_(-0.01)
    dark = torch.zeros(1, 3, 4, 5)  # both ReLUs give nothing but zeros
    rec = record(model, dark)
    values = [find_layer(rec, model, name, ALIASES).value for name in ALIASES]
    assert rec.values[values[0]].equal(rec.values[values[1]])
    pictures, found = torch.randn(4, 3, 4, 5), {}
    probe = TappedModel(model, find_taps(rec, values), copied)
    probe.run(pictures, lambda n, value: found.setdefault(list(ALIASES)[n], value.clone()))
    for name, expected in by_hand(model, pictures).items():
        torch.testing.assert_close(found[name], expected)


class Sized(nn.Module):
    """Runs other operators for a batch than for one picture, before a ReLU that no module returns."""

    def __init__(self, inner: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.inner = nn.Conv2d(3, 3, 1), inner

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(self.inner(x) if len(x) > 1 else x)) + 1


@pytest.mark.parametrize(
    "inner", [lambda x: x * 2, lambda x: F.relu(x), lambda x: x.contiguous(memory_format=torch.channels_last)]
)
def test_a_batch_that_runs_something_else_is_told_apart(inner: Callable[[Tensor], Tensor]) -> None:
    model = Sized(inner).eval()
    rec = record(model, torch.randn(1, 3, 4, 4))
    taps = find_taps(rec, [find_layer(rec, model, "1", {"1": "conv"}).value])
    with pytest.raises(MisfitError, match="a batch runs '.*' where one picture runs 'convolution'"):
        TappedModel(model, taps).run(torch.randn(2, 3, 4, 4), lambda number, value: None)


def test_a_module_that_does_not_run_for_a_batch_is_told() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return x if len(x) > 1 else self.last(x)  # type: ignore[no-any-return]

    model = Skips().eval()
    rec = record(model, torch.randn(1, 3, 4, 4))
    taps = find_taps(rec, [find_layer(rec, model, "last", {}).value])
    with pytest.raises(MisfitError, match="'last' ran for one picture and does not run for a batch of 2"):
        TappedModel(model, taps).run(torch.randn(2, 3, 4, 4), lambda number, value: None)
