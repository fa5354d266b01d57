"""Fig. 1: a convolutional layer and the deconvolutional layer attached to it, with the switches, on real numbers."""

from __future__ import annotations

from deconvviz.analyses.scheme.compute import scheme
from deconvviz.paper.pages import Page
from deconvviz.paper.sources import Made, Sources


def make(sources: Sources, page: Page) -> Made:
    """Fig. 1, on the first picture."""
    (example,) = sources.examples(1)
    result = scheme(sources.net, example.path)
    kernel, stride, _ = result.window
    above, unit = result.above
    caption = (
        "(a) Right: one map of the first pooled convolution, from the picture up; left: the deconvolutional layer "
        "attached to it, from the signal of the layer above down to pixels. (b) The numbers of nine pool windows "
        f"({kernel} x {kernel}, stride {stride}): pooling keeps each maximum and, in a switch, its place; unpooling "
        f"puts the signal back there. Real numbers: {result.model['name']}, {result.layer}, map {result.unit}, the "
        f"signal is that of the strongest activation of {above} (unit {unit}); signed values have zero as mid-grey."
    )
    return Made(result.figure(), caption, {page.name: result})
