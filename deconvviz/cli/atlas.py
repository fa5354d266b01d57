"""`deconvviz atlas`: from a store and its network to a site."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from deconvviz.cli import _common as common
from deconvviz.cli._progress import Stages

ORDER = 50


@click.command(short_help="Make a site to browse a scanned network.")
@common.store_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the site. Default: named like the store.")
@common.device_option
@common.json_option
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
        source = PanelSource(common.network_of(opened, options), opened, options["images"])
        site = build(opened, folder, source, stages.report)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(site), default=str))
    else:
        click.echo(str(site.index))
