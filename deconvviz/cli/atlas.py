"""`deconvviz atlas`: from a store and its network to a site."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from deconvviz.cli._common import device_option, network_of, store_options, to_device
from deconvviz.cli._progress import Progress

ORDER = 50


@click.command(short_help="Make a site to browse a scanned network.")
@store_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the site. Default: named like the store.")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def atlas(store: Path, out: Path | None, as_json: bool, **options: Any) -> None:
    """Make a site to browse a scanned network: every unit, its strongest pictures, what in them excites it.

    The site is plain files: open index.html, or put the folder on any server. If a build is interrupted, the same
    command goes on.

    \b
    Example:
      deconvviz atlas --store atlas.db --out site/
    """
    from deconvviz.analyses.panels.compute import PanelSource
    from deconvviz.atlas import build
    from deconvviz.scanning.store import Store

    folder = out or Path(f"{store.stem}-site")
    with Store.open(store) as opened, Stages() as stages:
        net = network_of(opened, options["model"], options["weights"], options["checkpoint"])
        to_device(net, options["device"])
        site = build(opened, folder, PanelSource(net, opened, options["images"]), stages.report)
    if as_json:
        facts = {"units": site.units, "pictures": site.pictures, "files": site.files, "bytes": site.bytes}
        click.echo(json.dumps({"index": str(site.index), **facts}))
    else:
        click.echo(str(site.index))


class Stages:
    """A progress bar for each stage of the work, one after the other."""

    def __init__(self) -> None:
        self._what: str | None = None
        self._done = 0
        self._bar: Progress | None = None

    def __enter__(self) -> Stages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)

    def report(self, what: str, done: int, total: int) -> None:
        """`done` of `total` pieces of the stage `what` are done."""
        if what != self._what:
            self.__exit__(None, None, None)
            self._what, self._done, self._bar = what, 0, Progress(total, what)
            self._bar.__enter__()
        while self._done < done and self._bar is not None:
            self._bar.advance()
            self._done += 1
