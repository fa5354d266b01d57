"""`deconvviz scan`: the strongest places of every unit over a folder of pictures."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deconvviz.cli._common import device_option, get_network, model_options, parse_layers, to_device
from deconvviz.cli._progress import Progress

if TYPE_CHECKING:
    from deconvviz.scanning.store import Store

ORDER = 30


@click.command(short_help="Find the strongest pictures of every unit of some layers.")
@model_options
@click.option(
    "--images",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="Folder of pictures; its sub-folders are class labels if there are several.",
)
@click.option("--layers", required=True, multiple=True, help="Such as 1-5, conv3 or a module path.")
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
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def scan(model: str, weights: str | None, checkpoint: str | None, as_json: bool, **options: Any) -> None:
    """Find the strongest places of every unit of some layers over a folder of pictures, with statistics.

    The store is one file. If a scan is stopped or killed, the same command goes on, and so it does with pictures that
    are new in the folder. Under torchrun several processes share the work.

    \b
    Example:
      deconvviz scan --model zfnet --images photos/ --layers 1-5 --store atlas.db
      torchrun --nproc-per-node 4 -m deconvviz scan --model zfnet --images photos/ --layers 5 --store atlas.db
    """
    layers = parse_layers(options["layers"])
    assert layers is not None  # the option is required
    net = get_network(model, weights, checkpoint)
    to_device(net, _own(options["device"]))
    leads = os.environ.get("RANK", "0") == "0"
    images: Path = options["images"]
    with _Bar(leads) as bar:
        from deconvviz.scanning import scan as run

        try:
            store = run(
                net, images if images.is_dir() else [images], layers, options["top"], store=options["store"],
                per_picture=options["per_picture"], batch=options["batch"], workers=options["workers"],
                save_every=options["save_every"], report=bar.report,
            )  # fmt: skip
        except KeyboardInterrupt:
            if leads and bar.total:
                bar.problem(f"what is done of the {bar.total:,} pictures is kept; the same command goes on")
            raise
    with store:
        if leads:
            _tell(store, as_json)


def _own(device: str) -> str:
    """The accelerator of this process, if several share the work."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


class _Bar:
    """A progress bar that learns how many pictures there are from the first report."""

    def __init__(self, shown: bool) -> None:
        self._shown, self.total = shown, 0
        self._bar: Progress | None = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
        self._bar = None

    def report(self, done: int, total: int) -> None:
        """`done` of `total` pictures are scanned."""
        self.total = total
        if self._bar is None and self._shown:
            self._bar = Progress(total, speed="pictures").__enter__()
        if self._bar is not None:
            self._bar.reach(done)

    def problem(self, line: str) -> None:
        """Print a line about what went wrong."""
        self.__exit__()
        click.echo(f"deconvviz: {line}", err=True)


def _tell(store: Store, as_json: bool) -> None:
    unreadable = [{"picture": p.title, "error": p.error} for p in store.pictures("unreadable")]
    layers = [(layer, store.units(layer)) for layer in store.layers()]
    rows = [{"layer": x.title, "units": len(u), "dead": int(u.dead.sum())} for x, u in layers]
    if as_json:
        facts = {"store": str(store.path), "pictures": store.count, "unreadable": unreadable, "layers": rows}
        click.echo(json.dumps(facts))
        return
    click.echo(str(store.path))
    for row in rows:
        click.echo(f"{row['layer']}: {row['units']} units, {row['dead']} of them fire on no picture")
    for lost in unreadable[:10]:
        click.echo(f"deconvviz: {lost['picture']} is left out: {lost['error']}", err=True)
    if len(unreadable) > 10:
        click.echo(f"deconvviz: and {len(unreadable) - 10} more; the store lists them", err=True)
