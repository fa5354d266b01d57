"""ZFNet-512 of the ONNX Model Zoo: public ImageNet weights for a network close to, but not, the paper's."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from deconvviz.card import Card, Weights

from ._common import imagenet_labels, kaiming, plain_aliases
from .downloads import fetch_checked, hub_path

NAMES = ("zfnet512",)

FILE = "zfnet512-12.onnx"
URL = f"https://huggingface.co/onnxmodelzoo/zfnet512-12/resolve/main/{FILE}"
SHA256 = "c975ca6a24c0a2e1584c6f82667e0ac9c06084fc7769d267f71b4a154d1f1c72"
_PLAN = ((3, 96, 7, 2, 0), (96, 256, 5, 2, 0), (256, 512, 3, 1, 1), (512, 512, 3, 1, 1), (512, 512, 3, 1, 1))
_LINEAR = {"fc6": (18432, 4096), "fc7": (4096, 1024), "fc8": (1024, 1000)}


class ZFNet512(nn.Module):
    """(N, 3, 224, 224) RGB in 0..255 minus the mean, to (N, classes) logits; 87,250,536 parameters.

    Differs from Fig. 3: no padding in conv1, normalisation before pooling with alpha 5e-4, floor-mode pools, 512 maps
    in conv3 to conv5, a 2/2 last pool, fc7 of 1024.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i, (inputs, maps, kernel, stride, padding) in enumerate(_PLAN, 1):
            layers[f"conv{i}"] = nn.Conv2d(inputs, maps, kernel, stride, padding)
            layers[f"relu{i}"] = nn.ReLU(inplace=True)
            if i <= 2:
                layers[f"norm{i}"] = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
                layers[f"pool{i}"] = nn.MaxPool2d(3, 2)
        layers["pool5"] = nn.MaxPool2d(2, 2)
        self.features = nn.Sequential(layers)
        self.classifier = nn.Sequential(
            OrderedDict(
                fc6=nn.Linear(*_LINEAR["fc6"]),
                relu6=nn.ReLU(inplace=True),
                fc7=nn.Linear(*_LINEAR["fc7"]),
                relu7=nn.ReLU(inplace=True),
                fc8=nn.Linear(1024, classes),
            )
        )
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        return cast(Tensor, self.classifier(torch.flatten(self.features(x), 1)))


def build(name: str, classes: int = 1000) -> nn.Module:
    """ZFNet-512, freshly initialised."""
    return ZFNet512(classes)


def read_onnx(path: Path) -> dict[str, Tensor]:
    """State dict of the ONNX file; conv1's input channels are reversed: the network takes RGB, not BGR.

    Raises ImportError without the package `onnx`, ValueError if an initialiser is missing.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise ImportError("reading zfnet512 needs the package onnx: pip install 'deconvviz[onnx]'") from error
    values = {i.name: i for i in onnx.load(str(path)).graph.initializer}
    state: dict[str, Tensor] = {}
    for layer in [*(f"conv{i}" for i in range(1, 6)), *_LINEAR]:
        part = "features" if layer.startswith("conv") else "classifier"
        for short, long in (("w", "weight"), ("b", "bias")):
            name = f"gpu_0/{layer}_{short}_0"
            if name not in values:
                raise ValueError(f"{path} is not ZFNet-512: it has no initialiser {name}")
            state[f"{part}.{layer}.{long}"] = torch.from_numpy(numpy_helper.to_array(values[name]).copy())
    state["features.conv1.weight"] = state["features.conv1.weight"].flip(1)
    return state


def fetch(name: str, weights: str) -> dict[str, Tensor]:
    """The ImageNet weights from torch hub's folder, downloaded if missing, hash checked."""
    return read_onnx(fetch_checked(URL, SHA256))


def file(name: str, weights: str) -> Path:
    """Where that file belongs."""
    return hub_path(URL)


def card(name: str) -> Card:
    """Facts about ZFNet-512: resized to 224² without keeping the aspect, pixels 0..255, mean subtracted."""
    weights = Weights(
        "imagenet", f"ONNX Model Zoo, {FILE}", "MIT", "55.97 % top-1, 79.41 % top-5 (ImageNet)", URL, SHA256
    )
    return Card(
        name=name,
        labels=imagenet_labels(),
        input_size=(224, 224),
        mean=(123.68, 116.779, 103.939),
        std=(1.0, 1.0, 1.0),
        aliases=plain_aliases(5, 8, "features.", "classifier."),
        weights=weights,
        available=(weights,),
        value_range=(0.0, 255.0),
    )
