"""`deconvviz table`."""

from __future__ import annotations

from typing import Any

import click

from deconvviz.cli._pages import one_page, page_options
from deconvviz.paper.pages import numbers

ORDER = 110


@click.command(short_help="Make a table of the paper.")
@click.argument("number", metavar="NUMBER", type=click.Choice(numbers("table")))
@page_options
def table(number: str, **options: Any) -> None:
    """Make a table of the paper, as text, Markdown, LaTeX and pictures, for the bundled ZFNet or any network.

    \b
    Example:
      deconvviz table 7 --data photos/
    """
    one_page(f"table{number}", options)
