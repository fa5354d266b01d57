"""`deconvviz models`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from deconvviz.cli import _common as common

ORDER = 160


@click.command(short_help="List the networks of the zoo and their weights.")
@click.argument("names", nargs=-1)
@common.json_option
def models(names: tuple[str, ...], as_json: bool) -> None:
    """List the networks of the zoo and their weights, or the weights of the networks NAMES: of the zoo,
    torchvision:NAME, timm:NAME or hf-hub:ORG/NAME. Weights that are not on disk are fetched when they are first asked
    for.

    \b
    Example:
      deconvviz models
      deconvviz models torchvision:resnet50 timm:convnext_tiny
    """
    if names:
        _weights_of(names, as_json)
        return
    from deconvviz.models import registry

    cards = [registry.card(name) for name in registry.names()]
    if as_json:
        click.echo(json.dumps({"models": [_facts(card) for card in cards]}))
        return
    headings = ("name", "input", "classes", "weights", "on disk", "accuracy", "licence")
    common.print_table(headings, map(_row, cards))


def _weights_of(names: tuple[str, ...], as_json: bool) -> None:
    from deconvviz.network.load import stored_weights

    found = {name: stored_weights(name) for name in names}
    if as_json:
        listed = [{"name": name, "weights": [_weights(w, path) for w, path in known]} for name, known in found.items()]
        click.echo(json.dumps({"models": listed}))
        return
    rows = [
        (name, w.name, _there(path), w.accuracy or "-", w.licence, str(path) if path is not None else "-")
        for name, known in found.items()
        for w, path in known
    ]
    common.print_table(("name", "weights", "on disk", "accuracy", "licence", "file"), rows)


def _there(path: Path | None) -> str:
    return "?" if path is None else "yes" if path.is_file() else "no"


def _weights(weights: Any, path: Path | None) -> dict[str, object]:
    on_disk = None if path is None else path.is_file()
    return {**dataclasses.asdict(weights), "file": None if path is None else str(path), "on_disk": on_disk}


def _row(card: Any) -> list[str]:
    from deconvviz.models import registry

    found = card.available or ((card.weights,) if card.weights else ())
    height, width = card.input_size
    return [
        card.name,
        f"{card.channels}x{height}x{width}",
        str(len(card.labels) or "-"),
        "\n".join(w.name for w in found) or "random",
        "\n".join(_there(registry.weights_file(card.name, w.name)) for w in found),
        "\n".join(w.accuracy or "-" for w in found),
        "\n".join(w.licence for w in found),
    ]


def _facts(card: Any) -> dict[str, object]:
    from deconvviz.models import registry

    known = card.available or ([card.weights] if card.weights else [])
    return {
        "name": card.name,
        "input_size": list(card.input_size),
        "mean": list(card.mean),
        "std": list(card.std),
        "classes": len(card.labels),
        "aliases": dict(card.aliases),
        "weights": [_weights(w, registry.weights_file(card.name, w.name)) for w in known],
    }
