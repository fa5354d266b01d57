"""What exists only while training is folded in exactly, or leaves no trace."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from deconvviz.training import Norms, renormalise
from deconvviz.training.scaffold import set_dropout


def test_folding_is_exact_in_float64() -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.ReLU(),
            nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU()),
            nn.Flatten(),
            nn.Linear(5 * 16, 7),
            nn.ReLU(),
            nn.Linear(7, 3),
        )
        plain = copy.deepcopy(model).eval()
        norms = Norms(model)
        assert list(norms.layers) == ["2.0", "4"]
        for _ in range(5):  # running statistics that are not the start's
            model(torch.randn(16, 1, 8, 8) * 2 + 1)
        for norm in norms.norms.values():
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
        model.eval()
        norms.eval()
        x = torch.randn(6, 1, 8, 8)
        with torch.no_grad():
            assert not torch.allclose(plain(x), model(x))
            plain.load_state_dict(norms.fold(model.state_dict(), norms.state_dict()))
            assert torch.allclose(plain(x), model(x), rtol=1e-12, atol=1e-12)
    finally:
        torch.set_default_dtype(torch.float32)


def test_renormalise_scales_back_only_what_is_too_large() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 3))
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([0.5, 1.0, 4.0]).view(3, 1, 1, 1)
        model[1].weight[:] = torch.tensor([0.05, -0.3]).view(2, 1, 1, 1)
    assert renormalise(model, 0.1, input_scale=20.0) == 2
    assert torch.allclose(model[0].weight.flatten(1).mean(1), torch.tensor([0.5, 1.0, 2.0]))
    assert torch.allclose(model[1].weight.flatten(1).mean(1), torch.tensor([0.05, -0.1]))


def test_dropout_in_front_of_the_first_linear_layer_while_training() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(400, 400, bias=False), nn.Dropout(0.5), nn.Linear(400, 3))
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(400))
    set_dropout(model, 0.25, 0.4)
    x = torch.ones(50, 400)
    seen = model[:2].train()(x)
    assert seen.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert float((seen == 0).float().mean()) == pytest.approx(0.4, abs=0.02)
    assert model[2].p == 0.25 and torch.equal(model[:2].eval()(x), x)
    set_dropout(model, None, 0.0)
    assert model[2].p == 0.25
