"""Fig. 2: the strongest places of random feature maps over a data set, projected, beside the pictures' pieces."""

from __future__ import annotations

import tempfile
from pathlib import Path

from deconvviz.analyses.panels.compute import panels_page
from deconvviz.analyses.panels.result import PanelsPage
from deconvviz.paper.layers import numbered
from deconvviz.paper.pages import Page
from deconvviz.paper.sources import Made, Sources
from deconvviz.scanning import scan
from deconvviz.scanning.store import Store

UNITS = 8  # of each layer


def make(sources: Sources, page: Page) -> Made:
    """Units of layers 1 to 5, from the store of a scan, or from a scan of the untouched pictures of the data."""
    layers = numbered(sources.net)
    if sources.store is not None:
        with Store.open(sources.store) as store:
            known = {layer.name for layer in store.layers()}
            # The store's own layers, if those of the paper are not among them.
            there = [layer for layer in layers if sources.net.card.aliases.get(layer, layer) in known]
            result, count = panels_page(sources.net, store, units_per_layer=UNITS, layers=there or None), store.done
    else:
        result, count = _scanned(sources, layers)
    caption = (
        f"For {UNITS} random feature maps of each layer the strongest activations over {count:,} pictures, at most one "
        "of a picture, each projected alone down to pixels, beside the piece of the picture that it sees (its "
        "receptive field). Maps of the first layer show their filter. Signed, zero is mid-grey; the 99.5th percentile "
        f"of the absolute values is full contrast in each panel. Network: {result.model['name']}."
    )
    return Made(result.figure(), caption, {page.name: result})


def _scanned(sources: Sources, layers: list[str]) -> tuple[PanelsPage, int]:
    """A scan of pictures that had no part in the training: a first look, in a store that is not kept."""
    files = [path for _, path in sources.untouched]
    with tempfile.TemporaryDirectory(prefix="deconvviz-") as folder:
        path = Path(folder) / "scan.db"
        scan(sources.net, files, layers, store=path, workers=0, report=sources.progress).close()
        with Store.open(path) as store:
            return panels_page(sources.net, store, units_per_layer=UNITS), store.done
