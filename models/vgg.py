"""VGG for 32² pictures, the small form: Simonyan & Zisserman (2014), A, B, D, E, plain and BN."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn

from deconvviz.card import Card

from ._common import cifar_card, depth_of, kaiming

NAMES = ("vgg11_32", "vgg11_bn_32", "vgg13_32", "vgg13_bn_32", "vgg16_32", "vgg16_bn_32", "vgg19_32", "vgg19_bn_32")

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_MAPS = (64, 128, 256, 512, 512)


class VGG32(nn.Module):
    """(N, 3, 32, 32) to (N, classes) logits. `depth` is 11, 13, 16 or 19."""

    def __init__(self, depth: int, norm: bool, classes: int = 100) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = 3
        for block, (count, maps) in enumerate(zip(CONVOLUTIONS[depth], _MAPS, strict=True), 1):
            for i in range(1, count + 1):
                layers[f"conv{block}_{i}"] = nn.Conv2d(inputs, maps, 3, padding=1)
                if norm:
                    layers[f"bn{block}_{i}"] = nn.BatchNorm2d(maps)
                layers[f"relu{block}_{i}"] = nn.ReLU(inplace=True)
                inputs = maps
            layers[f"pool{block}"] = nn.MaxPool2d(2)
        self.features = nn.Sequential(layers)
        self.classifier = nn.Sequential(
            OrderedDict(
                fc6=nn.Linear(512, 4096),
                relu6=nn.ReLU(inplace=True),
                drop6=nn.Dropout(0.5),
                fc7=nn.Linear(4096, 4096),
                relu7=nn.ReLU(inplace=True),
                drop7=nn.Dropout(0.5),
                fc8=nn.Linear(4096, classes),
            )
        )
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of pictures (N, 3, 32, 32)."""
        return cast(Tensor, self.classifier(torch.flatten(self.features(x), 1)))


def build(name: str, classes: int = 100) -> nn.Module:
    """The VGG that `name` says (`vgg16_32`, `vgg16_bn_32`), freshly initialised."""
    return VGG32(depth_of(name), "_bn" in name, classes)


def card(name: str) -> Card:
    """Facts about a small VGG. `1` to `5` are the last convolutions of the blocks."""
    counts = CONVOLUTIONS[depth_of(name)]
    paths = {f"conv{b}_{i}": f"features.conv{b}_{i}" for b, n in enumerate(counts, 1) for i in range(1, n + 1)}
    last = {str(b): f"features.conv{b}_{n}" for b, n in enumerate(counts, 1)}
    tops = {f"fc{i}": f"classifier.fc{i}" for i in (6, 7, 8)} | {str(i): f"classifier.fc{i}" for i in (6, 7)}
    return cifar_card(name, paths | last | tops)
