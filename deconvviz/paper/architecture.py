"""Fig. 3: the network, block by block."""

from __future__ import annotations

from deconvviz.analyses.architecture.compute import architecture
from deconvviz.paper.pages import Page
from deconvviz.paper.sources import Made, Sources


def make(sources: Sources, page: Page) -> Made:
    """The network's picture, and its table."""
    result = architecture(sources.net)
    size = result.blocks[0].size or (0, 0)
    convolutions = sum(block.layers for block in result.blocks if block.kind == "convolution")
    linear = sum(block.layers for block in result.blocks if block.kind == "linear")
    caption = (
        f"{result.model['name']}: a picture of {size[0]} x {size[1]} pixels goes through {convolutions} convolutions "
        f"and {linear} linear layers, {result.parameters:,} parameters in all. Under each block stand its maps and "
        "their size, between two blocks the next one's filters and, above the arrow, what comes before them. "
        "Activations follow each layer but the last."
    )
    return Made(result.figure(), caption, {page.name: result}, result.table())
