"""The pages that can be made, as data: free of torch, so that the command line can list them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

CALTECH = "Caltech-101 (CaltechDATA, https://doi.org/10.22002/D1.20086, CC BY 4.0)"

DEMOS = ("chelsea", "coffee", "rocket", "astronaut")
PARTS = "faces.json"

# What a page of photographs from there has to say.
CREDIT = (
    "Photographs: Caltech-101, F.-F. Li, M. Andreetto, M. Ranzato, P. Perona, CaltechDATA, "
    "https://doi.org/10.22002/D1.20086, CC BY 4.0."
)

# What a page may need that the package does not bring: option -> what to give it, and where that is from.
NEEDS = {
    "data": f"a folder with one folder of pictures for each category, such as {CALTECH}",
    "run": "the folder of a training run, made by `deconvviz train --model zfnet --data DIR --out RUN`",
    "parts": (
        "a JSON file with the boxes of parts of pictures in --data; "
        f"the one that comes with deconvviz, demos/faces.json, is of faces of {CALTECH}"
    ),
    "image": "a picture, such as those of demos/images in the repository of deconvviz",
}


@dataclass(frozen=True)
class Page:
    """One figure or table: `name` is also its file's, `kind` and `number` are the paper's, `module` makes it.

    `needs` are options without which it cannot be made; each may be several, of which one is enough ("data|store").
    `also` are options that it takes into account if they are given.
    """

    name: str
    title: str
    module: str
    needs: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def uses(self) -> tuple[str, ...]:
        """The options that the page is made from."""
        return (*(choice for need in self.needs for choice in need.split("|")), *self.also)

    @property
    def kind(self) -> str:
        """ "figure", "table" or "history"."""
        return self.name.rstrip("0123456789")

    @property
    def number(self) -> str:
        """The paper's number, as text; empty for what is not in the paper."""
        return self.name[len(self.kind) :]

    @property
    def heading(self) -> str:
        """ "Figure 7", "Table 1", or the title of what is not in the paper."""
        return f"{self.kind.capitalize()} {self.number}" if self.number else self.title


PAGES = (
    Page("figure1", "A deconvolutional layer attached to a convolutional one", "scheme", ("image|data",)),
    Page("figure2", "What feature maps respond to, layer by layer", "units", ("store|data",)),
    Page("figure3", "The network", "architecture"),
    Page("figure4", "Evolution of features during training", "evolution", ("run",), ("data",)),
    Page("convergence", "When each layer settles during training", "evolution", ("run",), ("data",)),
    Page("figure5", "Invariance to translation, scale and rotation", "invariance", ("image|data",)),
    Page("figure6", "First-layer filters and their diagnosis", "filters", (), ("data",)),
    Page("figure7", "Sensitivity to occlusion", "occlusion", ("image|data",)),
    Page("figure8", "Correspondence: the pictures and their parts", "correspondence", ("data", "parts")),
    Page("figure9", "Accuracy against pictures per category", "accuracy", ("data",), ("run",)),
    Page("table1", "Correspondence: Hamming distances", "correspondence", ("data", "parts")),
    Page("table4", "Accuracy on Caltech-101", "accuracy", ("data",), ("run",)),
    Page("table7", "How well each layer classifies", "probes", ("data",)),
    Page("history", "ILSVRC classification, 2010 to 2017", "history"),
)
BY_NAME = {page.name: page for page in PAGES}


def numbers(kind: str) -> list[str]:
    """Return the numbers of all figures or tables."""
    return [page.number for page in PAGES if page.kind == kind]


def demo_pictures() -> tuple[Path, ...]:
    """Return the pictures of the repository, from the folder where it is run or the one that the package is in."""
    for folder in _demos():
        found = tuple(folder / "images" / f"{name}.jpg" for name in DEMOS)
        if all(path.is_file() for path in found):
            return found
    return ()


def demo_parts() -> Path | None:
    """Return the repository's file with parts of faces of Caltech-101, found as the pictures are."""
    return next((folder / PARTS for folder in _demos() if (folder / PARTS).is_file()), None)


def parts_of(parts: Path | None, data: Path | None) -> Path | None:
    """Return the file of parts: the one that is given, else the repository's if its pictures are in `data`."""
    demo = None if parts is not None or data is None else demo_parts()
    if demo is None or data is None:
        return parts
    files = [image["file"] for image in json.loads(demo.read_text(encoding="utf-8"))["images"]]
    return demo if all((data / file).is_file() for file in files) else None


def _demos() -> list[Path]:
    return [Path("demos"), Path(__file__).parents[2] / "demos"]


def missing(page: Page, given: set[str]) -> list[str]:
    """Return what `page` still needs if the options `given` are there: one line each, with where to get it."""
    lines = []
    for need in page.needs:
        if need == "parts" and "data" not in given:
            continue  # Caltech-101 brings both
        choices = need.split("|")
        if not given & set(choices):
            named = " or ".join(f"--{choice}" for choice in choices)
            first = next(choice for choice in reversed(choices) if choice in NEEDS)
            lines.append(f"{page.heading.lower() if page.number else page.name} needs {named}: {NEEDS[first]}")
    return lines
