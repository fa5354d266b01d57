"""`gradient` is exactly autograd, also where autograd stops or is told otherwise than by operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn

import deconvviz

# Checkpointing complains of a pass without gradients, captum of its hooks.
pytestmark = pytest.mark.filterwarnings(
    "ignore:None of the inputs have requires_grad", "ignore:Setting backward hooks on ReLU"
)

torch.manual_seed(0)
W = torch.randn(4, 4, 3, 3, dtype=torch.float64)


class Reversed(torch.autograd.Function):
    """Hands its input back; its gradient is turned round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """The input itself."""
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Turned round and doubled."""
        return -2 * gradients[0]


class Squared(torch.autograd.Function):
    """Its gradient is not that of its operators."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        """The square."""
        return x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Keep the input."""
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Three times the input, where two would be right."""
        return gradients[0] * 3 * ctx.saved_tensors[0]


def conv(x: Tensor) -> Tensor:
    return torch.conv2d(x, W, padding=1)


def unseen(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return torch.no_grad()(function)


def written_unseen(x: Tensor) -> Tensor:
    y = conv(x)
    with torch.no_grad():
        y[:, :2].mul_(3)
    return y * y


def written_through_data(x: Tensor) -> Tensor:
    y = conv(x)
    y.data.clamp_(min=0)
    return y * x


def seen_again(x: Tensor) -> Tensor:
    with torch.no_grad():
        y = conv(x)
        with torch.enable_grad():
            z = conv(x)
    return x + 2 * y + z


STOPS: dict[str, Callable[[Tensor], Tensor]] = {
    "detach": lambda x: x + conv(x).detach() * x,
    "detach_": lambda x: x + conv(x).clone().detach_() * x,
    "data": lambda x: x * conv(x).data,
    "straight through": lambda x: x + (x.round() - x).detach(),
    "no_grad": lambda x: x * unseen(conv)(x),
    "no_grad, then a write": written_unseen,
    "a write through data": written_through_data,
    "enable_grad in no_grad": seen_again,
    "everything in no_grad": unseen(conv),
    "a Function that hands back": lambda x: Reversed.apply(conv(x)),
    "a Function with its own gradient": lambda x: Squared.apply(conv(x)) + x,
    "checkpoint": lambda x: torch.utils.checkpoint.checkpoint(conv, x, use_reentrant=True),
    "checkpoint, not reentrant": lambda x: torch.utils.checkpoint.checkpoint(conv, x, use_reentrant=False),
}


class Net(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.stem, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True)
        self.read = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.read(self.function(self.act(self.stem(x))))
        return y.mean((2, 3))


@pytest.mark.parametrize("name", list(STOPS))
def test_gradient_is_what_autograd_says(name: str) -> None:
    torch.manual_seed(1)
    net = Net(STOPS[name]).double().eval()
    x = torch.randn(1, 3, 7, 6, dtype=torch.float64)
    p = deconvviz.project(net, x, "read", units=[0, 2], method="gradient")
    leaf = x.clone().requires_grad_()
    oracle = STOPS["checkpoint, not reentrant" if name == "checkpoint" else name]  # the other knows `backward` only
    maps = net.read(oracle(net.act(net.stem(leaf))))[0]
    for k, unit in enumerate((0, 2)):
        value = maps[unit, p.places[k, 0], p.places[k, 1]]
        (want,) = (
            torch.autograd.grad(value, leaf, retain_graph=True, allow_unused=True) if maps.requires_grad else [None]
        )
        want = torch.zeros_like(x) if want is None else want * value
        torch.testing.assert_close(p.pixels[k], want[0].detach(), rtol=1e-10, atol=1e-12)
    assert all(q.grad is None for q in net.parameters())
    for method in ("deconvnet", "guided"):  # these go by the operators that ran
        assert deconvviz.project(net, x, "read", units=[0], method=method).pixels.isfinite().all()


@pytest.mark.parametrize("name", list(STOPS))
def test_occlusion_is_what_the_network_says(name: str) -> None:
    torch.manual_seed(1)
    net = Net(STOPS[name]).double().eval()
    x = torch.randn(1, 3, 7, 6, dtype=torch.float64)
    o = deconvviz.occlude(net, x, window=2, stride=3, fill=0.5)
    for (row, col), logits in zip(o.origins.tolist(), o.logits, strict=True):
        covered = x.clone()
        covered[:, :, row : row + 2, col : col + 2] = 0.5
        with torch.no_grad():
            torch.testing.assert_close(logits, net(covered)[0], rtol=1e-11, atol=1e-11)


def test_checkpointing_leaves_the_gradients_of_parameters() -> None:
    net = Net(STOPS["checkpoint"]).double().eval()
    kept = torch.ones_like(net.stem.weight)
    net.stem.weight.grad = kept
    deconvviz.project(net, torch.randn(1, 3, 7, 6, dtype=torch.float64), "read", units=[0], method="gradient")
    assert net.stem.weight.grad is kept and bool(kept.eq(1).all()) and net.stem.bias is not None
    assert net.stem.bias.grad is None


def test_units_of_a_class_by_autograd() -> None:
    """The maps that drive a class are found by the same gradient."""
    net = Net(STOPS["no_grad"]).double().eval()
    x = torch.randn(1, 3, 7, 6, dtype=torch.float64)
    p = deconvviz.project(net, x, "act", units="class", target=1, top=4)
    a = net.act(net.stem(x)).detach().requires_grad_()
    net.read(STOPS["no_grad"](a)).mean((2, 3))[0, 1].backward()
    assert a.grad is not None
    share = (a.grad * a).sum((0, 2, 3))
    assert p.units.tolist() == share.argsort(descending=True).tolist()


def test_what_autograd_refuses_is_one_line() -> None:
    def halves(x: Tensor) -> Tensor:
        first, _ = conv(x.detach()).requires_grad_().chunk(2, 1) if torch.is_grad_enabled() else conv(x).chunk(2, 1)
        return torch.cat([first.relu_(), first], 1)

    net = Net(lambda x: halves(x) + x.detach()).double().eval()
    x = torch.randn(1, 3, 7, 6, dtype=torch.float64)
    with pytest.raises(deconvviz.UnsupportedOperatorError, match="autograd cannot differentiate") as caught:
        deconvviz.project(net, x, "read", units=[0], method="gradient")
    assert "\n" not in str(caught.value)


def test_where_captum_overwrites_a_shared_gradient() -> None:
    """y + 3·relu(y): the ReLU's input is also read by a skip.

    By hand: the signal 1 arrives at y as it is, and 3 times rectified: 4. captum's hook rectifies the gradient of the
    ReLU's input, which autograd has summed by then, and returns the ReLU's own share in its place: 3.
    """
    captum = pytest.importorskip("captum.attr")

    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            y = x * 1
            return (y + 3 * self.relu(y)).flatten(1)

    x = torch.full((1, 1, 1, 1), 2.0)
    net = Skip().eval()
    theirs = captum.Deconvolution(net).attribute(x.clone().requires_grad_(), target=0)
    ours = deconvviz.project(nn.Sequential(net), x, "0", units=[0])
    assert theirs.item() == 3
    assert (ours.pixels / ours.activations).item() == 4


@pytest.mark.parametrize("name", ["no_grad", "a Function with its own gradient"])
def test_a_second_gradient_is_the_first(name: str) -> None:
    torch.manual_seed(1)
    net, x = Net(STOPS[name]).double().eval(), torch.randn(1, 3, 7, 6, dtype=torch.float64)
    first, second = (deconvviz.project(net, x, "read.0", units=[0], method="gradient") for _ in range(2))
    assert torch.equal(first.pixels, second.pixels)


def test_what_a_checkpointed_block_returns() -> None:
    """Inside of a re-entrant checkpoint autograd follows nothing; what comes out of it has its gradient."""

    class Block(nn.Module):
        def __init__(self, reentrant: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).double()
            self.reentrant = reentrant

        def forward(self, x: Tensor) -> Tensor:
            """Maps."""
            found: Tensor = torch.utils.checkpoint.checkpoint(self.inner, x, use_reentrant=self.reentrant)
            return found

    x = torch.randn(1, 3, 9, 9, dtype=torch.float64)
    model = nn.Sequential(Block(True), nn.ReLU()).eval()
    plain = Block(False).inner
    for layer in ("0", "0.inner", "0.inner.2"):
        p = deconvviz.project(model, x, layer, units=[1], method="gradient")
        start = x.clone().requires_grad_()
        (row, col), value = p.places[0].tolist(), plain(start)
        value[0, 1, row, col].backward()
        assert start.grad is not None
        torch.testing.assert_close(p.pixels[0] / p.activations[0], start.grad[0], rtol=1e-9, atol=1e-12)
    with pytest.raises(deconvviz.UnsupportedOperatorError, match="inside of a re-entrant checkpoint"):
        deconvviz.project(model, x, "0.inner.0", units=[1], method="gradient")
