"""Table 7: how well a linear classifier does on the features of each layer."""

from __future__ import annotations

from deconvviz.analyses.probes.compute import probe
from deconvviz.analyses.probes.result import Probes
from deconvviz.paper.layers import numbered
from deconvviz.paper.pages import Page
from deconvviz.paper.sources import Made, Sources
from deconvviz.results.table import Table
from deconvviz.results.table_figure import draw

# Table 7 of the paper, ImageNet-pretrained, 30 pictures a category: Caltech-101.
PAPER = {"1": "44.8", "2": "66.2", "3": "72.3", "4": "76.6", "5": "86.2", "7": "85.5"}


def make(sources: Sources, page: Page) -> Made:
    """The table, with the paper's figures beside if the categories are those of Caltech-101."""
    result = sources.once("probes", lambda: _probe(sources))
    table = _beside(result, sources.caltech)
    return Made(draw(table), table.caption, {page.name: result}, table)


def _probe(sources: Sources) -> Probes:
    assert sources.data is not None
    known = any(alias.isdecimal() for alias in sources.net.card.aliases)
    layers = None if known else numbered(sources.net)
    return probe(sources.net, sources.data, layers, per_category=(15, 30), progress=sources.progress)


def _beside(result: Probes, caltech: bool) -> Table:
    own = result.table()
    if not caltech:
        return own
    rows = [(*row, PAPER.get(layer, "")) for row, layer in zip(own.rows, result.layers, strict=True)]
    caption = f"{own.caption} Beside it the paper's own: its network trained on ImageNet, on Caltech-101."
    return Table((*own.columns, "paper, 30"), rows, caption)
