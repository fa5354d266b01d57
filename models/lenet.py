"""LeNet with ReLU and max-pooling, for 28² grey pictures (after LeCun et al. 1998)."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn

from deconvviz.card import Card

from ._common import fashion_card, kaiming, plain_aliases

NAMES = ("lenet",)


class LeNet(nn.Module):
    """(N, 1, 28, 28) to (N, classes) logits; 44,426 parameters with 10 classes."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, 6, 5),
                relu1=nn.ReLU(inplace=True),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(6, 16, 5),
                relu2=nn.ReLU(inplace=True),
                pool2=nn.MaxPool2d(2),
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict(
                fc3=nn.Linear(256, 120),
                relu3=nn.ReLU(inplace=True),
                fc4=nn.Linear(120, 84),
                relu4=nn.ReLU(inplace=True),
                fc5=nn.Linear(84, classes),
            )
        )
        kaiming(self.features)  # the linear layers keep torch's default, which suits so small a net

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of pictures (N, 1, 28, 28)."""
        return cast(Tensor, self.classifier(torch.flatten(self.features(x), 1)))


def build(name: str, classes: int = 10) -> nn.Module:
    """LeNet, freshly initialised."""
    return LeNet(classes)


def card(name: str) -> Card:
    """Facts about LeNet: the ten classes of Fashion-MNIST."""
    return fashion_card(name, plain_aliases(2, 5, "features.", "classifier."))
