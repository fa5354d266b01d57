"""`torchvision:NAME`: every network that torchvision builds, with its weights, transforms and class names."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision import models

from deconvviz.card import Card, Weights
from deconvviz.errors import DeconvvizValueError, UnknownNameError, WeightsError, suggest
from deconvviz.models import registry
from deconvviz.models.downloads import fetch, file_sha256, hash_in, hub_path
from deconvviz.network.origins.base import (
    Found,
    Wanted,
    built,
    classes_of,
    foreign_state,
    from_file,
    labels_for,
    random_weights,
    seeded,
)
from deconvviz.network.seen import Seen

_MEASURES = {"acc@1": "% top-1", "acc@5": "% top-5"}
_CHANGED = "the SHA-256 of the file is not that of its name: it is not torchvision's own"


def find(wanted: Wanted) -> Found:
    """The network as torchvision builds it; `weights` is a name of its enum (None: DEFAULT), "random", or a file.

    Random weights and those of a file are given the transform and class names of the default ones.
    """
    enum = _enum(wanted.name)
    _check_takes_pictures(wanted.spec, enum)
    if wanted.weights is not None:
        # As torchvision itself takes them: ResNet50_Weights.IMAGENET1K_V2.
        wanted = replace(wanted, weights=wanted.weights.removeprefix(f"{enum.__name__}."))
    own = _own_file(enum, wanted.file) if wanted.file is not None else None
    if wanted.random or (wanted.file is not None and own is None):
        module = built(wanted, lambda: seeded(wanted.seed, lambda: _plain(wanted)))
        member, seen = enum["DEFAULT"] if len(enum) else None, None
        if wanted.file is not None:
            chosen, seen, _ = from_file(module, wanted.file, wanted.allow_nonfinite)
        else:
            chosen, seen = random_weights(wanted.seed), Seen.nothing()
    else:
        member, seen = own or _member(wanted, enum), None
        path = wanted.file or _fetched(member.url)
        state = foreign_state(path)
        with _served(member, state), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = built(wanted, lambda: models.get_model(wanted.name, weights=member, **wanted.options))
        chosen = _facts(member, path)
    labels = labels_for(member.meta.get("categories") if member else None, classes_of(module))
    # Input size, mean and std are the transform's to say.
    card = Card(wanted.name, labels, (224, 224), (), (), _aliases(wanted.name, module), chosen, spec=wanted.spec)
    return Found(module, card, member.transforms() if member else None, seen)


def stored(name: str) -> list[tuple[Weights, Path | None]]:
    """The weights that torchvision has for a network, each with where its file belongs."""
    return [(_facts(member), hub_path(member.url)) for member in _enum(name)]


def _enum(name: str) -> Any:
    known = models.list_models()
    if name not in known:
        raise UnknownNameError(f"torchvision has no model '{name}'{suggest(name, known)}")
    return models.get_model_weights(name)


# What networks take that are no pictures one by one, by the module of torchvision that has their weights.
_NO_PICTURES = {"video": "videos (N, C, T, H, W)", "optical_flow": "pairs of pictures"}


def _check_takes_pictures(spec: str, enum: Any) -> None:
    """Raise `DeconvvizValueError` for a network of something else than pictures."""
    for part, taken in _NO_PICTURES.items():
        if f".{part}." in enum.__module__:
            raise DeconvvizValueError(f"{spec} takes {taken}; allowed: networks of single pictures (N, C, H, W)")


def _member(wanted: Wanted, enum: Any) -> Any:
    """The weights of this name, in capital or small letters."""
    known = list(enum.__members__)
    if not known:
        raise WeightsError(f"torchvision has no weights for {wanted.name}; give weights='random' or the path of a file")
    given = (wanted.weights or "DEFAULT").upper()
    if given not in known:
        raise wanted.unknown_weights(known)
    return enum[given]


def _own_file(enum: Any, path: Path) -> Any:
    """The weights that a file is, by its name and hash; None if it is another one."""
    for member in enum:
        if path.name == hub_path(member.url).name and path.is_file():
            return member if file_sha256(path).startswith(hash_in(member.url)) else None
    return None


def _fetched(url: str) -> Path:
    try:
        return fetch(url)
    except OSError as error:
        raise WeightsError(str(error)) from error


def _facts(member: Any, path: Path | None = None) -> Weights:
    metrics: Mapping[str, float] = next(iter(member.meta.get("_metrics", {}).values()), {})
    accuracy = ", ".join(f"{value} {_MEASURES.get(what, what)}" for what, value in metrics.items()) or None
    note = None
    if path is not None and not file_sha256(path).startswith(hash_in(member.url)):
        note = f"{path.name}: {_CHANGED}"
    source = f"torchvision {type(member).__name__}.{member.name}"
    return Weights(member.name, source, "BSD-3-Clause (torchvision)", accuracy, member.url, note=note)


def _plain(wanted: Wanted) -> nn.Module:
    """The network without weights, nor those of its backbone that torchvision would fetch."""
    options: dict[str, Any] = {"weights": None, **wanted.options}
    taken = inspect.signature(models.get_model_builder(wanted.name)).parameters
    if "weights_backbone" in taken:
        options.setdefault("weights_backbone", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of GoogLeNet, that its initialisation is slow
        module: nn.Module = models.get_model(wanted.name, **options)
    return module


@contextmanager
def _served(member: Any, state: Mapping[str, Tensor]) -> Iterator[None]:
    """While it lasts torchvision's builder takes `state` for these weights.

    It knows what its weights need (classes, heads to drop, inputs converted), and would unpickle their file.
    """
    member.get_state_dict = lambda *_, **__: dict(state)
    try:
        yield
    finally:
        del member.get_state_dict


def _aliases(name: str, module: nn.Module) -> dict[str, str]:
    """Those of the zoo, where it has the same network."""
    theirs = {"resnext50_32x4d": "resnext50", "resnext101_32x8d": "resnext101"}.get(name, name)
    if theirs not in registry.names():
        return {}
    paths = {path for path, _ in module.named_modules()}
    return {alias: path for alias, path in registry.card(theirs).aliases.items() if path in paths}
