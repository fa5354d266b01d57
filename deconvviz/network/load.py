"""The ways to get a network: by its name in the zoo, or from a callable of one's own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.card import Card, Weights
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnknownNameError, WeightsError, suggest
from deconvviz.models import registry
from deconvviz.network.network import Network
from deconvviz.network.seen import Seen, seen_from
from deconvviz.network.weights import load_state, read_weights


def load(name: str, weights: str | os.PathLike[str] | None = None, *, seed: int = 0, **options: Any) -> Network:
    """The network `name` of the zoo, in eval mode.

    `weights`: "bundled" (ships with the project), "imagenet" (fetched once, hash checked), "random" (from `seed`), or
    the path of a .safetensors file or of a torch state dict. None takes "bundled" if there is one, else "imagenet".
    `options` go to the network (`classes`, `fc`, …).

    Raises `UnknownNameError` (a model, or a name of weights), `WeightsError` (missing, damaged or not
    matching, with the keys), `DeconvvizValueError`.

    >>> net = deconvviz.load("zfnet")
    >>> net.card.weights.name, len(net.card.labels)
    ('bundled', 101)
    >>> deconvviz.load("resnet18_32", "random", seed=1, classes=10).module.training
    False
    """
    if name not in registry.names():
        raise UnknownNameError(f"unknown model '{name}'{suggest(name, registry.names())}")
    card = registry.card(name)
    source = os.fspath(weights) if weights is not None else _default(card)
    card = registry.card(name, source)
    if source == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = _build(name, options)
        chosen = Weights("random", f"random, seed {seed}", "none")
        seen: Seen | None = Seen.nothing()
    else:
        state, facts, chosen = _find(name, card, source)
        options = {**facts.get("options", {}), **options}
        module = _build(name, options)
        adapt = registry.adapter(name)
        load_state(module, adapt(name, state) if adapt else state, chosen.location or source)
        if "labels" in facts:
            card = replace(card, labels=tuple(facts["labels"]))
        seen = seen_from(facts, chosen.location or source)
    if options.get("classes", len(card.labels)) != len(card.labels):
        card = replace(card, labels=())
    net = Network(module.eval(), card=replace(card, weights=chosen))
    net.seen = seen
    return net


def _default(card: Card) -> str:
    known = [w.name for w in card.available]
    for choice in ("bundled", "imagenet"):
        if choice in known:
            return choice
    raise WeightsError(f"{card.name} has no trained weights of its own; give weights='random' or the path of a file")


def _build(name: str, options: Mapping[str, Any]) -> nn.Module:
    try:
        return registry.build(name, **options)
    except (TypeError, ValueError) as error:
        raise DeconvvizValueError(f"{name} cannot be built with {dict(options)}: {error}") from error
    except ImportError as error:
        raise DeconvvizValueError(f"{name} needs a package that is not installed: {error}") from error


def _find(name: str, card: Card, source: str) -> tuple[dict[str, Tensor], dict[str, Any], Weights]:
    """The state, the facts stored with it, and what the result says of its weights."""
    known = {w.name: w for w in card.available}
    if source in known:
        entry = known[source]
        path = registry.weights_path(name, source)
        if path is not None:
            state, facts = read_weights(path, entry.sha256)
            return state, facts, entry
        fetch = registry.fetcher(name)
        if fetch is None:
            raise WeightsError(f"no way to fetch the weights '{source}' of {name}")
        try:
            return fetch(name, source), {}, entry
        except (OSError, ValueError, ImportError) as error:
            raise WeightsError(str(error)) from error
    if not Path(source).exists():
        allowed = ", ".join([*known, "random"])
        near = suggest(source, [*known, "random"])
        kind = WeightsError if looks_like_a_path(source) else UnknownNameError
        raise kind(f"no weights '{source}' for {name}; allowed: {allowed}, or the path of a file{near}")
    state, facts = read_weights(Path(source))
    return state, facts, Weights("file", Path(source).name, "unknown", location=source)


def looks_like_a_path(source: str) -> bool:
    """Whether weights that are no file are meant as one, and not as a name."""
    return bool(Path(source).suffix) or len(Path(source).parts) > 1


def load_custom(
    spec: str,
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    input_size: int | Sequence[int] = 224,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
) -> Network:
    """The network that the callable `package.module:callable` returns (a Network or a module), in eval mode.

    `checkpoint`: a file as for `load`. Raises `UnknownNameError` for what cannot be imported, `WeightsError`.
    """
    module_name, colon, attribute = spec.partition(":")
    if not (module_name and colon and attribute):
        raise UnknownNameError(f"model is '{spec}'; allowed: a name of the zoo, or package.module:callable")
    here = os.getcwd()
    sys.path.insert(0, here)  # an installed command does not have the current folder on its path
    try:
        made = getattr(importlib.import_module(module_name), attribute)()
    except (ImportError, AttributeError) as error:
        raise UnknownNameError(f"cannot get '{attribute}' from '{module_name}': {error}") from error
    finally:
        sys.path.remove(here)
    if not isinstance(made, Network | nn.Module):
        raise DeconvvizTypeError(f"{spec} returned a {type(made).__name__}; allowed: a torch.nn.Module or a Network")
    net = made if isinstance(made, Network) else Network(made, input_size, mean, std)
    if checkpoint is not None:
        path = Path(checkpoint)
        state, facts = read_weights(path)
        load_state(net.module, state, str(path))
        net.seen = seen_from(facts, str(path))
        net.card = replace(net.card, weights=Weights("file", path.name, "unknown", location=str(path)))
    net.module.eval()
    return net
