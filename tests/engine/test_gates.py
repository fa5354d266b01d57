"""Products that are gates, norms or activations in disguise: each against the projection written out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

import deconvviz

torch.manual_seed(0)
W = torch.randn(8, 4, 3, 3, dtype=torch.float64)
V = torch.randn(4, 4, 3, 3, dtype=torch.float64)
ONE = torch.randn(1, 4, 1, 1, dtype=torch.float64)


def wide(x: Tensor) -> Tensor:
    return F.conv2d(x, W, padding=1)


def conv(x: Tensor) -> Tensor:
    return F.conv2d(x, V, padding=1)


class Net(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.read = nn.Conv2d(4, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.read(self.function(self.stem(x)))
        return y


def project(function: Callable[[Tensor], Tensor], method: str) -> Tensor:
    """Two units, by deconvviz."""
    torch.manual_seed(3)
    net = Net(function).double().eval()
    x = torch.randn(1, 3, 9, 8, dtype=torch.float64)
    p = deconvviz.project(net, x, "read", units=[0, 1], place=(3, 2), method=method)
    return p.pixels / p.activations.view(-1, 1, 1, 1)


def by_autograd(function: Callable[[Tensor], Tensor]) -> Tensor:
    """The same for a network in which autograd's answer is the one wanted: factors are detached."""
    torch.manual_seed(3)
    net = Net(function).double().eval()
    x = torch.randn(1, 3, 9, 8, dtype=torch.float64).requires_grad_()
    maps = net(x)[0]
    return torch.cat([torch.autograd.grad(maps[unit, 3, 2], x, retain_graph=True)[0] for unit in (0, 1)])


def constant(x: Tensor) -> Tensor:
    return x.detach()


# What is written in a network, and the same with the recorded factor as a constant: nothing else is nonlinear there.
FACTORS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "sigmoid, resized": (
        lambda x: x * F.interpolate(conv(x[:, :, ::2, ::2]).sigmoid(), x.shape[2:], mode="bilinear"),
        lambda x: x * constant(F.interpolate(conv(x[:, :, ::2, ::2]).sigmoid(), x.shape[2:], mode="bilinear")),
    ),
    "two sigmoids": (
        lambda x: conv(x) * (wide(x)[:, :4].sigmoid() + x.mean((2, 3), keepdim=True).sigmoid()),
        lambda x: conv(x) * constant(wide(x)[:, :4].sigmoid() + x.mean((2, 3), keepdim=True).sigmoid()),
    ),
    "one minus a sigmoid": (
        lambda x: conv(x) * (1 - wide(x)[:, 4:].sigmoid()),
        lambda x: conv(x) * constant(1 - wide(x)[:, 4:].sigmoid()),
    ),
    "both ways of a gate": (
        lambda x: torch.lerp(x, conv(x), wide(x)[:, :4].sigmoid()),
        lambda x: torch.lerp(x, conv(x), constant(wide(x)[:, :4].sigmoid())),
    ),
    "ECA": (
        lambda x: x * F.conv1d(x.mean((2, 3)).unsqueeze(1), V[:1, :1, 0], padding=1).sigmoid().view(1, 4, 1, 1),
        lambda x: (
            x * constant(F.conv1d(x.mean((2, 3)).unsqueeze(1), V[:1, :1, 0], padding=1).sigmoid().view(1, 4, 1, 1))
        ),
    ),
    "squeeze without a sigmoid": (
        lambda x: x * (F.relu6(x.mean((2, 3), keepdim=True) + 3) / 6).expand_as(x),
        lambda x: x * constant(F.relu6(x.mean((2, 3), keepdim=True) + 3) / 6),
    ),
    "RMSNorm": (
        lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6) * ONE,
        lambda x: x * constant(torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6)) * ONE,
    ),
    "F.rms_norm": (
        lambda x: F.rms_norm(x, (8,)),
        lambda x: x * constant(torch.rsqrt(x.pow(2).mean(3, keepdim=True) + torch.finfo(x.dtype).eps)),
    ),
    "FRN": (
        lambda x: torch.addcmul(ONE, ONE, x * torch.rsqrt(x.square().mean((2, 3), keepdim=True) + 1e-6)),
        lambda x: ONE * x * constant(torch.rsqrt(x.square().mean((2, 3), keepdim=True) + 1e-6)),
    ),
    "GRN": (
        lambda x: x + torch.addcmul(ONE, ONE, x * _grn(x)),
        lambda x: x + ONE * x * constant(_grn(x)),
    ),
    "F.normalize": (
        lambda x: F.normalize(conv(x)),
        lambda x: conv(x) / constant(torch.linalg.vector_norm(conv(x), dim=1, keepdim=True)),
    ),
    "gated unit": (
        lambda x: F.gelu(wide(x)[:, :4]) * torch.cat([conv(x)[:, :2], x[:, 2:]], 1),
        lambda x: constant(F.gelu(wide(x)[:, :4])) * torch.cat([conv(x)[:, :2], x[:, 2:]], 1),
    ),
    "star": (
        lambda x: F.relu6(wide(x)[:, :4]) * conv(x),
        lambda x: constant(F.relu6(wide(x)[:, :4])) * conv(x),
    ),
    "SimpleGate": (
        lambda x: torch.mul(*wide(x).chunk(2, 1)),
        lambda x: wide(x).chunk(2, 1)[0] * constant(wide(x).chunk(2, 1)[1]),
    ),
    "glu": (
        lambda x: F.glu(wide(x), 1),
        lambda x: wide(x)[:, :4] * constant(wide(x)[:, 4:].sigmoid()),
    ),
    "focal modulation": (lambda x: _focal(x, lambda y: y), lambda x: _focal(x, constant)),
    "a mask": (lambda x: conv(x) * (x > 0), lambda x: conv(x) * (x > 0)),
    "weights made from the image": (
        lambda x: F.conv2d(x, x.mean((2, 3)).view(4, 1, 1, 1) * V, padding=1),
        lambda x: F.conv2d(x, constant(x.mean((2, 3)).view(4, 1, 1, 1) * V), padding=1),
    ),
    "places made from the image": (
        lambda x: F.grid_sample(x, conv(x)[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=False),
        lambda x: F.grid_sample(x, constant(conv(x)[:, :2].permute(0, 2, 3, 1).tanh()), align_corners=False),
    ),
    "places and modulation made from the image": (
        lambda x: _deformed(x, lambda y: y),
        lambda x: _deformed(x, constant),
    ),
    "circular padding": (
        lambda x: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), V),
        lambda x: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), V),
    ),
    "transposed": (
        lambda x: F.conv_transpose2d(x[:, :, ::2, ::2], V, stride=2, padding=1, output_padding=(0, 1)),
        lambda x: F.conv_transpose2d(x[:, :, ::2, ::2], V, stride=2, padding=1, output_padding=(0, 1)),
    ),
    "a filter of frequencies": (
        lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * torch.complex(ONE, 2 * ONE), s=x.shape[2:]),
        lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * torch.complex(ONE, 2 * ONE), s=x.shape[2:]),
    ),
}


def _grn(x: Tensor) -> Tensor:
    size = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
    return size / (size.mean(1, keepdim=True) + 1e-6)


def _deformed(x: Tensor, factor: Callable[[Tensor], Tensor]) -> Tensor:
    y = factor(F.conv2d(x, torch.cat([W, W, W, W])[:27], padding=1))
    return deform_conv2d(x, y[:, :18], V, padding=1, mask=y[:, 18:])


def _focal(x: Tensor, factor: Callable[[Tensor], Tensor]) -> Tensor:
    q, context, gates = torch.split(F.conv2d(x, torch.cat([W, W])[:10], padding=1), [4, 4, 2], 1)
    total = conv(context) * gates[:, :1] + context.mean((2, 3), keepdim=True) * gates[:, 1:]
    return q * factor(conv(total))


@pytest.mark.parametrize("method", ["deconvnet", "guided"])
@pytest.mark.parametrize("name", list(FACTORS))
def test_the_factor_is_a_constant(name: str, method: str) -> None:
    function, written_out = FACTORS[name]
    torch.testing.assert_close(project(function, method), by_autograd(written_out), rtol=1e-9, atol=1e-11)


def _layer_norm(x: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    return ONE * ((x - mean) / torch.sqrt(variance + 1e-5)) + ONE


def _instance_norm(x: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + 1e-5)


# An activation or norm spelt out, and its own operator.
SPELT: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "SiLU": (lambda x: x * x.sigmoid(), F.silu),
    "SiLU, in place": (lambda x: x.mul_(x.sigmoid()), F.silu),
    "hardswish": (lambda x: x * F.relu6(x + 3) / 6, F.hardswish),
    "hardswish by a sixth": (lambda x: x * (F.relu6(x + 3) * (1 / 6)), F.hardswish),
    "GELU": (lambda x: x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0))), F.gelu),
    "GELU, the half last": (lambda x: x * (1.0 + torch.erf(x / math.sqrt(2.0))) * 0.5, F.gelu),
    "GELU by tanh": (
        lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3)))),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    "GELU by products": (
        lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    "Mish": (lambda x: x * torch.tanh(torch.log(1 + torch.exp(x))), F.mish),
    "LayerNorm": (
        _layer_norm,
        lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (4,), ONE.flatten(), ONE.flatten()).permute(0, 3, 1, 2),
    ),
    "InstanceNorm": (_instance_norm, F.instance_norm),
    "RMSNorm": (
        lambda x: x * torch.rsqrt(x.pow(2).mean(3, keepdim=True) + 1e-6),
        lambda x: F.rms_norm(x, (x.shape[3],), eps=1e-6),
    ),
    "quick GELU": (lambda x: x * torch.sigmoid(1.702 * x), lambda x: F.silu(1.702 * x) / 1.702),
}


@pytest.mark.parametrize("method", ["deconvnet", "guided"])
@pytest.mark.parametrize("name", list(SPELT))
def test_what_is_spelt_out_is_the_operator_it_spells(name: str, method: str) -> None:
    spelt, own = SPELT[name]
    torch.testing.assert_close(
        project(lambda x: spelt(conv(x)), method), project(lambda x: own(conv(x)), method), rtol=1e-9, atol=1e-11
    )


# Refusals -------------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "two signals": (lambda x: conv(x) * wide(x)[:, :4], r"'mul' .* neither \(or both\) a gate or a norm"),
    "two matrices": (lambda x: conv(x) @ x.transpose(2, 3) @ x, r"'bmm' .* image-dependent matrices \(attention\)"),
    "attention": (lambda x: F.scaled_dot_product_attention(x, conv(x), x), r"'_scaled_dot_product\w+' .* is attention"),
    "no rule": (lambda x: conv(x) + x.logsumexp(1, keepdim=True), "'logsumexp' .* has no rule"),
    "complex numbers": (lambda x: torch.fft.rfft2(x).abs(), "'abs' .* is a function of complex numbers"),
    "an operator of one's own": (lambda x: conv(x) + x.cumprod(1), "'cumprod' .* has no rule"),
}


@pytest.mark.parametrize("method", ["deconvnet", "guided"])
@pytest.mark.parametrize("name", list(REFUSED))
def test_a_refusal_says_what_works_instead(name: str, method: str) -> None:
    function, text = REFUSED[name]
    with pytest.raises(deconvviz.UnsupportedOperatorError, match=text) as caught:
        project(function, method)
    line = str(caught.value)
    assert "method 'gradient' and occlude work" in line and f"'{method}'" in line and "\n" not in line
    torch.testing.assert_close(project(function, "gradient"), by_autograd(function), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("method", ["deconvnet", "guided"])
def test_constant_attention_is_an_option(method: str) -> None:
    """Its weights as recorded, the signal through the values; the policy says so."""

    def whole(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, conv(x), x)

    def spelt(x: Tensor) -> Tensor:
        return (x @ conv(x).transpose(2, 3) / math.sqrt(x.shape[3])).softmax(3) @ x

    def wanted(x: Tensor) -> Tensor:
        return (x @ conv(x).transpose(2, 3) / math.sqrt(x.shape[3])).softmax(3).detach() @ x

    for function in (whole, spelt):
        torch.manual_seed(3)
        net = Net(function).double().eval()
        x = torch.randn(1, 3, 9, 8, dtype=torch.float64)
        p = deconvviz.project(net, x, "read", units=[0, 1], place=(3, 2), method=method, attention="constant")
        assert p.policy["attention"] == "constant"
        torch.testing.assert_close(p.pixels / p.activations.view(-1, 1, 1, 1), by_autograd(wanted))
    with pytest.raises(deconvviz.UnknownNameError, match="attention is 'on'"):
        deconvviz.project(net, x, "read", attention="on")
