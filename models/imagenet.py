"""ImageNet networks from torchvision, with its weight enums, transforms, class names and hashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from deconvviz.card import Card, Weights

from ._common import stage_aliases
from .downloads import fetch_checked, hub_path

NAMES = (
    "alexnet", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn", "googlenet",
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50", "resnext101",
)  # fmt: skip

_THEIRS = {"resnext50": "resnext50_32x4d", "resnext101": "resnext101_32x8d"}


def _enum(name: str) -> Any:
    return torchvision.models.get_model_weights(_THEIRS.get(name, name))


def _members(name: str) -> dict[str, Any]:
    """Enum members by the name that `weights=` takes: the original recipe is "imagenet"."""
    members = {}
    for member in _enum(name):
        if member.name.startswith("IMAGENET1K_V"):
            members["imagenet" if member.name == "IMAGENET1K_V1" else member.name.lower()] = member
    return members


def build(name: str, classes: int = 1000) -> nn.Module:
    """torchvision's own model without weights; GoogLeNet without its auxiliary heads."""
    options: dict[str, Any] = {"num_classes": classes}
    if name == "googlenet":
        # As torchvision builds it with its weights: they were trained on inputs in -1..1, converted inside.
        options |= {"aux_logits": False, "transform_input": True, "init_weights": True}
    model: nn.Module = torchvision.models.get_model(_THEIRS.get(name, name), weights=None, **options)
    return model


def adapt(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """GoogLeNet's files hold the auxiliary heads that the network here leaves out."""
    if name != "googlenet":
        return state
    return {key: value for key, value in state.items() if not key.startswith(("aux1.", "aux2."))}


def fetch(name: str, weights: str) -> dict[str, Tensor]:
    """torchvision's file from torch hub's folder, downloaded if missing, its hash (in its name) checked."""
    state = torch.load(fetch_checked(_members(name)[weights].url), map_location="cpu", weights_only=True)
    return dict(state)


def file(name: str, weights: str) -> Path:
    """Where that file belongs."""
    return hub_path(_members(name)[weights].url)


def card(name: str) -> Card:
    """Facts as torchvision states them, for its original weights."""
    return card_for(name, "imagenet")


def card_for(name: str, weights: str) -> Card:
    """Facts for one set of weights: the newer recipes resize differently."""
    members = _members(name)
    if weights not in members:
        weights = "imagenet"
    available = tuple(
        Weights(
            name=key,
            source=f"torchvision {type(member).__name__}.{member.name}",
            licence="BSD-3-Clause (torchvision); trained on ImageNet",
            accuracy="{acc@1} % top-1, {acc@5} % top-5 (ImageNet)".format(**member.meta["_metrics"]["ImageNet-1K"]),
            location=member.url,
        )
        for key, member in members.items()
    )
    transforms = members[weights].transforms()
    return Card(
        name=name,
        labels=tuple(members["imagenet"].meta["categories"]),
        input_size=(transforms.crop_size[0],) * 2,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        aliases=_aliases(name),
        weights=next(w for w in available if w.name == weights),
        available=available,
        resize=transforms.resize_size[0],
    )


def _aliases(name: str) -> dict[str, str]:
    if name == "alexnet":
        paths = {f"conv{i}": f"features.{at}" for i, at in enumerate((0, 3, 6, 8, 10), 1)}
        paths |= {"fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"}
        return paths | {alias[-1]: path for alias, path in paths.items() if alias != "fc8"}
    if name.startswith("vgg"):
        return _vgg_aliases(name)
    if name == "googlenet":
        blocks = {f"inception{b}": f"inception{b}" for b in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")}
        convs = {"conv1": "conv1.conv", "conv2": "conv2.conv", "conv3": "conv3.conv"}
        short = {alias.removeprefix("inception"): path for alias, path in blocks.items()}
        numbers = {
            "1": "conv1.conv",
            "2": "conv3.conv",
            "3": "inception3b",
            "4": "inception4e",
            "5": "inception5b",
        }
        return convs | short | numbers
    return stage_aliases("conv1")


def _vgg_aliases(name: str) -> dict[str, str]:
    """Positions in torchvision's `features`: convolution (BatchNorm) ReLU …, and a pool after each block."""
    from .vgg import CONVOLUTIONS

    step = 3 if name.endswith("_bn") else 2
    aliases, at = {}, 0
    for block, count in enumerate(CONVOLUTIONS[int(name[3:5])], 1):
        for i in range(1, count + 1):
            aliases[f"conv{block}_{i}"] = aliases[str(block)] = f"features.{at}"
            at += step
        at += 1
    tops = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
    return aliases | tops | {"6": tops["fc6"], "7": tops["fc7"]}
