"""ResNeXt for 32² pictures, the small form (after Xie et al. 2016): 32 groups of depth 4 at base width 64."""

from __future__ import annotations

from torch import nn

from deconvviz.card import Card

from ._common import cifar_card, depth_of, stage_aliases
from .resnet import Residual, Staged, conv_bn

NAMES = ("resnext50_32", "resnext101_32", "resnext152_32")

# The survey article's 152 has 4 blocks in the second stage, where ResNet-152 has 8.
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 4, 36, 3)}
_GROUPS, _DEPTH, _BASE = 32, 4, 64


def block(inputs: int, width: int, stride: int) -> Residual:
    """Grouped 1×1 (as in the survey article; dense in the paper), grouped 3×3 with the stride, dense 1×1."""
    inner = _GROUPS * (_DEPTH * width // _BASE)
    body = nn.Sequential(
        conv_bn(inputs, inner, 1, groups=_GROUPS),
        nn.ReLU(inplace=True),
        conv_bn(inner, inner, 3, stride, groups=_GROUPS),
        nn.ReLU(inplace=True),
        conv_bn(inner, 4 * width, 1),
    )
    return Residual(body, inputs, 4 * width, stride)


def build(name: str, classes: int = 100) -> nn.Module:
    """The ResNeXt that `name` says (`resnext50_32`), freshly initialised."""
    return Staged(block, 4, BLOCKS[depth_of(name)], classes)


def card(name: str) -> Card:
    """Facts about a small ResNeXt; `1` to `5` are the stem and the stages."""
    return cifar_card(name, stage_aliases("conv1"))
