"""`deconvviz scan`: the strongest places of every unit over a folder of pictures."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deconvviz.cli import _common as common
from deconvviz.cli._progress import Stages

if TYPE_CHECKING:
    from deconvviz.scanning.store import Store

ORDER = 30


@click.command(short_help="Find the strongest pictures of every unit of some layers.")
@common.model_options
@click.option(
    "--images",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="Folder of pictures; its sub-folders are class labels if there are several.",
)
@common.layers_option("--layers")
@click.option("--top", type=click.IntRange(1), default=9, show_default=True, help="Places kept for a unit.")
@click.option("--per-picture", type=click.IntRange(1), default=1, show_default=True, help="At most, for a unit.")
@click.option("--store", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@click.option("--batch", type=click.IntRange(1), help="Pictures at once. Default: as in the store, else 32.")
@click.option("--workers", type=click.IntRange(0), help="Processes that read pictures. Default: by the machine.")
@click.option(
    "--save-every",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    help="Seconds between commits to the store.",
)
@common.device_option
@common.json_option
def scan(as_json: bool, **options: Any) -> None:
    """Find the strongest places of every unit of some layers over a folder of pictures, with statistics.

    The store is one file. If a scan is stopped or killed, the same command goes on, and so it does with pictures that
    are new in the folder. Under torchrun several processes share the work.

    \b
    Example:
      deconvviz scan --model zfnet --images photos/ --layers 1-5 --store atlas.db
      torchrun --nproc-per-node 4 -m deconvviz scan --model zfnet --images photos/ --layers 5 --store atlas.db
    """
    layers = common.parse_layers(options["layers"])
    assert layers is not None  # the option is required
    net = common.network_from({**options, "device": _own(options["device"])})
    from deconvviz.processes import leads
    from deconvviz.scanning import scan as run

    images: Path = options["images"]
    with Stages("pictures", shown=leads()) as bar:
        try:
            store = run(
                net, images if images.is_dir() else [images], layers, options["top"], store=options["store"],
                per_picture=options["per_picture"], batch=options["batch"], workers=options["workers"],
                save_every=options["save_every"], report=partial(bar.report, ""),
            )  # fmt: skip
        except KeyboardInterrupt:
            if leads() and bar.total:
                bar.close()
                click.echo(
                    f"deconvviz: what is done of the {bar.total:,} pictures is kept; the same command goes on", err=True
                )
            raise
    with store:
        if leads():
            _tell(store, as_json)


def _own(device: str) -> str:
    """The accelerator of this process, if several share the work."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


def _tell(store: Store, as_json: bool) -> None:
    unreadable = [{"picture": p.title, "error": p.error} for p in store.pictures("unreadable")]
    layers = [(layer, store.units(layer)) for layer in store.layers()]
    rows = [{"layer": x.title, "units": len(u), "dead": int(u.dead.sum())} for x, u in layers]
    if as_json:
        facts = {"store": str(store.path), "pictures": store.count, "unreadable": unreadable, "layers": rows}
        click.echo(json.dumps(facts))
        return
    common.print_path(store.path)
    for row in rows:
        click.echo(f"{row['layer']}: {row['units']} units, {row['dead']} of them fire on no picture")
    for lost in unreadable[:10]:
        click.echo(f"deconvviz: {lost['picture']} is left out: {lost['error']}", err=True)
    if len(unreadable) > 10:
        click.echo(f"deconvviz: and {len(unreadable) - 10} more; the store lists them", err=True)
