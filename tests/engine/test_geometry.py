"""Layers and receptive fields against the paper's table and autograd's own footprint."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import deconvviz

# Fig. 3 of the paper: maps, size, receptive field, stride.
FIG3 = {
    "conv1": (96, 110, 7, 2),
    "pool1": (96, 55, 11, 4),
    "conv2": (256, 26, 27, 8),
    "pool2": (256, 13, 43, 16),
    "conv3": (384, 13, 75, 16),
    "conv4": (384, 13, 107, 16),
    "conv5": (256, 13, 139, 16),
    "pool5": (256, 6, 171, 32),
}


def assert_fields(net: deconvviz.Network, layer: str, maps: torch.Tensor, x: torch.Tensor) -> None:
    """The receptive field of every place of `maps` (C, h, w) is where the gradient to `x` (1, C, H, W) is not 0."""
    for row in range(maps.shape[1]):
        for col in range(maps.shape[2]):
            (g,) = torch.autograd.grad(maps[:, row, col].sum(), x, retain_graph=True)
            ys, xs = torch.nonzero(g[0].abs().sum(0), as_tuple=True)
            want = (int(ys.min()), int(xs.min()), int(ys.max()) + 1, int(xs.max()) + 1)
            assert deconvviz.receptive_field(net, layer, (row, col)) == want


def test_zfnet_layers_are_the_papers() -> None:
    rows = {row.name: row for row in deconvviz.load("zfnet", weights="random").layers()}
    for name, (maps, size, field, stride) in FIG3.items():
        row = rows[name]
        assert (row.maps, row.size, row.receptive_field, row.stride) == (maps, (size,) * 2, (field,) * 2, (stride,) * 2)
    assert "5" in rows["conv5"].aliases
    assert rows["fc6"].size is None


class Branches(nn.Module):
    """Two branches of different fields, concatenated, and a skip around the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 2, 5, stride=2, padding=1)
        self.b = nn.Conv2d(3, 2, 3, stride=2, dilation=2, padding=1)
        self.c = nn.Conv2d(4, 4, (1, 3), padding=(0, 1))
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (1, 4, h, w)."""
        y = torch.cat([self.a(x), self.b(x)], 1)
        out: torch.Tensor = self.pool(self.c(y) + y)
        return out


def test_receptive_fields_are_autograds_footprint() -> None:
    torch.manual_seed(0)
    model = Branches().double().eval()
    net = deconvviz.Network(model, (31, 26))
    # A max-pool's gradient reaches one place: an average pool of the same windows shows the whole field.
    twin = Branches().double()
    twin.load_state_dict(model.state_dict())
    twin.pool = nn.AvgPool2d(3, 2, ceil_mode=True)  # type: ignore[assignment]
    x = torch.randn(1, 3, 31, 26, dtype=torch.float64, requires_grad=True)
    maps = twin(x)[0]
    assert_fields(net, "pool", maps, x)


def test_a_grey_network_without_mean_has_layers() -> None:
    net = deconvviz.Network(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()), 8)
    assert [(row.name, row.maps, row.size) for row in net.layers()] == [("0", 4, (6, 6)), ("1", 4, (6, 6))]
    assert deconvviz.receptive_field(net, "1", (2, 3)) == (2, 3, 5, 6)


def test_receptive_field_refuses_a_place_outside() -> None:
    net = deconvviz.load("lenet", weights="random")
    with pytest.raises(deconvviz.DeconvvizValueError, match="outside"):
        deconvviz.receptive_field(net, "conv1", (99, 0))


# Every layer of these; others are projected from their logits.
FAMILIES = ("lenet", "seresnet18_32")
# Deep enough to hold every block of its family, small enough for a test.
SMALL = ("alexnet_28", "vgg11_bn_32", "resnet18_32", "resnet50_32", "resnext50_32", "seresnet50_32", "googlenet_32")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_of_a_family_projects(name: str) -> None:
    net = deconvviz.load(name, weights="random")
    torch.manual_seed(0)
    x = torch.randn(1, net.card.channels, *net.card.input_size)
    for layer in net.layers():
        p = deconvviz.project(net, x, layer.name, top=2)
        assert torch.isfinite(p.pixels).all(), layer.name
        live = p.activations != 0
        assert p.pixels[live].flatten(1).abs().amax(1).gt(0).any() or not live.any(), layer.name


@pytest.mark.parametrize("name", SMALL)
def test_every_small_network_projects_from_its_logits(name: str) -> None:
    net = deconvviz.load(name, weights="random")
    x = torch.randn(1, net.card.channels, *net.card.input_size, generator=torch.Generator().manual_seed(0))
    p = deconvviz.project(net, x, net.layers()[-1].name, top=1, method="gradient")
    leaf = x.clone().requires_grad_()
    logit = net.module(leaf)[0, int(p.units[0])]
    (want,) = torch.autograd.grad(logit, leaf)
    error = (p.pixels[0] - want[0] * logit.detach()).norm() / (want[0] * logit.detach()).norm()
    assert error < 1e-4


class Mixed(nn.Module):
    """Shuffled maps and a block with channels last, as in ShuffleNet and ConvNeXt."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, stride=2)
        self.b = nn.Conv2d(6, 6, (3, 1), padding=(1, 0), groups=2)
        self.norm, self.linear = nn.LayerNorm(6), nn.Linear(6, 6)
        self.end = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (1, 6, h, w)."""
        y = self.a(x)
        n, c, h, w = y.shape
        y = self.b(y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))
        z = self.linear(self.norm(y.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        out: torch.Tensor = self.end(y + z)
        return out


def test_fields_pass_through_values_of_other_ranks_and_orders() -> None:
    torch.manual_seed(0)
    model = Mixed().double().eval()
    net = deconvviz.Network(model, (15, 13))
    x = torch.randn(1, 3, 15, 13, dtype=torch.float64, requires_grad=True)
    maps = model(x)[0]
    assert_fields(net, "end", maps, x)


def test_statistics_of_the_picture_itself_read_all_of_it() -> None:
    net = deconvviz.Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4)), 8)
    assert deconvviz.receptive_field(net, "1", (0, 0)) == (0, 0, 8, 8)


@pytest.mark.parametrize("place", [(0,), (0, 0, 0), None, ("a", 1), (1.5, 0), 5])
def test_receptive_field_refuses_what_is_no_place(place: Any) -> None:
    net = deconvviz.Network(nn.Conv2d(3, 4, 3), 8)
    with pytest.raises(deconvviz.DeconvvizError, match="two whole numbers"):
        deconvviz.receptive_field(net, net.module, place)
