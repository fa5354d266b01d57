"""SE-ResNet for 32² pictures, the small form (Hu et al. 2017): branches scaled by a gate, r = 16."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from deconvviz.card import Card

from ._common import cifar_card, depth_of, stage_aliases
from .resnet import BLOCKS, Residual, Staged, conv_bn

NAMES = ("seresnet18_32", "seresnet34_32", "seresnet50_32", "seresnet101_32", "seresnet152_32")


class Gated(nn.Module):
    """`body(x) * gate(body(x))`: one factor in 0..1 for each map, from the average of all maps."""

    def __init__(self, body: nn.Module, maps: int, reduction: int = 16) -> None:
        super().__init__()
        self.body = body
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.excite = nn.Sequential(
            nn.Linear(maps, maps // reduction),
            nn.ReLU(inplace=True),
            nn.Linear(maps // reduction, maps),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, maps, H / stride, W / stride)."""
        signal = self.body(x)
        gate = self.excite(self.squeeze(signal).flatten(1))
        return cast(Tensor, signal * gate[:, :, None, None])


def _branch(*convs: nn.Module) -> nn.Sequential:
    """Every convolution with its BatchNorm is followed by a ReLU, the last one too."""
    return nn.Sequential(*(layer for conv in convs for layer in (conv, nn.ReLU(inplace=True))))


def basic(inputs: int, width: int, stride: int) -> Residual:
    """Two 3×3 convolutions and the gate."""
    body = _branch(conv_bn(inputs, width, 3, stride, bias=True), conv_bn(width, width, 3, bias=True))
    return _residual(Gated(body, width), inputs, width, stride)


def bottleneck(inputs: int, width: int, stride: int) -> Residual:
    """1×1, 3×3 with the stride, 1×1 to four times the width, and the gate."""
    body = _branch(
        conv_bn(inputs, width, 1, bias=True),
        conv_bn(width, width, 3, stride, bias=True),
        conv_bn(width, 4 * width, 1, bias=True),
    )
    return _residual(Gated(body, 4 * width), inputs, 4 * width, stride)


def _residual(body: nn.Module, inputs: int, maps: int, stride: int) -> Residual:
    block = Residual(body, inputs, maps, stride)
    if not isinstance(block.shortcut, nn.Identity):
        block.shortcut = conv_bn(inputs, maps, 1, stride, bias=True)
    return block


def build(name: str, classes: int = 100) -> nn.Module:
    """The SE-ResNet that `name` says (`seresnet50_32`), freshly initialised."""
    depth = depth_of(name)
    block, expansion = (basic, 1) if depth < 50 else (bottleneck, 4)
    return Staged(block, expansion, BLOCKS[depth], classes, bias=True)


def card(name: str) -> Card:
    """Facts about a small SE-ResNet; `1` to `5` are the stem and the stages."""
    return cifar_card(name, stage_aliases("conv1"))
