"""ResNet for 32² pictures, the small form (after He et al. 2015): 3×3 stem, no pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from deconvviz.card import Card

from ._common import cifar_card, depth_of, kaiming, stage_aliases

NAMES = ("resnet18_32", "resnet34_32", "resnet50_32", "resnet101_32", "resnet152_32")

Block = Callable[[int, int, int], nn.Module]
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def conv_bn(inputs: int, maps: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = False) -> nn.Sequential:
    """A "same" convolution and its BatchNorm."""
    conv = nn.Conv2d(inputs, maps, kernel, stride, kernel // 2, groups=groups, bias=bias)
    return nn.Sequential(conv, nn.BatchNorm2d(maps))


class Residual(nn.Module):
    """`relu(body(x) + shortcut(x))`; the shortcut is projected where shape or stride changes."""

    def __init__(self, body: nn.Module, inputs: int, maps: int, stride: int) -> None:
        super().__init__()
        self.body = body
        same = stride == 1 and inputs == maps
        self.shortcut: nn.Module = nn.Identity() if same else conv_bn(inputs, maps, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, maps, H / stride, W / stride)."""
        return cast(Tensor, self.relu(self.body(x) + self.shortcut(x)))


def basic(inputs: int, width: int, stride: int) -> Residual:
    """Two 3×3 convolutions."""
    body = nn.Sequential(conv_bn(inputs, width, 3, stride), nn.ReLU(inplace=True), conv_bn(width, width, 3))
    return Residual(body, inputs, width, stride)


def bottleneck(inputs: int, width: int, stride: int) -> Residual:
    """1×1, 3×3 with the stride, 1×1 to four times the width."""
    body = nn.Sequential(
        conv_bn(inputs, width, 1),
        nn.ReLU(inplace=True),
        conv_bn(width, width, 3, stride),
        nn.ReLU(inplace=True),
        conv_bn(width, 4 * width, 1),
    )
    return Residual(body, inputs, 4 * width, stride)


class Staged(nn.Module):
    """Stem, four stages of residual blocks (widths 64 to 512), global average, one linear layer.

    (N, 3, 32, 32) to (N, classes) logits. `block(inputs, width, stride)` makes one block, of `expansion ·
    width` maps; `bias` is the stem's.
    """

    def __init__(self, block: Block, expansion: int, blocks: tuple[int, ...], classes: int, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        inputs = 64
        for stage, count in enumerate(blocks):
            width = 64 * 2**stage
            row = nn.Sequential()
            for i in range(count):
                row.append(block(inputs, width, 2 if stage and not i else 1))
                inputs = expansion * width
            self.add_module(f"layer{stage + 1}", row)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of pictures (N, 3, H, W)."""
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return cast(Tensor, self.fc(torch.flatten(self.avgpool(x), 1)))


def build(name: str, classes: int = 100) -> nn.Module:
    """The ResNet that `name` says (`resnet50_32`), freshly initialised."""
    depth = depth_of(name)
    block, expansion = (basic, 1) if depth < 50 else (bottleneck, 4)
    return Staged(block, expansion, BLOCKS[depth], classes)


def card(name: str) -> Card:
    """Facts about a small ResNet; `1` to `5` are the stem and the stages."""
    return cifar_card(name, stage_aliases("conv1"))
