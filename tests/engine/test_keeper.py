"""A recording for one walk keeps what that walk reads, and lets the rest go as the pass does."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deconvviz
from deconvviz.engine.layers import record_to
from deconvviz.engine.recording import Recording
from deconvviz.engine.rules import Walk
from deconvviz.engine.rules.base import Policy

IMAGE = torch.randn(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))


def kept(module: nn.Module, layer: str, method: str) -> Recording:
    """The recording of a second pass, made for one walk."""
    policy: Policy = (method, "add", "refused")
    record_to(module, IMAGE, layer, {}, policy)
    rec, _ = record_to(module, IMAGE, layer, {}, policy)
    assert rec.kept_for == policy
    return rec


def numbers(rec: Recording) -> int:
    """Bytes of what a recording holds: values and what was made of them."""
    held = [v for v in rec.values if not v.is_meta]
    for made in rec.condensed.values():
        held += [made] if isinstance(made, Tensor) else [t for t in vars(made).values() if isinstance(t, Tensor)]
    return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in held}.values())


def plain(in_place: bool = False) -> nn.Module:
    """Convolutions, rectifiers, a pool and a norm of 8 maps."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(in_place), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8),
        nn.ReLU(in_place), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU6(in_place), nn.Conv2d(8, 4, 1),
    ).eval()  # fmt: skip


MAP = 32 * 40
ENDS = 4 * (3 * MAP + 4 * MAP // 4)  # the picture, and the layer


@pytest.mark.parametrize("in_place", [False, True])
def test_a_deconvnet_keeps_switches_only(in_place: bool) -> None:
    assert numbers(kept(plain(in_place), "8", "deconvnet")) == ENDS + 8 * MAP // 4


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("method", ["guided", "gradient"])
def test_masks_are_bits(in_place: bool, method: str) -> None:
    bits = 2 * 8 * 32 * 5 + 8 * 16 * 3
    assert numbers(kept(plain(in_place), "8", method)) == ENDS + 8 * MAP // 4 + bits


class Gated(nn.Module):
    """Squeeze and excitation, a norm, a product that is an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.norm, self.last = nn.GroupNorm(2, 8), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (1, 4, H, W)."""
        x = self.first(x)
        x = x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()
        x = self.norm(x)
        x = x * torch.sigmoid(x)
        return self.last(x)  # type: ignore[no-any-return]


def test_factors_and_statistics_are_kept_and_nothing_else() -> None:
    assert numbers(kept(Gated(), "last", "deconvnet")) == 4 * (3 * MAP + 4 * MAP + 8 + 2)
    # Besides, the value that the activation begins with, and the derivative of its sigmoid: that it is a part of one
    # shows later only.
    assert numbers(kept(Gated(), "last", "guided")) == 4 * (3 * MAP + 4 * MAP + 2 * 8 * MAP + 2 * 8 + 2)


class Function(nn.Module):
    """A function between two convolutions."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.first, self.last = function, nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (1, 8, H, W)."""
        return self.last(self.function(self.first(x)))  # type: ignore[no-any-return]


def halves(x: Tensor) -> Tensor:
    """Written through a view and through a slice."""
    x.view(-1)[:50].mul_(2)
    x[:, 2:].relu_()
    return F.relu(x[:, :6].clone()).add_(x[:, 2:])


def through_buffer(x: Tensor) -> Tensor:
    """Into a fresh tensor."""
    buffer = torch.zeros(1, 8, *x.shape[2:])
    buffer[:, :4] = F.relu(x[:, :4])
    buffer[:, 4:] = x[:, 4:]
    return F.max_pool2d(buffer, 2, 1)


def many(x: Tensor) -> Tensor:
    """So many short-lived tensors that ids and storages come again."""
    for n in range(60):
        y = x + n
        y.mul_(1 / (n + 1))
        y[:, :1].relu_()
        x = F.relu_(y) - 0.1
    return x


@pytest.mark.parametrize("method", ["deconvnet", "guided", "gradient"])
@pytest.mark.parametrize("function", [many, through_buffer, lambda x: torch.cat([halves(x), x[:, :2]], 1)])
@pytest.mark.filterwarnings("ignore::deconvviz.DeconvvizWarning")
def test_writes_in_place_are_told_right_when_tensors_come_and_go(
    method: str, function: Callable[[Tensor], Tensor]
) -> None:
    model = Function(function)
    first, second = (deconvviz.project(model, IMAGE, "last", top=3, method=method) for _ in range(2))
    assert torch.equal(first.pixels, second.pixels)
    assert torch.equal(first.activations, second.activations)


def test_the_pass_lets_go_of_what_it_would_let_go_of() -> None:
    """At every operator no more large tensors live than in the plain pass."""
    alive: list[weakref.ref[Tensor]] = []
    counts: list[int] = []

    def hook(_module: nn.Module, _inputs: object, out: Tensor) -> None:
        alive.append(weakref.ref(out))
        counts.append(sum(ref() is not None for ref in alive))

    model = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(8)))
    record_to(model, IMAGE, "7", {})
    handles = [part.register_forward_hook(hook) for part in model]
    record_to(model, IMAGE, "7", {})  # a hook more: another way, all of it
    assert counts == [1, 2, 3, 4, 5, 6, 7, 8]
    alive.clear()
    counts.clear()
    record_to(model, IMAGE, "7", {}, ("deconvnet", "add", "refused"))
    assert max(counts) <= 2
    for handle in handles:
        handle.remove()


def test_another_walk_is_refused() -> None:
    rec = kept(plain(), "8", "deconvnet")
    with pytest.raises(deconvviz.DeconvvizValueError, match="keeps what"):
        Walk(rec, "guided", "add")


class Fickle(nn.Module):
    """Runs otherwise when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.other = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3), False

    def forward(self, x: Tensor) -> Tensor:
        """Maps (1, 4, H, W)."""
        x = self.first(x)
        return self.last(torch.tanh(x) if self.other else F.relu(x))  # type: ignore[no-any-return]


def test_a_pass_that_was_not_planned_for_keeps_everything() -> None:
    model = Fickle()
    policy: Policy = ("deconvnet", "add", "refused")
    record_to(model, IMAGE, "last", {}, policy)
    model.other = True
    rec, found = record_to(model, IMAGE, "last", {}, policy)
    assert rec.kept_for is None
    assert not any(v.is_meta for v in rec.values)
    assert rec.values[found.value].shape == (1, 4, 28, 36)
