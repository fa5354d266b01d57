"""SE networks for ImageNet from timm (an extra); each depth takes the one of timm's two that has weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.card import Card, Weights

from ._common import IMAGENET_MEAN, IMAGENET_STD, imagenet_labels, stage_aliases
from .downloads import fetch_checked, hub_path

NAMES = ("seresnet18", "seresnet34", "seresnet50", "seresnet101", "seresnet152", "senet154")

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
    return dict(torch.load(fetch_checked(_url(name)), map_location="cpu", weights_only=True))


def file(name: str, weights: str) -> Path | None:
    """Where that file belongs; None without timm, which knows."""
    try:
        return hub_path(_url(name))
    except ImportError:
        return None


def _url(name: str) -> str:
    return str(_timm().get_pretrained_cfg(_THEIRS[name]).url)


def card(name: str) -> Card:
    """Facts as timm states them (written out, so that listing them needs no timm), for pictures of 224².

    timm resizes all but senet154 bicubically; here pictures are resized bilinearly, as everywhere.
    """
    stem = "conv1"
    if _THEIRS[name].startswith("legacy"):
        stem = "layer0.conv3" if name == "senet154" else "layer0.conv1"
    weights = Weights("imagenet", f"timm {_THEIRS[name]}", "apache-2.0", location=f"timm/{_THEIRS[name]}")
    return Card(
        name=name,
        labels=imagenet_labels(),
        input_size=(224, 224),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        aliases=stage_aliases(stem),
        weights=weights,
        available=(weights,),
        resize=256,
    )
