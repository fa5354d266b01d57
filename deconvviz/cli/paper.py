"""`deconvviz paper`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deconvviz.cli import _common as common
from deconvviz.cli._outputs import check_output
from deconvviz.cli._pages import format_option, source_options, sources
from deconvviz.cli._progress import Progress
from deconvviz.paper.pages import BY_NAME

if TYPE_CHECKING:
    from deconvviz.paper.book import Paper
    from deconvviz.paper.pages import Page
    from deconvviz.paper.writing import Written

ORDER = 120


@click.command(short_help="Make all figures and tables of the paper, and check its claims.")
@click.option("--out", type=common.NEW_FOLDER, default=Path("paper"), show_default=True, help="Folder to write to.")
@source_options
@format_option
@click.option("--only", multiple=True, type=click.Choice(list(BY_NAME)), help="Only this page; may be repeated.")
@click.option("--fresh", is_flag=True, help="Make pages again that are there.")
@click.option("--overwrite", is_flag=True, help="Replace files that no earlier paper has made, too.")
@click.option(
    "--gallery", type=common.NEW_FOLDER, help="Second folder, for lean copies: WebP of at most 150 KB, and Markdown."
)
@common.json_option
def paper(
    out: Path, only: Sequence[str], fresh: bool, overwrite: bool, gallery: Path | None, as_json: bool, **options: Any
) -> None:
    """Make every figure and table of the paper that the given data allow, an index page, and check its claims.

    What is there already is kept; stopped with Ctrl-C, the same command goes on.

    \b
    Example:
      deconvviz paper --out paper
      deconvviz paper --out paper --data photos/ --run RUN --store scan.db
    """
    from deconvviz.paper.book import make_paper, outputs
    from deconvviz.paper.writing import FORMATS

    for folder in (out, gallery):
        if folder is not None:
            common.make_folder(folder)
    formats, command = options["formats"] or FORMATS, _command(options, gallery)
    for path in outputs(out, formats, only, gallery):
        check_output(path)
    with Progress(len(only or BY_NAME), "pages") as progress:

        def report(page: Page, done: Written | str) -> None:
            if isinstance(done, str):
                progress.problem(f"deconvviz: {page.name}: {done}")
            elif not as_json:
                progress.result(f"{out / page.name}{'  (kept)' if done.kept else f'  {done.seconds:.0f} s'}")
            progress.advance()

        made = make_paper(sources(options), out, formats, only, fresh, gallery, command, report, overwrite)
    _tell(made, as_json)
    if made.failed:
        raise click.ClickException(f"{len(made.failed)} of the pages failed: {', '.join(p.name for p in made.failed)}")


def _tell(made: Paper, as_json: bool) -> None:
    if not as_json:
        for claim in made.claims:
            click.echo(f"{claim.verdict}: {claim.statement}. {claim.numbers}")
        click.echo(str(made.index))
        return
    facts = {
        "index": str(made.index),
        "pages": {w.page.name: [str(path) for path in w.paths] for w in made.written},
        "failed": {page.name: why for page, why in made.failed.items()},
        "skipped": {page.name: why for page, why in made.skipped.items()},
        "claims": [{"statement": c.statement, "holds": c.holds, "numbers": c.numbers} for c in made.claims],
    }
    click.echo(json.dumps(facts))


def _command(options: dict[str, Any], gallery: Path | None) -> str:
    """The command that makes the same gallery, with the names of folders and files, not where they were here."""
    parts = ["deconvviz", "paper"]
    for key in ("model", "weights", "checkpoint"):
        if options[key] and (key, options[key]) != ("model", "zfnet"):
            parts += [f"--{key}", str(options[key])]
    parts += common.said_of_preprocessing(options)
    for key in ("data", "run", "store", "parts"):
        if options[key]:
            parts += [f"--{key}", options[key].name]
    data: Path | None = options["data"]
    for image in options["images"]:
        inside = data is not None and image.resolve().is_relative_to(data.resolve())
        shown = Path(data.name) / image.resolve().relative_to(data.resolve()) if inside and data else image.name
        parts += ["--image", Path(shown).as_posix()]
    return shlex.join([*parts, *(["--gallery", gallery.as_posix()] if gallery else [])])
