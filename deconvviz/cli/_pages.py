"""What `figure`, `table` and `paper` share: the sources of a page, and making one."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deconvviz.cli._common import FILE, FOLDER, device_option, json_option, network_from
from deconvviz.cli._progress import Progress
from deconvviz.paper.pages import BY_NAME, demo_pictures, missing, parts_of

if TYPE_CHECKING:
    from deconvviz.paper.sources import Sources


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what a page is made from; `sources` makes them one object."""
    for option in (
        device_option,
        click.option("--image", "images", multiple=True, type=FILE, help="Picture to use; may be repeated."),
        click.option("--parts", type=FILE, help="JSON file with the boxes of parts, for figure 8 and table 1."),
        click.option("--store", type=FILE, help="Store of `deconvviz scan`, for figure 2."),
        click.option("--run", type=FOLDER, help="Folder of a training run with kept epochs."),
        click.option("--data", type=FOLDER, help="Folder with one folder of pictures for each category."),
        click.option("--checkpoint", type=FILE, help="Weights file for package.module:callable."),
        click.option("--weights", help="bundled, imagenet, random, or a file. Default: what the model has."),
        click.option(
            "--model", default="zfnet", show_default=True, help="Name in the zoo, or package.module:callable."
        ),
    ):
        command = option(command)
    return command


def format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--format`, which may be repeated."""
    kinds = click.Choice(["png", "pdf", "svg"])
    return click.option("--format", "formats", multiple=True, type=kinds, help="Default: all three.")(command)


def sources(options: dict[str, Any], progress: Progress | None = None) -> Sources:
    """Return what `source_options` say; the network is loaded when it is first needed. `progress` counts percents."""
    from deconvviz.paper.sources import Sources

    paths = {name: options[name] for name in ("data", "run", "store", "parts")}
    reach = (lambda done, total: None) if progress is None else progress.share
    return Sources(partial(network_from, options), images=tuple(options["images"]), progress=reach, **paths)


def make_folder(out: Path) -> Path:
    """Return the folder `out`, made if need be; a usage error if that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.BadParameter(f"cannot make the folder {out}: {error.strerror}", param_hint="--out") from error
    return out


def one_page(name: str, options: dict[str, Any]) -> None:
    """Make the page `name` and print its files."""
    page = BY_NAME[name]
    given = {key for key in ("data", "run", "store") if options[key]}
    if options["images"] or demo_pictures():
        given.add("image")
    if parts_of(options["parts"], options["data"]):
        given.add("parts")
    lacking = missing(page, given)
    if lacking:  # before torch is loaded
        raise click.UsageError("; ".join(lacking))
    out = make_folder(options["out"] or Path())
    from deconvviz.paper.book import make_page
    from deconvviz.paper.writing import FORMATS

    with Progress(100, "percent") as progress:
        found = sources(options, progress)
        stem = f"{found.net.card.name.replace('/', '-')}-{name}"
        written = make_page(page, found, out, options["formats"] or FORMATS, stem)
    files = [str(path) for path in written.paths]
    if options["as_json"]:
        table = written.table and {"columns": written.table.columns, "rows": written.table.rows}
        click.echo(json.dumps({"page": name, "files": files, "caption": written.caption, "table": table}))
        return
    if written.table is not None and page.kind == "table":
        click.echo(written.table.text())
    for file in files:
        click.echo(file)


def page_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what `figure` and `table` have in common."""
    folder = click.Path(file_okay=False, path_type=Path)
    out_option = click.option("--out", type=folder, help="Folder to write to. Default: here.")
    for add in (json_option, format_option, out_option, source_options):
        command = add(command)
    return command
