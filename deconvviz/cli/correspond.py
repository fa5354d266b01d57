"""`deconvviz correspond`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deconvviz.cli import _common as common
from deconvviz.cli._progress import Progress

ORDER = 80


@click.command(short_help="Show whether covering the same part changes features alike.")
@common.model_options
@click.option(
    "--parts",
    required=True,
    type=common.FILE,
    help='JSON: {"images": [{"file": …, "parts": {name: [top, left, bottom, right]}}, …]}, in pixels of each file.',
)
@click.option("--images", type=common.FOLDER, help="Folder that the file names start from. Default: that of the JSON.")
@common.layers_option(default="5 and 7")
@click.option("--normalise", type=click.Choice(["features", "active"]), default="features", help="What signs share.")
@click.option("--random", type=click.IntRange(0), default=10, show_default=True, help="Draws of random boxes.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random boxes.")
@click.option("--fill", default="grey", show_default=True, help="Of the covered part: grey, a number or a colour.")
@click.option("--table", type=click.Choice(common.TABLES), default="text", show_default=True)
@common.batch_option
@common.output_options
def correspond(parts: Path, out: Path | None, kind: str | None, as_json: bool, **options: Any) -> None:
    """Cover the same part in several pictures and show whether that changes the features alike.

    \b
    Example:
      deconvviz correspond --model zfnet --parts parts.json
      deconvviz correspond --model zfnet --parts demos/faces.json --images caltech101 --table latex
    """
    net = common.network_from(options)
    path = common.output_file(out, kind, f"{parts.stem}-{net.card.name}-correspondence")
    from deconvviz.analyses.correspondence.compute import correspondence

    with Progress(100, "covering, %") as progress:
        result = correspondence(
            net,
            parts,
            common.parse_layers(options["layers"]),
            options["images"],
            common.parse_fill(options["fill"]),
            progress=progress.share,
            **{k: options[k] for k in ("normalise", "random", "seed", "batch")},
        )
    table: str = options["table"]
    common.write_result(result, path, as_json, result.table().render(table), pasted=table != "text")
