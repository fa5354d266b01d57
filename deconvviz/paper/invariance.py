"""Fig. 5: how far features move, and what becomes of the answer, as a picture is moved, scaled and turned."""

from __future__ import annotations

from deconvviz.analyses.invariance.compute import invariance
from deconvviz.paper.layers import pair
from deconvviz.paper.pages import Page
from deconvviz.paper.sources import Made, Sources

PICTURES = 5


def make(sources: Sources, page: Page) -> Made:
    """The nine panels, for five pictures."""
    examples = sources.examples(PICTURES)
    known = all(e.target is not None for e in examples)
    low, high = pair(sources.net)
    result = invariance(
        sources.net,
        [e.path for e in examples],
        [e.target for e in examples if e.target is not None] if known else None,
        low=low,
        high=high,
        progress=sources.progress,
    )
    whose = "the true class" if known else "the class that the network gives the untransformed picture"
    caption = (
        f"Rows: vertical translation, scale and rotation of {len(examples)} pictures. Columns: the pictures; the "
        f"Euclidean distance of the features of layer {low} to those of the untransformed picture; the same for layer "
        f"{high}; the probability of {whose}. What comes in from outside the picture is {result.policy['fill']}, the "
        f"mean colour; values between pixels are bilinear. Network: {result.model['name']}."
    )
    return Made(result.figure(), caption, {page.name: result})
