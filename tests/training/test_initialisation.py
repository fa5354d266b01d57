"""Data-dependent initialisation: what it promises of the responses, measured on the network itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deconvviz.errors import DeconvvizValueError
from deconvviz.training.initialisation import initialise, spherical_kmeans


def chain() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(12, 6, 3, padding=2, dilation=2),
    )


def pictures(count: int = 48) -> Tensor:
    """Smooth random pictures: patches of white noise have no directions to find."""
    noise = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return nn.functional.avg_pool2d(noise, 3, 1, 1) * 3


def test_every_layer_has_unit_deviation_and_fires_at_the_share_asked_for() -> None:
    model, x = chain(), pictures()
    done = initialise(model, x, seed=1, fire=0.3)
    assert list(done) == ["0", "4", "6"]
    for name, response in done.items():
        with torch.no_grad():
            y = model.eval()[: int(name) + 1](x).transpose(0, 1).flatten(1)
        assert torch.allclose(y.std(1), torch.ones(len(y)), atol=0.05)
        assert torch.allclose((y > 0).float().mean(1), torch.full((len(y),), 0.3), atol=0.03)
        assert torch.allclose(y.mean(1), response.mean, atol=0.05)


def test_filters_have_no_mean_and_the_seed_decides() -> None:
    x = pictures()
    first, again, other = chain(), chain(), chain()
    initialise(first, x, seed=1)
    initialise(again, x, seed=1)
    initialise(other, x, seed=2)
    for conv in (first[0], first[4], first[6]):
        assert isinstance(conv, nn.Conv2d)
        assert conv.weight.mean((1, 2, 3)).abs().max() < 1e-6
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first[0].weight, other[0].weight)


def test_modes_hooks_and_convolutions_it_cannot_set_are_left_alone() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 4, 3, bias=False), nn.Dropout()
    )
    model[3].eval()
    kept = [model[1].weight.clone(), model[2].weight.clone()]
    assert list(initialise(model, pictures(8))) == ["0"]
    assert torch.equal(model[1].weight, kept[0]) and torch.equal(model[2].weight, kept[1])
    assert model.training and model[0].training and not model[3].training
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_kmeans_finds_the_directions() -> None:
    g = torch.Generator().manual_seed(0)
    axes = torch.eye(4)
    points = axes.repeat(50, 1) * 3 + 0.1 * torch.randn(200, 4, generator=g)
    centres = spherical_kmeans(points, 4, 25, g)
    assert torch.allclose(centres.norm(dim=1), torch.ones(4))
    assert (axes @ centres.T).max(1).values.max() > 0.99
    assert (points @ centres.T).max(1).values.min() > 1.9


@pytest.mark.parametrize(("x", "fire"), [(torch.zeros(3, 8, 8), 0.3), (torch.zeros(2, 3, 8, 8), 1.0)])
def test_wrong_arguments(x: Tensor, fire: float) -> None:
    with pytest.raises(DeconvvizValueError, match="allowed"):
        initialise(chain(), x, fire=fire)
