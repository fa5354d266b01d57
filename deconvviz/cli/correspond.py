"""`deconvviz correspond`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from deconvviz.cli._common import (
    TABLES,
    device_option,
    get_network,
    model_options,
    output_file,
    output_options,
    parse_fill,
    to_device,
)
from deconvviz.cli._progress import Progress

ORDER = 80


@click.command(short_help="Show whether covering the same part changes features alike.")
@model_options
@click.option(
    "--parts",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='JSON: {"images": [{"file": …, "parts": {name: [top, left, bottom, right]}}, …]}, in pixels of each file.',
)
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that the file names start from. Default: that of the JSON.",
)
@click.option("--layer", "layers", multiple=True, help="May be repeated. Default: 5 and 7.")
@click.option("--normalise", type=click.Choice(["features", "active"]), default="features", help="What signs share.")
@click.option("--random", type=click.IntRange(0), default=10, show_default=True, help="Draws of random boxes.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random boxes.")
@click.option("--fill", default="grey", show_default=True, help="Of the covered part: grey, a number or a colour.")
@click.option("--table", type=click.Choice(TABLES), default="text", show_default=True)
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Pictures at once.")
@device_option
@output_options
def correspond(parts: Path, table: str, out: Path | None, kind: str | None, as_json: bool, **options: Any) -> None:
    """Cover the same part in several pictures and show whether that changes the features alike.

    \b
    Example:
      deconvviz correspond --model zfnet --parts parts.json
      deconvviz correspond --model zfnet --parts demos/faces.json --images caltech101 --table latex
    """
    net = get_network(options["model"], options["weights"], options["checkpoint"])
    path = output_file(out, kind, f"{parts.stem}-{net.card.name}-correspondence")
    to_device(net, options["device"])
    from deconvviz.analyses.correspondence.compute import correspondence

    with Progress(100, "covering, %") as progress:
        result = correspondence(
            net,
            parts,
            list(options["layers"]) or None,
            options["images"],
            parse_fill(options["fill"]),
            progress=lambda done, passes: progress.reach(100 * done // passes),
            **{name: options[name] for name in ("normalise", "random", "seed", "batch")},
        )
        result.save(path)
    if as_json:
        click.echo(json.dumps({"file": str(path), **result.facts()}))
        return
    click.echo(result.table().render(table), nl=False)
    # What is to be pasted elsewhere stands alone on stdout.
    click.echo(str(path), err=table != "text")
