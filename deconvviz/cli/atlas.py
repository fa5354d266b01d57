"""`deconvviz atlas`: from a store and its network to a site, from two to a comparison; and a look at either."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deconvviz.cli import _common as common
from deconvviz.cli._progress import Stages

if TYPE_CHECKING:
    from deconvviz.analyses.panels.compute import PanelSource
    from deconvviz.atlas import Site
    from deconvviz.scanning.store import Store

ORDER = 50


@click.command(short_help="Make a site to browse a scanned network.")
@click.option("--store", type=common.FILE, help="What deconvviz scan has written.")
@common.scanned_options
@click.option("--against", type=common.FILE, help="Another store, to compare two networks of one shape unit by unit.")
@click.option("--against-model", help="Model of the other store. Default: as that store says, else --model.")
@click.option("--against-weights", help="Its weights, by name or a file. Default: as that store says.")
@click.option("--against-images", type=common.FOLDER, help="Its pictures. Default: where they were.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the site. Default: named like the store.")
@click.option(
    "--serve", is_flag=True, help="Then serve the site on this machine and open it; without --store as it is."
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Where to serve. Default: a free one.")
@click.option("--no-browser", is_flag=True, help="Serve only, and open nothing.")
@common.device_option
@common.json_option
def atlas(
    store: Path | None, against: Path | None, out: Path | None, as_json: bool, serve: bool, port: int, no_browser: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Make a site to browse a scanned network: every unit, its strongest pictures, what in them excites it.

    The site is plain files: open index.html, or put the folder on any server. If a build is interrupted, the same
    command goes on. Two stores of one shape (two checkpoints, or two networks) are compared unit by unit.

    \b
    Example:
      deconvviz atlas --store atlas.db --out site/
      deconvviz atlas --store before.db --against after.db --out compared/
      deconvviz atlas --serve --out site/
    """
    _check(store, against, out, serve, port, no_browser)
    if store is None:
        assert out is not None
        return _serve(out, port, no_browser, as_json)
    folder = out or Path(f"{store.stem}-against-{against.stem}" if against else common.site_of(store))
    site = _compared(store, against, folder, options) if against else _built(store, folder, options)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(site), default=str))
    else:
        click.echo(str(site.index))
    if serve:
        _serve(folder, port, no_browser, as_json)


def _check(
    store: Path | None, against: Path | None, out: Path | None, serve: bool, port: int, no_browser: bool
) -> None:
    if store is None and not (serve and out):
        raise click.UsageError("give --store, or --serve with the --out of a site that is made")
    if store is None and against is not None:
        raise click.UsageError("--against needs --store")
    if (port or no_browser) and not serve:
        raise click.UsageError("--port and --no-browser go with --serve")


def _built(store: Path, folder: Path, options: Mapping[str, Any]) -> Site:
    from deconvviz.atlas import build
    from deconvviz.scanning.store import Store

    with Store.open(store) as opened, Stages() as stages:
        return build(opened, folder, _source(opened, options), stages.report)


def _compared(store: Path, against: Path, folder: Path, options: Mapping[str, Any]) -> Site:
    from deconvviz.atlas import build_comparison
    from deconvviz.scanning.store import Store

    with Store.open(store) as first, Store.open(against) as second, Stages() as stages:
        sources = (_source(first, options), _source(second, _others(second, options)))
        return build_comparison(first, second, folder, sources, stages.report)


def _others(store: Store, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the other store's network, by the names that those of the first one have."""
    from deconvviz.models import registry

    model, weights, images = (options[f"against_{name}"] for name in ("model", "weights", "images"))
    known = store.facts["model"]
    if model is None and (weights is not None or ("spec" not in known and known["name"] not in registry.names())):
        model = options["model"]  # the same network with other weights
        model = str(known.get("spec", known["name"])) if model is None and weights is not None else model
    return {**options, "model": model, "weights": weights, "checkpoint": None, "images": images}


def _source(store: Store, options: Mapping[str, Any]) -> PanelSource:
    from deconvviz.analyses.panels.compute import PanelSource

    return PanelSource(common.network_of(store, options), store, options["images"])


def _serve(folder: Path, port: int, no_browser: bool, as_json: bool) -> None:
    import webbrowser

    from deconvviz.atlas import SiteServer

    with SiteServer(folder, port) as server:
        click.echo(json.dumps({"url": server.url}) if as_json else server.url)
        if not no_browser:
            webbrowser.open(server.url)
        server.run()
