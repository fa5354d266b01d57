"""What several families share: labels, initialisation, the index of shipped weights."""

from __future__ import annotations

import json
import re
from pathlib import Path

from torch import nn

from deconvviz.card import Card, Weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
FASHION_MEAN, FASHION_STD = (0.2860,), (0.3530,)
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
CIFAR100 = tuple(
    """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
    man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
    pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
    tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm""".split()
)


def kaiming(module: nn.Module) -> None:
    """He initialisation of every convolution (fan out), N(0, 0.01) for linear layers, biases 0."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(m, nn.Linear):
            nn.init.normal_(m.weight, 0.0, 0.01)
        else:
            continue
        if m.bias is not None:
            nn.init.zeros_(m.bias)


def bundled(name: str) -> tuple[Weights, ...]:
    """The weights of `name` that ship, as `weights/index.json` states them; empty if there are none."""
    index = Path(__file__).parent / "weights" / "index.json"
    entry = json.loads(index.read_text(encoding="utf-8")).get(name) if index.is_file() else None
    if entry is None:
        return ()
    return (
        Weights(
            name="bundled",
            source=entry["source"],
            licence=entry["licence"],
            accuracy=entry.get("accuracy"),
            location=entry["file"],
            sha256=entry.get("sha256"),
        ),
    )


def imagenet_labels() -> tuple[str, ...]:
    """The 1000 ImageNet class names, in output order (torchvision's)."""
    from torchvision.models import AlexNet_Weights

    return tuple(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])


def fashion_card(name: str, aliases: dict[str, str]) -> Card:
    """The card of a small form for 28² grey pictures with the ten classes of Fashion-MNIST."""
    weights = bundled(name)
    return Card(
        name=name,
        labels=FASHION,
        input_size=(28, 28),
        mean=FASHION_MEAN,
        std=FASHION_STD,
        aliases=aliases,
        weights=weights[0] if weights else None,
        available=weights,
        resize=28,
    )


def cifar_card(name: str, aliases: dict[str, str]) -> Card:
    """The card of a small form for 32² colour pictures with the 100 classes of CIFAR-100; no weights ship."""
    return Card(
        name=name,
        labels=CIFAR100,
        input_size=(32, 32),
        mean=CIFAR100_MEAN,
        std=CIFAR100_STD,
        aliases=aliases,
        resize=32,
    )


def plain_aliases(maps: int, layers: int, features: str = "", classifier: str = "") -> dict[str, str]:
    """`conv1` to the last of `maps` convolutions, `fc…` for the linear layers after them, in these parts of a network.

    Their numbers are aliases too, up to 7: the paper counts layers so, and calls the eighth, the logits, by no number.
    """
    names = {f"conv{i}": f"{features}conv{i}" for i in range(1, maps + 1)}
    names |= {f"fc{i}": f"{classifier}fc{i}" for i in range(maps + 1, layers + 1)}
    return names | {alias[-1]: path for alias, path in names.items() if alias[-1] <= "7"}


def stage_aliases(stem: str) -> dict[str, str]:
    """A ResNet's `1` to `5`: the stem and the four stages, which the paper calls `conv2_x` to `conv5_x`."""
    stages = {f"conv{i + 1}_x": f"layer{i}" for i in range(1, 5)}
    return {"conv1": stem} | stages | {"1": stem} | {str(i + 1): f"layer{i}" for i in range(1, 5)}


def depth_of(name: str) -> int:
    """The first number in a network's name: 50 of `resnet50_32`."""
    digits = re.search(r"\d+", name)
    assert digits is not None, name
    return int(digits.group())
