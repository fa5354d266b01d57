"""`deconvviz layers`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from deconvviz.cli import _common as common

ORDER = 60


@click.command(short_help="List the layers of a network, their sizes and receptive fields.")
@common.model_options
@common.json_option
def layers(model: str, weights: str | None, checkpoint: Path | None, as_json: bool, **options: Any) -> None:
    """List the layers of a network, their sizes and receptive fields.

    Without --weights random ones are used: the table does not depend on them.

    \b
    Example:
      deconvviz layers --model zfnet
    """
    from deconvviz.network.load import is_own

    if weights is None and checkpoint is None and not is_own(model):
        weights = "random"
    net = common.get_network(model, weights, checkpoint, options)
    found = net.layers()
    if as_json:
        click.echo(json.dumps({"model": net.card.name, "layers": [dataclasses.asdict(x) for x in found]}))
        return
    table = found.table()
    common.print_table([str(c) for c in table.columns], [[str(c) for c in row] for row in table.rows])
