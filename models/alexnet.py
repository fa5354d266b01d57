"""AlexNet for 28² grey pictures, the small form (after Krizhevsky et al. 2012)."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn

from deconvviz.card import Card

from ._common import fashion_card, kaiming, plain_aliases

NAMES = ("alexnet_28",)


class AlexNet28(nn.Module):
    """(N, 1, 28, 28) to (N, classes) logits; 24,351,434 parameters with 10 classes."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        plan = (
            (1, 96, 11, True),
            (96, 256, 3, True),
            (256, 384, 3, False),
            (384, 384, 3, False),
            (384, 256, 3, True),
        )
        for i, (inputs, maps, kernel, pooled) in enumerate(plan, 1):
            layers[f"conv{i}"] = nn.Conv2d(inputs, maps, kernel, padding=1)
            layers[f"relu{i}"] = nn.ReLU(inplace=True)
            if pooled:
                layers[f"pool{i}"] = nn.MaxPool2d(2)
        self.features = nn.Sequential(layers)
        self.classifier = nn.Sequential(
            OrderedDict(
                drop6=nn.Dropout(0.5),
                fc6=nn.Linear(1024, 4096),
                relu6=nn.ReLU(inplace=True),
                drop7=nn.Dropout(0.5),
                fc7=nn.Linear(4096, 4096),
                relu7=nn.ReLU(inplace=True),
                fc8=nn.Linear(4096, classes),
            )
        )
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of pictures (N, 1, 28, 28)."""
        return cast(Tensor, self.classifier(torch.flatten(self.features(x), 1)))


def build(name: str, classes: int = 10) -> nn.Module:
    """The small AlexNet, freshly initialised."""
    return AlexNet28(classes)


def card(name: str) -> Card:
    """Facts about the small AlexNet: the ten classes of Fashion-MNIST; no weights ship."""
    return fashion_card(name, plain_aliases(5, 8, "features.", "classifier."))
