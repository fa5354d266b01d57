"""SE networks for ImageNet from timm (an extra). Of timm's two SE-ResNets each depth takes the one with weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.card import Card, Weights

from ._common import fetch_file, imagenet_labels, stage_aliases

_THEIRS = {
    "seresnet18": "legacy_seresnet18.in1k",
    "seresnet34": "legacy_seresnet34.in1k",
    "seresnet50": "seresnet50.ra2_in1k",
    "seresnet101": "legacy_seresnet101.in1k",
    "seresnet152": "legacy_seresnet152.in1k",
    "senet154": "legacy_senet154.in1k",
}


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise ImportError("this network needs the package timm: pip install 'deconvviz[timm]'") from error
    return timm


def build(name: str, classes: int = 1000) -> nn.Module:
    """timm's own model without weights."""
    model: nn.Module = _timm().create_model(_THEIRS[name], pretrained=False, num_classes=classes)
    return model


def fetch(name: str, weights: str) -> dict[str, Tensor]:
    """timm's file from torch hub's folder, downloaded if missing, its hash (in its name) checked."""
    url = _timm().get_pretrained_cfg(_THEIRS[name]).url
    file = url.rsplit("/", 1)[-1]
    prefix = file.rsplit("-", 1)[-1].partition(".")[0]
    return dict(torch.load(fetch_file(url, file, prefix), map_location="cpu", weights_only=True))


def card(name: str) -> Card:
    """Facts as timm states them, for pictures of 224²."""
    theirs = _THEIRS[name]
    config = _timm().get_pretrained_cfg(theirs)
    weights = Weights("imagenet", f"timm {theirs}", config.license or "unknown", None, config.url)
    size = config.input_size[-1]
    return Card(
        name=name,
        labels=imagenet_labels(),
        input_size=(size, size),
        mean=tuple(config.mean),
        std=tuple(config.std),
        aliases=stage_aliases("layer0.conv1" if theirs.startswith("legacy") else "conv1")
        if name != "senet154"
        else stage_aliases("layer0.conv3"),
        weights=weights,
        available=(weights,),
        resize=math.floor(size / config.crop_pct),
    )
