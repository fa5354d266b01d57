"""Networks of the zoo, by their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from deconvviz.card import Card, Weights
from deconvviz.errors import DeconvvizValueError, UnknownNameError, WeightsError
from deconvviz.models import registry
from deconvviz.network.origins.base import Found, Wanted, looks_like_a_path, random_weights, seeded
from deconvviz.network.origins.meant import meant
from deconvviz.network.seen import Seen, seen_from
from deconvviz.network.weights import fitted_keys, load_state, read_weights


def find(wanted: Wanted) -> Found:
    """The network of this name, with the weights that ship, that are fetched, random ones, or those of a file."""
    name, card = wanted.name, _card(wanted.name)
    source = wanted.weights if wanted.weights is not None else _default(card)
    card = registry.card(name, source)
    options = dict(wanted.options)
    seen: Seen | None = Seen.nothing()
    if wanted.random:
        module = seeded(wanted.seed, lambda: _build(name, options))
        chosen = random_weights(wanted.seed)
    else:
        state, facts, chosen = _state(name, card, source)
        options = {**facts.get("options", {}), **options}
        module = _build(name, options)
        state, note = fitted_keys(state, module)
        adapt = registry.adapter(name)
        where = chosen.location or source
        load_state(module, adapt(name, state) if adapt else state, where, wanted.allow_nonfinite)
        if note is not None:
            said = f"{chosen.source}, its keys {note}"
            chosen = replace(chosen, source=said, note=said)
        if "labels" in facts:
            card = replace(card, labels=tuple(facts["labels"]))
        seen = seen_from(facts, where)
    if options.get("classes", len(card.labels)) != len(card.labels):
        card = replace(card, labels=())
    return Found(module, replace(card, weights=chosen), seen=seen)


def stored(name: str) -> list[tuple[Weights, Path | None]]:
    """The weights of a network of the zoo, each with where its file belongs (None where that is not known)."""
    card = _card(name)
    known = card.available or ((card.weights,) if card.weights else ())
    return [(weights, registry.weights_file(name, weights.name)) for weights in known]


def _card(name: str) -> Card:
    if name not in registry.names():
        raise UnknownNameError(
            f"unknown model '{name}'{meant(name, registry.names())} (the zoo is listed by `deconvviz models`; else "
            "torchvision:NAME, timm:NAME, hf-hub:ORG/NAME, package.module:callable, file.py:callable)"
        )
    return registry.card(name)


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


def _state(name: str, card: Card, source: str) -> tuple[dict[str, Tensor], dict[str, Any], Weights]:
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
    if not Path(source).is_file():
        unknown = Wanted(name, name, source).unknown_weights(list(known))
        raise WeightsError(str(unknown)) if looks_like_a_path(source) else unknown
    state, facts = read_weights(Path(source))
    return state, facts, Weights("file", Path(source).name, "unknown", location=source)
