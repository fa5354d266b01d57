"""The fast contrast normalisation gives the numbers of torch's own."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deconvviz
from deconvviz.training.quick import quicken


@pytest.mark.parametrize("size", [1, 4, 5, 9])
def test_values_and_gradients(size: int) -> None:
    torch.manual_seed(size)
    norm = nn.LocalResponseNorm(size, alpha=0.3, beta=0.6, k=1.5)
    quicken(norm)
    x = torch.randn(2, 7, 4, 5, dtype=torch.float64, requires_grad=True)
    upper = torch.randn_like(x)
    given = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    wanted, found = F.local_response_norm(x, size, 0.3, 0.6, 1.5), norm(given)
    assert torch.allclose(found, wanted, rtol=1e-13, atol=1e-14)
    (gradient,) = torch.autograd.grad(wanted, x, upper)
    (quick,) = torch.autograd.grad(found, given, upper)
    assert torch.allclose(quick, gradient, rtol=1e-12, atol=1e-13)


def test_a_network_keeps_its_values_and_its_keys() -> None:
    net = deconvviz.load("zfnet", "random")
    quick = copy.deepcopy(net.module)
    quicken(quick)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = net.module(x)
        found = quick(x.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    assert quick.state_dict().keys() == net.module.state_dict().keys()
