"""Masks, choices and maxima: each spelling against a network that says the same in another way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deconvviz

Function = Callable[[Tensor], Tensor]
MASK = torch.arange(81).view(9, 9) % 3 == 0

BOUND = torch.tensor(0.3, dtype=torch.float64)


def filled(x: Tensor) -> Tensor:
    """A ReLU in place; `x` must have a value of its own."""
    return x.masked_fill_(x < 0, 0)


class Between(nn.Module):
    """A function between two fixed convolutions, all in float64."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.first = nn.Conv2d(3, 4, 3, padding=1).double()
        self.last = nn.Conv2d(4, 5, 3, padding=1).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))  # type: ignore[no-any-return]


IMAGE = torch.randn(1, 3, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def pixels(function: Function, method: str) -> Tensor:
    return deconvviz.project(Between(function), IMAGE, "last", units=list(range(5)), method=method).pixels


# Two spellings of one function; all methods must agree.
SAME: dict[str, tuple[Function, Function]] = {
    "relu by where": (lambda x: torch.where(x > 0, x, 0.0), F.relu),
    "relu by where, turned round": (lambda x: torch.where(x <= 0, torch.zeros_like(x), x), F.relu),
    "relu by masked_fill": (lambda x: x.masked_fill(x < 0, 0), F.relu),
    "relu by masked_fill_": (lambda x: filled(x + 0), F.relu),
    "relu by a mask": (lambda x: x * (x > 0), F.relu),
    "relu by a float mask": (lambda x: (x > 0).to(x.dtype) * x, F.relu),
    "relu by not": (lambda x: x.masked_fill(~(x > 0), 0), F.relu),
    "leaky relu by where": (lambda x: torch.where(x > 0, x, 0.1 * x), lambda x: F.leaky_relu(x, 0.1)),
    "constant mask by where": (lambda x: torch.where(MASK, x, 0.0), lambda x: x * MASK),
    "constant mask by masked_fill": (lambda x: x.masked_fill(MASK, 0.0), lambda x: x * ~MASK),
    "relu6 by minimum": (lambda x: torch.minimum(x.relu(), BOUND), lambda x: x.clamp(0, 0.3)),
    "relu6 by clamp_max": (lambda x: x.relu().clamp_max(0.3), lambda x: x.clamp(0, 0.3)),
    "maximum over rows": (lambda x: x.amax(2, keepdim=True) + 0 * x, lambda x: F.max_pool2d(x, (9, 1)) + 0 * x),
    "max(dim)": (lambda x: x.max(3, keepdim=True).values + 0 * x, lambda x: F.max_pool2d(x, (1, 9)) + 0 * x),
    "global maximum": (lambda x: x.amax((2, 3), keepdim=True) + 0 * x, lambda x: F.max_pool2d(x, 9) + 0 * x),
    "maximum over maps": (lambda x: x + x.amax(1, keepdim=True), lambda x: x + x.max(1, keepdim=True)[0]),
}


@pytest.mark.parametrize("method", ["deconvnet", "guided", "gradient"])
@pytest.mark.parametrize("name", list(SAME))
def test_spellings_agree(name: str, method: str) -> None:
    one, other = SAME[name]
    torch.testing.assert_close(Between(one)(IMAGE), Between(other)(IMAGE), rtol=0, atol=1e-14)
    mine = pixels(one, method)
    assert mine.abs().sum() > 0
    torch.testing.assert_close(mine, pixels(other, method), rtol=1e-12, atol=1e-14)


def test_a_choice_between_two_branches_by_hand() -> None:
    """The signal goes to the branch that was taken: 2 x where the mask holds, 5 x elsewhere; nothing is rectified."""
    x = torch.randn(1, 1, 2, 2, generator=torch.Generator().manual_seed(2))
    mask = torch.tensor([[True, False], [False, True]])

    class Two(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(mask, 2 * x, 5 * x)

    model = nn.Sequential(Two())
    p = deconvviz.project(model, x, "0", seed=torch.tensor([[[1.0, -1.0], [3.0, 4.0]]]), units=[0])
    assert p.pixels[0, 0].tolist() == [[2, -5], [15, 8]]


def test_a_value_that_stands_twice_gets_both_shares() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(torch.tensor([[True, False]]), x, x)

    p = deconvviz.project(nn.Sequential(Twice()), torch.ones(1, 1, 1, 2), "0", seed=torch.tensor([[[3.0, -4.0]]]))
    assert p.pixels.flatten().tolist() == [3, -4]


def test_ties_of_a_maximum_take_the_first_in_raster_order() -> None:
    class Peak(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.amax((2, 3))

    x = torch.tensor([[[[0.0, 2.0], [2.0, 1.0]], [[3.0, 3.0], [3.0, 3.0]]]])
    p = deconvviz.project(nn.Sequential(Peak()), x, "0", units=[0, 1])
    assert p.pixels[0].tolist() == [[[0, 2], [0, 0]], [[0, 0], [0, 0]]]
    assert p.pixels[1].tolist() == [[[0, 0], [0, 0]], [[3, 0], [0, 0]]]
    halves = deconvviz.project(nn.Sequential(Peak()), x, "0", units=[0], method="gradient")
    assert halves.pixels[0, 0].tolist() == [[0, 1], [1, 0]]  # autograd shares


def test_receptive_field_of_a_maximum_over_maps_is_one_pixel() -> None:
    class Highest(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x > 0, x, 0.0).amax(1, keepdim=True)

    net = deconvviz.Network(nn.Sequential(Highest()), 8)
    assert deconvviz.receptive_field(net, "0", (3, 4)) == (3, 4, 4, 5)
