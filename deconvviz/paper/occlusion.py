"""Fig. 7: where covering the object changes what the network says."""

from __future__ import annotations

from pathlib import Path

from deconvviz.analyses.occlusion.compute import occlude
from deconvviz.analyses.occlusion.figure import draw
from deconvviz.analyses.sanity.compute import sanity
from deconvviz.errors import DeconvvizValueError, UnsupportedOperatorError
from deconvviz.paper.layers import numbered
from deconvviz.paper.pages import Page
from deconvviz.paper.sources import Made, Sources
from deconvviz.results.base import Result

PICTURES = 3
UNITS = 6  # whose projections are tried
# The square's side and step as shares of the picture's side: 64 and 8 of 224 pixels.
WINDOW, STRIDE = 2 / 7, 1 / 28


def make(sources: Sources, page: Page) -> Made:
    """Panels (a) to (e) for a few pictures."""
    examples = sources.examples(PICTURES)
    layer, side = numbered(sources.net)[-1], min(sources.net.card.input_size)
    window, stride = max(round(side * WINDOW), 1), max(round(side * STRIDE), 1)
    results = [
        occlude(sources.net, e.path, e.target, window=window, stride=stride, layer=layer, progress=sources.progress)
        for e in examples
    ]
    found = [r for r in results if not isinstance(r, list)]
    caption = (
        f"(a) The picture, covered where that costs the class most. A grey square of {window} x {window} pixels (the "
        f"mean colour) slides over it in steps of {stride}. For each of its positions: (b) the total activity of the "
        f"map of layer {layer} that responds most to the uncovered picture; (d) the probability of the class; (e) the "
        "most probable class. (c) The map of (b) projected down to pixels. The paper leaves size, step and grey of the "
        f"square open. Network: {found[0].model['name']}; pictures: {', '.join(r.label(r.target) for r in found)}."
    )
    numbers: dict[str, Result] = {f"{page.name}-{n}": r for n, r in enumerate(found, 1)}
    return Made(draw(found), caption, numbers | _sanity(sources, layer, [e.path for e in examples]))


def _sanity(sources: Sources, layer: str, pictures: list[Path]) -> dict[str, Result]:
    """Whether projections as those of (c) can be believed, for the claims; nothing where the layer has none."""
    first, *others = pictures
    try:
        return {"sanity": sanity(sources.net, first, layer, others=others or None, top=UNITS)}
    except (UnsupportedOperatorError, DeconvvizValueError):
        return {}
