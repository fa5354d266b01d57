"""`deconvviz evolve`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from deconvviz.cli import _common as common
from deconvviz.cli._outputs import variant, write_output
from deconvviz.cli._progress import Progress

ORDER = 130


@click.command(short_help="Show how features evolve over a training run, and when layers settle.")
@click.option("--run", required=True, type=common.FOLDER, help="Folder of a run, with its checkpoints.")
@click.option(
    "--images",
    type=click.Path(exists=True, path_type=Path),
    help="Pictures: a folder, or a file. Default: those that the run was trained on.",
)
@common.layers_option(default="all with a number that have maps")
@click.option("--unit", "units", multiple=True, help="Maps to show, such as 7 or 1,5-7, in every layer.")
@click.option("--count", type=click.IntRange(1), default=6, show_default=True, help="Maps drawn in each layer.")
@click.option("--most", type=click.IntRange(1), default=1000, show_default=True, help="Pictures, evenly spread.")
@click.option("--seed", type=int, default=0, show_default=True, help="For the draw of maps.")
@click.option("--model", help=f"Network, if the checkpoints do not say. {common.MODEL}")
@common.preprocessing_options
@common.method_options
@click.option("--scale", type=click.Choice(["panel", "unit", "layer"]), default="panel", help="Contrast of a panel.")
@click.option(
    "--level", type=click.FloatRange(0, 1), default=0.9, show_default=True, help="Similarity of a settled layer."
)
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Pictures at once.")
@common.output_options
def evolve(run: Path, out: Path | None, kind: str | None, as_json: bool, **options: Any) -> None:
    """Show how what maps respond to evolves over a training run, and when each layer settles.

    Writes the picture of the evolution, beside it the curves of convergence (-convergence), and prints them as a
    table: how like those of the last checkpoint a layer's features are at each epoch.

    \b
    Example:
      deconvviz evolve --run run
      deconvviz evolve --run run --images photos/ --layer 1-5 --out figures
    """
    layers, units = common.parse_layers(options["layers"]), common.parse_units(options["units"])
    model = options["model"]
    if model is not None and ":" in model:
        from deconvviz.network.load import is_own

        # The checkpoints bring the weights.
        model = common.get_network(model, None if is_own(model) else "random", said=options)
    differs = variant({name: options[name] for name in ("method", "overlap")})
    path = common.output_file(out, kind, f"{run.resolve().name}-evolution{differs}")
    from deconvviz.analyses.evolution.compute import evolve as compute

    with Progress(100, "percent") as progress:
        result = compute(
            run,
            options["images"],
            layers,
            units,
            model=model,
            progress=progress.share,
            **{k: options[k] for k in ("count", "seed", "most", "method", "overlap", "batch", "device")},
        )
    level = options["level"]
    files = [write_output(result, path, scale=options["scale"])]
    if path.suffix != ".npz":
        curves = path.with_name(f"{path.stem}-convergence{path.suffix}")
        files.append(write_output(result, curves, kind="convergence", level=level))
    if as_json:
        click.echo(json.dumps({"files": [str(f) for f in files], **result.facts()}))
        return
    click.echo("\n".join(result.table(measure, level).text() for measure in ("features", "projections")))
    for file in files:
        common.print_path(file)
