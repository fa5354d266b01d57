"""The pages of a comparison, beside the atlases of the two networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deconvviz.atlas import pages, similar
from deconvviz.atlas.compare import ComparedLayer, Comparison, Match, UnitPair
from deconvviz.atlas.contents import AtlasUnit
from deconvviz.atlas.plates import Plates, Report
from deconvviz.atlas.site import Folder
from deconvviz.atlas.writer import write_assets

# The folders of the two atlases.
PARTS = ("first", "second")
# Pairs of a layer that the first page shows.
STRIP = 8


def write_comparison(folder: Folder, both: Comparison, report: Report) -> None:
    """Write every page of the comparison, its search's index, and the files that all pages use."""
    env = pages.environment()
    measures = pages.Measures()
    env.filters["measures"] = measures
    env.globals.update(contents=both, both=both, similarity=similar.NAME, parts_of=PARTS)
    write_assets(folder)
    folder.text("index.js", pages.script("DECONVVIZ_INDEX", _search_index(both)))
    total = 1 + len(both.layers) + sum(len(layer.pairs) for layer in both.layers)
    for done, (name, template, values) in enumerate(_pages(both), 1):
        folder.text(name, env.get_template(template).render(root="../" * name.count("/"), **values))
        report("comparison", done, total)
    folder.text("assets/measures.css", measures.sheet())


def _search_index(both: Comparison) -> dict[str, Any]:
    """What the search knows: layers and units."""
    layers = [{**pages.layer_facts(x.layer), "number": x.number} for x in both.layers]
    return {"classes": False, "layers": layers, "groups": [], "pictures": []}


def _pages(both: Comparison) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(file, template, values) of every page."""
    for layer in both.layers:
        here = {"here": layer.number, "layer": layer}
        yield f"layers/{layer.number}.html", "compared_layer.html", {**here, "exact": True}
        for pair in layer.pairs:
            values = {**here, "exact": False, "pair": pair, "blocks": _blocks(both, layer, pair)}
            yield f"layers/{layer.number}/{pair.unit.number}.html", "compared_unit.html", values
    rows = [{"layer": layer, "pairs": _least_alike(layer)} for layer in both.layers]
    yield "index.html", "compared.html", {"here": None, "exact": True, "rows": rows}


def _least_alike(layer: ComparedLayer) -> list[UnitPair]:
    return sorted(layer.alive, key=lambda pair: (pair.alike, pair.unit.number))[:STRIP]


def _blocks(both: Comparison, layer: ComparedLayer, pair: UnitPair) -> list[dict[str, Any]]:
    """What a unit's page shows: the unit, the one of its number, and the partner if that is another one."""
    first, second = zip(PARTS, both.names, (layer.first, layer.second), strict=True)
    blocks = [_block(*first, pair.unit, ""), _block(*second, pair.same.unit, _told(both, pair.same))]
    if pair.moved and pair.partner is not None:
        name = f"Most like it in {both.names[1]}"
        blocks.append(_block(PARTS[1], name, layer.second, pair.partner.unit, _told(both, pair.partner)))
    return blocks


def _block(folder: str, name: str, plates: Plates, unit: AtlasUnit, told: str) -> dict[str, Any]:
    return {
        "folder": folder, "name": name, "plates": plates, "unit": unit, "told": told,
        "sheet": plates.sheets.get(unit.number, ""), "columns": int(np.ceil(np.sqrt(max(len(unit.places), 1)))),
    }  # fmt: skip


def _told(both: Comparison, match: Match) -> str:
    """`3 of 9 pictures in common, looks 0.41`."""
    common = f"{match.shared} of {match.most} pictures in common, " if both.common else ""
    return f"{common}looks {match.looks:.2f}"
