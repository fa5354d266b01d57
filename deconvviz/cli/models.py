"""`deconvviz models`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from deconvviz.cli import _common as common

ORDER = 160


@click.command(short_help="List the networks of the zoo and their weights.")
@common.json_option
def models(as_json: bool) -> None:
    """List the networks of the zoo and their weights.

    \b
    Example:
      deconvviz models
    """
    from deconvviz.models import registry

    cards = [registry.card(name) for name in registry.names()]
    if as_json:
        click.echo(json.dumps({"models": [_facts(card) for card in cards]}))
        return
    common.print_table(("name", "input", "classes", "weights", "accuracy", "licence"), map(_row, cards))


def _row(card: Any) -> list[str]:
    found = card.available or ((card.weights,) if card.weights else ())
    height, width = card.input_size
    return [
        card.name,
        f"{card.channels}x{height}x{width}",
        str(len(card.labels) or "-"),
        "\n".join(w.name for w in found) or "random",
        "\n".join(w.accuracy or "-" for w in found),
        "\n".join(w.licence for w in found),
    ]


def _facts(card: Any) -> dict[str, object]:
    return {
        "name": card.name,
        "input_size": list(card.input_size),
        "mean": list(card.mean),
        "std": list(card.std),
        "classes": len(card.labels),
        "aliases": dict(card.aliases),
        "weights": [dataclasses.asdict(w) for w in card.available or ([card.weights] if card.weights else [])],
    }
