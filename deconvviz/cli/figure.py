"""`deconvviz figure`."""

from __future__ import annotations

from typing import Any

import click

from deconvviz.cli._pages import one_page, page_options
from deconvviz.paper.pages import numbers

ORDER = 100


@click.command(short_help="Make a figure of the paper.")
@click.argument("number", metavar="NUMBER", type=click.Choice(numbers("figure")))
@page_options
def figure(number: str, **options: Any) -> None:
    """Make a figure of the paper, with its caption in a text file, for the bundled ZFNet or any network.

    It is made once, in all formats that are asked for.

    \b
    Example:
      deconvviz figure 6
      deconvviz figure 6 --format pdf --format txt
      deconvviz figure 7 --image photo.jpg --model resnet50
      deconvviz figure 4 --run RUN --data photos/
    """
    one_page(f"figure{number}", options)
