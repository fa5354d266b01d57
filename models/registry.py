"""All networks by name. Listing names is free of torch; a family is imported when it is first asked for.

A new network is one row here and, in its family's module, `build(name, **options) -> nn.Module` and
`card(name) -> Card`. Optional in a family: `card_for(name, weights) -> Card`, `adapt(name, state) ->
state`, for files with extra entries, and `fetch(name, weights) -> state`, for weights that do not ship.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from deconvviz.card import Card

if TYPE_CHECKING:
    from torch import Tensor, nn

_DEPTHS = (18, 34, 50, 101, 152)
_FAMILIES: dict[str, tuple[str, ...]] = {
    "zfnet": ("zfnet",),
    "zfnet512": ("zfnet512",),
    "lenet": ("lenet",),
    "alexnet": ("alexnet_28",),
    "vgg": tuple(f"vgg{d}{bn}_32" for d in (11, 13, 16, 19) for bn in ("", "_bn")),
    "googlenet": ("googlenet_32",),
    "resnet": tuple(f"resnet{d}_32" for d in _DEPTHS),
    "resnext": tuple(f"resnext{d}_32" for d in (50, 101, 152)),
    "seresnet": tuple(f"seresnet{d}_32" for d in _DEPTHS),
    "imagenet": (
        "alexnet",
        *(f"vgg{d}{bn}" for d in (11, 13, 16, 19) for bn in ("", "_bn")),
        "googlenet",
        *(f"resnet{d}" for d in _DEPTHS),
        "resnext50",
        "resnext101",
    ),
    "imagenet_timm": (*(f"seresnet{d}" for d in _DEPTHS), "senet154"),
}
_FAMILY_OF = {name: family for family, members in _FAMILIES.items() for name in members}


def names() -> list[str]:
    """Names of all networks, in the order of the table."""
    return list(_FAMILY_OF)


def _family(name: str) -> ModuleType:
    if name not in _FAMILY_OF:
        raise KeyError(name)
    return importlib.import_module(f".{_FAMILY_OF[name]}", __package__)


def card(name: str, weights: str | None = None) -> Card:
    """Facts about the network `name`, with these weights. Raises KeyError for an unknown name."""
    family = _family(name)
    if weights is not None and hasattr(family, "card_for"):
        return cast(Card, family.card_for(name, weights))
    return cast(Card, family.card(name))


def build(name: str, **options: object) -> nn.Module:
    """The network `name`, freshly initialised. Options are the family's own (`classes`, `fc`, …).

    Raises KeyError for an unknown name, TypeError for an option that the network does not have.
    """
    return cast("nn.Module", _family(name).build(name, **options))


def weights_path(name: str, weights: str = "bundled") -> Path | None:
    """Where the file of the weights that ship lies, or None if the card names none."""
    for entry in card(name).available:
        if entry.name == weights and entry.name == "bundled" and entry.location:
            return Path(__file__).parent / "weights" / entry.location
    return None


def adapter(name: str) -> Callable[[str, dict[str, Tensor]], dict[str, Tensor]] | None:
    """The family's `adapt`, if it has one."""
    return getattr(_family(name), "adapt", None)


def fetcher(name: str) -> Callable[[str, str], dict[str, Tensor]] | None:
    """The family's `fetch`, if its weights do not ship."""
    return getattr(_family(name), "fetch", None)
