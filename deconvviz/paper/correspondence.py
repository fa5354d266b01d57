"""Fig. 8 and Table 1: whether covering the same part of different pictures changes a layer's features alike."""

from __future__ import annotations

from deconvviz.analyses.correspondence.compute import correspondence
from deconvviz.analyses.correspondence.result import Correspondence
from deconvviz.paper.pages import Page, parts_of
from deconvviz.paper.sources import Made, Sources

# Table 1 of the paper: five dogs, layers 5 and 7.
PAPER = {
    "right eye": (".067 ± .007", ".069 ± .015"),
    "left eye": (".069 ± .007", ".068 ± .013"),
    "nose": (".079 ± .017", ".069 ± .011"),
    "random": (".107 ± .017", ".073 ± .014"),
}


def make(sources: Sources, page: Page) -> Made:
    """The pictures with their parts (`figure8`), or the distances (`table1`)."""
    result = sources.once("correspondence", lambda: _compare(sources))
    paper = "; ".join(f"{part} {low} / {high}" for part, (low, high) in PAPER.items())
    beside = f"The paper's own, for five dogs and layers 5 / 7: {paper}."
    if page.kind == "table":
        from deconvviz.results.table_figure import draw

        table = result.table()
        return Made(draw(table), f"{table.caption} {beside}", {"correspondence": result}, table)
    caption = (
        f"{len(result.images)} pictures with the boxes of their parts ({', '.join(result.parts)}), each covered in "
        f"turn with the mean colour, and random boxes of the same sizes. {result.caption()}"
    )
    return Made(result.figure(), caption, {"correspondence": result})


def _compare(sources: Sources) -> Correspondence:
    parts = parts_of(sources.parts, sources.data)
    assert parts is not None
    return correspondence(sources.net, parts, folder=sources.data, progress=sources.progress)
