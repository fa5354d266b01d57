"""`deconvviz top`: a scanned unit's strongest places, projected beside their crops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deconvviz.cli import _common as common
from deconvviz.cli._outputs import variant

ORDER = 40


@click.command(short_help="Show what a scanned unit responds to most, with its projections.")
@common.store_options
@common.layer_option
@click.option("--unit", required=True, type=click.IntRange(0), help="Number of the unit in its layer.")
@common.method_options
@common.scale_option
@common.output_options
def top(store: Path, layer: str, unit: int, out: Path | None, kind: str | None, as_json: bool, **options: Any) -> None:
    """Show what a unit responds to most in a scanned data set: projections beside the pieces of the pictures (Fig. 2).

    \b
    Example:
      deconvviz top --store atlas.db --layer 5 --unit 12
    """
    from deconvviz.analyses.panels.compute import panels
    from deconvviz.scanning.store import Store

    with Store.open(store) as opened:
        title = opened.layer(layer).title
        opened.top(layer, unit)  # an unknown unit is said before the network is loaded
        path = common.output_file(out, kind, f"{store.stem}-{title}-unit{unit}{variant(options)}")
        net = common.network_of(opened, options)
        result = panels(net, opened, layer, unit, options["images"], options["method"], options["overlap"])
    common.write_result(result, path, as_json, scale=options["scale"])
