"""`deconvviz probe`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deconvviz.cli import _common as common
from deconvviz.cli._progress import Progress

ORDER = 140


@click.command(short_help="Show how well a linear classifier does on the features of each layer.")
@common.model_options
@common.data_option
@common.layers_option(default="all with a number")
@click.option(
    "--per-category",
    "counts",
    multiple=True,
    type=click.IntRange(1),
    help="Training pictures; may be repeated. Default: 15 and 30.",
)
@click.option("--most", type=click.IntRange(1), default=50, show_default=True, help="Test pictures of a category.")
@click.option("--splits", type=click.IntRange(1), default=1, show_default=True, help="Random draws of pictures.")
@click.option("--seed", type=int, default=0, show_default=True, help="For the draws.")
@click.option("--grid", type=click.IntRange(1), default=6, show_default=True, help="Larger maps are averaged to it.")
@click.option("--penalty", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Of the SVM.")
@click.option(
    "--held-out",
    type=click.Choice(["auto", "none"]),
    default="auto",
    show_default=True,
    help="auto: no picture tests that the network was trained or chosen on, if its weights say which. none: any may.",
)
@common.batch_option
@click.option(
    "--table", type=click.Choice(common.TABLES), default="text", show_default=True, help="How the table is printed."
)
@common.output_options
def probe(data: Path, out: Path | None, kind: str | None, as_json: bool, **options: Any) -> None:
    """Show how well a linear classifier does on the features of each layer, trained on a few pictures a category.

    \b
    Example:
      deconvviz probe --model zfnet --data photos/ --layer 1-5,7
      deconvviz probe --model zfnet --data photos/ --per-category 15 --splits 5 --table latex
    """
    layers = common.parse_layers(options["layers"])
    net = common.network_from(options)
    path = common.output_file(out, kind, f"{net.card.name}-probes")
    from deconvviz.analyses.probes.compute import probe as compute

    with Progress(100, "percent") as progress:
        result = compute(
            net,
            data,
            layers,
            options["counts"] or (15, 30),
            held_out=None if options["held_out"] == "none" else "auto",
            progress=progress.share,
            **{k: options[k] for k in ("most", "splits", "seed", "grid", "penalty", "batch")},
        )
    common.write_result(result, path, as_json, result.table().render(options["table"]))
