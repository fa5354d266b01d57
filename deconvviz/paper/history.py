"""The history of ILSVRC, as a page."""

from __future__ import annotations

from deconvviz.analyses.history.compute import history
from deconvviz.analyses.history.result import NOTE
from deconvviz.paper.pages import Page
from deconvviz.paper.sources import Made, Sources


def make(sources: Sources, page: Page) -> Made:
    """Winners and runners-up; the same for every network."""
    result = history()
    own = next(e for e in result.entries if e.team == "ZF")
    first = next(e for e in result.entries if e.year == own.year and e.place == 1)
    caption = (
        f"{NOTE} ZFNet, the paper's own entry ({own.error} %), is often called the winner of {own.year}; it came "
        f"third, and the winner was {first.team} ({first.error} %), a company of ZFNet's first author."
    )
    return Made(result.figure(), caption, {page.name: result}, result.tabular())
