"""A network that tells colours apart by construction, and a folder of pictures of three colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deconvviz import Network
from deconvviz.paper.sources import Sources

COLOURS = ("blue", "green", "red")


class Colours(nn.Module):
    """Two convolutions that keep the channels apart, a pool between them, means, and one number a colour."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = nn.Conv2d(6, 4, 3, padding=1)
        self.fc3 = nn.Linear(4, 3)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for conv in (self.conv1, self.conv2):
                conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator) * 0.02)
                conv.bias.zero_()  # type: ignore[union-attr]
                for unit in range(3):
                    conv.weight[unit, unit, 1, 1] += 1
            self.fc3.weight.copy_(torch.tensor([[0.0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]]) * 3)
            self.fc3.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool1(self.conv1(x).relu())
        x = self.conv2(x).relu()
        return self.fc3(x.mean((2, 3)))  # type: ignore[no-any-return]


def colours(labels: tuple[str, ...] = COLOURS) -> Network:
    """The network as one with a card."""
    aliases = {"1": "conv1", "2": "conv2", "3": "fc3"}
    return Network(Colours().eval(), 24, (0.5,) * 3, (0.25,) * 3, labels, aliases)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three categories of ten pictures: noise with a square of one colour."""
    root = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for channel, name in zip((2, 1, 0), COLOURS, strict=True):
        (root / name).mkdir()
        for number in range(10):
            picture = rng.integers(60, 140, (26, 28, 3), dtype=np.uint8)
            top, left = rng.integers(2, 10, 2)
            picture[top : top + 12, left : left + 12, channel] = 250
            Image.fromarray(picture).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def sources(folder: Path) -> Sources:
    """The network and the folder."""
    return Sources(colours, data=folder)
