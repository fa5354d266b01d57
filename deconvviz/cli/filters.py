"""`deconvviz filters`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deconvviz.cli import _common as common

ORDER = 90


@click.command(short_help="Show the first filters of a network and what is wrong with them.")
@common.model_options
@click.option("--against", help="Second network: a name in the zoo, or package.module:callable.")
@click.option("--against-weights", help="Its weights, as --weights.")
@click.option("--layer", help="Another convolution than the first: an alias (1, conv1) or a module path.")
@click.option("--images", type=common.FOLDER, help="Folder of pictures: also look at which filters fire.")
@click.option("--radius", type=click.FloatRange(0, min_open=True), default=0.1, show_default=True, help="RMS limit.")
@click.option("--clip", is_flag=True, help="Show beside them the filters scaled back to --radius.")
@click.option("--scale", type=click.Choice(["shared", "panel"]), default="shared", help="One contrast for all filters.")
@common.output_options
def filters(out: Path | None, kind: str | None, as_json: bool, **options: Any) -> None:
    """Show the first convolution's filters and which are dead, duplicate, saturated or aliased.

    \b
    Example:
      deconvviz filters --model zfnet
      deconvviz filters --model zfnet --against alexnet --against-weights random
    """
    against, images = options["against"], options["images"]
    if against is None and options["against_weights"] is not None:
        raise click.UsageError("--against-weights needs --against")
    net, other = common.network_from(options), None
    if against is not None:
        theirs = {"model": against, "weights": options["against_weights"], "checkpoint": None}
        other = common.network_from({"device": options["device"], **theirs})
    names = [n.card.name for n in (net, other) if n is not None]
    path = common.output_file(out, kind, "-".join([*names, "filters"]))
    from deconvviz.analyses.filters.compute import filters as compute

    result = compute(net, other, options["layer"], images, radius=options["radius"])
    common.write_result(result, path, as_json, result.table().text(), scale=options["scale"], clip=options["clip"])
