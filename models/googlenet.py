"""GoogLeNet for 32² pictures, the small form (Szegedy et al. 2014): BN everywhere, two 3×3 for the 5×5."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn

from deconvviz.card import Card

from ._common import cifar_card, kaiming

NAMES = ("googlenet_32",)

# inputs, 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool projection
_PLAN = {
    "a3": (192, 64, 96, 128, 16, 32, 32),
    "b3": (256, 128, 128, 192, 32, 96, 64),
    "a4": (480, 192, 96, 208, 16, 48, 64),
    "b4": (512, 160, 112, 224, 24, 64, 64),
    "c4": (512, 128, 128, 256, 24, 64, 64),
    "d4": (512, 112, 144, 288, 32, 64, 64),
    "e4": (528, 256, 160, 320, 32, 128, 128),
    "a5": (832, 256, 160, 320, 32, 128, 128),
    "b5": (832, 384, 192, 384, 48, 128, 128),
}


def _unit(inputs: int, maps: int, kernel: int, bias: bool = True) -> nn.Sequential:
    conv = nn.Conv2d(inputs, maps, kernel, padding=kernel // 2, bias=bias)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(maps), relu=nn.ReLU(inplace=True)))


class Inception(nn.Module):
    """Four branches side by side, concatenated: (N, inputs, H, W) to (N, maps, H, W)."""

    def __init__(self, inputs: int, one: int, reduce3: int, three: int, reduce5: int, five: int, pool: int) -> None:
        super().__init__()
        self.branch1 = _unit(inputs, one, 1)
        self.branch2 = nn.Sequential(_unit(inputs, reduce3, 1), _unit(reduce3, three, 3))
        self.branch3 = nn.Sequential(_unit(inputs, reduce5, 1), _unit(reduce5, five, 3), _unit(five, five, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), _unit(inputs, pool, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The branches' maps, concatenated."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class GoogLeNet32(nn.Module):
    """(N, 3, 32, 32) to (N, classes) logits; 6,258,500 parameters with 100 classes."""

    def __init__(self, classes: int = 100) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict(stem=_unit(3, 192, 3))
        for name, numbers in _PLAN.items():
            layers[name] = Inception(*numbers)
            if name in ("b3", "e4"):
                layers[f"pool{name[1]}"] = nn.MaxPool2d(3, 2, 1)
        self.features = nn.Sequential(layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(1024, classes)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of pictures (N, 3, H, W)."""
        x = torch.flatten(self.avgpool(self.features(x)), 1)
        return cast(Tensor, self.fc(self.dropout(x)))


def build(name: str, classes: int = 100) -> nn.Module:
    """The small GoogLeNet, freshly initialised."""
    return GoogLeNet32(classes)


def card(name: str) -> Card:
    """Facts about the small GoogLeNet. One convolution comes before the modules: no layer `2`."""
    modules = {f"{n[1]}{n[0]}": f"features.{n}" for n in _PLAN}
    last = {"3": "features.b3", "4": "features.e4", "5": "features.b5"}
    return cifar_card(name, {"conv1": "features.stem.conv", "1": "features.stem.conv"} | modules | last)
