"""The caller's own modes change nothing: autocast, inference mode; random operators are refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvviz import UnsupportedOperatorError, project

IMAGE = torch.randn(1, 3, 12, 10, generator=torch.Generator().manual_seed(2))


class Dropout(nn.Module):
    """Dropout that stays on in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return F.dropout(x, 0.5, training=True)


class Noise(nn.Module):
    """Adds noise."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x + torch.randn_like(x)


def network(middle: nn.Module) -> nn.Module:
    """A small chain with `middle` in its middle."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), middle, nn.Conv2d(4, 4, 3)).eval()


@pytest.mark.parametrize("middle", [Dropout(), Noise()], ids=["dropout", "noise"])
def test_random_operators_are_refused(middle: nn.Module) -> None:
    with pytest.raises(UnsupportedOperatorError, match="random"):
        project(network(middle), IMAGE, "3")


@pytest.mark.parametrize("method", ["deconvnet", "guided", "gradient"])
def test_modes_of_the_caller_change_nothing(method: str) -> None:
    net = network(nn.Identity())
    plain = project(net, IMAGE, "3", method=method).pixels
    with torch.autocast("cpu", torch.bfloat16):
        assert project(net, IMAGE, "3", method=method).pixels.equal(plain)
    with torch.inference_mode():
        assert project(net, IMAGE, "3", method=method).pixels.equal(plain)
    assert not plain.requires_grad


def test_a_new_hook_is_seen() -> None:
    net = network(nn.Identity())
    before = project(net, IMAGE, "0").activations
    handle = net[0].register_forward_hook(lambda _m, _a, out: out * 2)  # type: ignore[index]
    torch.testing.assert_close(project(net, IMAGE, "0").activations, before * 2)
    handle.remove()
    torch.testing.assert_close(project(net, IMAGE, "0").activations, before)
