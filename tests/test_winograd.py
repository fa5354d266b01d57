"""The fast 3×3 convolution against torch's in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deconvviz import occlude
from deconvviz.winograd import Winograd, products_are_fast, suits


@pytest.mark.parametrize("size", [(4, 4), (7, 10), (5, 3), (16, 9)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (0, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_plain_convolution(size: tuple[int, int], padding: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 5, *size).contiguous(memory_format=torch.channels_last)
    weight, shift = torch.randn(7, 5, 3, 3), torch.randn(7) if bias else None
    kept = x.clone()
    got = Winograd(weight, shift)(x, padding)
    want = F.conv2d(x.double(), weight.double(), shift.double() if bias else None, padding=padding)
    torch.testing.assert_close(got.double(), want, rtol=0, atol=2e-6 * float(want.abs().max()))
    assert got.shape == want.shape and torch.equal(x, kept)


def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(9, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    fast = Winograd(torch.randn(6, 4, 3, 3), None)
    want = fast(x)
    monkeypatch.setattr("deconvviz.winograd._PART", 1)
    torch.testing.assert_close(fast(x), want, rtol=1e-6, atol=1e-6)


def test_no_less_exact_than_the_plain_one_with_many_maps() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 256, 10, 10).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(256, 256, 3, 3) / 48
    want = F.conv2d(x.double(), weight.double())
    errors = [float((y.double() - want).abs().max()) for y in (Winograd(weight, None)(x), F.conv2d(x, weight))]
    assert errors[0] < 2 * errors[1]


def test_only_where_it_is_the_same_and_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deconvviz.winograd.products_are_fast", lambda: True)
    weight = torch.zeros(256, 256, 3, 3)
    assert suits(weight, (1, 1), (1, 1), 1)
    monkeypatch.setattr("deconvviz.winograd.products_are_fast", lambda: False)
    assert not suits(weight, (1, 1), (1, 1), 1)
    monkeypatch.setattr("deconvviz.winograd.products_are_fast", lambda: True)
    assert not suits(weight, (2, 1), (1, 1), 1)
    assert not suits(weight, (1, 1), (1, 2), 1)
    assert not suits(weight[:, :128], (1, 1), (1, 1), 2)
    assert not suits(weight.double(), (1, 1), (1, 1), 1)
    assert not suits(weight[:16], (1, 1), (1, 1), 1)
    assert not suits(torch.zeros(256, 256, 5, 5), (1, 1), (1, 1), 1)
    fast = Winograd(weight, None)
    assert fast.pays(torch.zeros(1, 256, 8, 8)) and not fast.pays(torch.zeros(1, 256, 3, 3))


@pytest.mark.parametrize("fast", [True, False])
def test_occlusion_is_exact_with_and_without_it(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    """Whichever way this processor would take: windows and whole maps of a net with many maps, against a plain loop."""
    monkeypatch.setattr("deconvviz.winograd.products_are_fast", lambda: fast)
    torch.manual_seed(0)
    many = [nn.Conv2d(160, 160, 3, padding=1), nn.ReLU(), nn.Conv2d(160, 160, 3), nn.ReLU()]
    model = nn.Sequential(
        nn.Conv2d(3, 160, 3, 2, 1), nn.ReLU(), *many, nn.Flatten(), nn.Linear(160 * 16 * 19, 5)
    ).eval()
    x = torch.randn(1, 3, 35, 42)
    o = occlude(model, x, window=7, stride=9)
    assert not isinstance(o, list)
    want = []
    for top, left in o.origins.tolist():
        changed = x.clone()
        changed[:, :, top : top + 7, left : left + 7] = 0
        want.append(model.double()(changed.double())[0].detach())
        model.float()
    worst = (o.logits.double() - torch.stack(want)).abs().max() / torch.stack(want).abs().max()
    assert float(worst) < 1e-5


def test_the_choice_is_made_once() -> None:
    assert products_are_fast() is products_are_fast()
    assert products_are_fast.cache_info().hits >= 1
