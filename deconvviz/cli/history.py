"""`deconvviz history`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from deconvviz.cli import _common as common
from deconvviz.cli._outputs import overwrite_option, write_output

ORDER = 150


@click.command(short_help="Show who won the ILSVRC, with depth and size of the networks.")
@click.option("--table", "kind", type=click.Choice(common.TABLES), help="Print the table alone.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The chart's file: png, pdf, svg or npz. Default: ilsvrc-history.png.",
)
@overwrite_option
@common.json_option
def history(kind: str | None, out: Path | None, as_json: bool, **_: bool) -> None:
    """Show who won the ILSVRC classification task, 2010 to 2017, as a chart and a table.

    \b
    Example:
      deconvviz history
      deconvviz history --table markdown
    """
    from deconvviz.analyses.history.compute import history as compute

    result = compute()
    if kind and not as_json:
        click.echo(result.table(kind), nl=False)
    file = write_output(result, out or Path("ilsvrc-history.png")) if out or not kind else None
    if as_json:
        click.echo(json.dumps({**result.facts(), "file": str(file) if file else None}))
    elif not kind:
        click.echo(result.table() + f"\n{file}")
