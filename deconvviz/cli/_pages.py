"""What `figure`, `table` and `paper` share: the sources of a page, and making one."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deconvviz.cli import _common as common
from deconvviz.cli._outputs import check_output, overwrite_option, write_files
from deconvviz.cli._progress import Progress
from deconvviz.paper.pages import BY_NAME, demo_pictures, missing, parts_of

if TYPE_CHECKING:
    from deconvviz.paper.sources import Sources


# What a page is made from; `sources` makes them one object.
source_options = common.options(
    common.network_options(default="zfnet", show_default=True),
    click.option("--data", type=common.FOLDER, help="Folder with one folder of pictures for each category."),
    click.option("--run", type=common.FOLDER, help="Folder of a training run with kept epochs."),
    click.option("--store", type=common.FILE, help="Store of `deconvviz scan`, for figure 2."),
    click.option("--parts", type=common.FILE, help="JSON file with the boxes of parts, for figure 8 and table 1."),
    click.option("--image", "images", multiple=True, type=common.FILE, help="Picture to use; may be repeated."),
    common.device_option,
)
# Those of deconvviz.paper.writing, which torch comes with.
format_option = click.option(
    "--format", "formats", multiple=True, type=click.Choice(["png", "pdf", "svg", "txt", "md", "tex"]),
    help="What to write, and nothing else; may be repeated. txt is the caption, md and tex are for pages with a table. "
    "Default: all of them.",
)  # fmt: skip
# What `figure` and `table` have in common.
page_options = common.options(
    source_options,
    click.option("--out", type=common.NEW_FOLDER, help="Folder to write to. Default: here."),
    format_option,
    overwrite_option,
    common.json_option,
)


def sources(options: dict[str, Any], progress: Progress | None = None) -> Sources:
    """Return what `source_options` say; the network is loaded when it is first needed. `progress` counts percents."""
    from deconvviz.paper.sources import Sources

    paths = {name: options[name] for name in ("data", "run", "store", "parts")}
    reach = (lambda done, total: None) if progress is None else progress.share
    return Sources(partial(common.network_from, options), images=tuple(options["images"]), progress=reach, **paths)


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
    out = common.make_folder(options["out"] or Path())
    from deconvviz.paper.book import make_page
    from deconvviz.paper.writing import FORMATS

    with Progress(100, "percent") as progress:
        found = sources(options, progress)
        stem = f"{found.net.card.name.replace('/', '-')}-{name}"
        formats = options["formats"] or FORMATS
        for kind in formats:
            check_output(out / f"{stem}.{kind}")
        written = make_page(page, found, out, formats, stem, write_files)
    files = [str(path) for path in written.paths]
    if options["as_json"]:
        table = written.table and {"columns": written.table.columns, "rows": written.table.rows}
        click.echo(json.dumps({"page": name, "files": files, "caption": written.caption, "table": table}))
        return
    if written.table is not None and page.kind == "table":
        click.echo(written.table.text())
    for file in files:
        click.echo(file)
