"""Fig. 6: the filters of the first layer, and which of them are dead, duplicate, saturated or aliased."""

from __future__ import annotations

from deconvviz.analyses.filters.compute import filters
from deconvviz.paper.pages import Page
from deconvviz.paper.sources import Made, Sources


def make(sources: Sources, page: Page) -> Made:
    """The filters with one scale (and scaled back, if that changes any), charts of RMS and frequency."""
    pictures = list(sources.firsts.values()) if sources.data is not None else None
    result = filters(sources.net, images=pictures)
    faults = ", ".join(f"{len(found)} {fault}" for fault, found in result.faults().items())
    kernel, stride = (" x ".join(str(int(n)) for n in sides) for sides in (result.weights.shape[2:], result.stride))
    clip = bool(result.saturated.any())
    radius = f"the paper's radius of {result.policy['radius']:g} (RMS, in its input scale)"
    scaled = f", beside them with those above {radius} scaled back to it" if clip else f"; none reaches {radius}"
    seen = f" {len(pictures)} pictures were looked at." if pictures else ""
    share = f"{result.policy['alias']:.0%}"
    caption = (
        f"The {len(result)} filters of {result.name} of {result.model['name']} ({kernel}, stride {stride}){scaled}; "
        f"one contrast for all. Diagnosis: {faults}; the largest RMS is {result.dominance:.1f} times the median one. "
        f"Aliased: more than {share} of a filter's energy is at frequencies that the stride cannot carry.{seen}"
    )
    return Made(result.figure(clip=clip), caption, {page.name: result}, result.table())
