"""A site and the store it shows: what a site says of its store, and which of its pages is about what."""

from __future__ import annotations

import hashlib
import json
from itertools import islice
from pathlib import Path
from typing import Any

from deconvviz.atlas.serve import SiteFiles
from deconvviz.atlas.site import MANIFEST, check_same
from deconvviz.errors import AtlasError
from deconvviz.scanning.rows import Place, StoreLayer
from deconvviz.scanning.store import Store

# Facts of a store that change as its scan goes on.
_MOVING = ("done", "format")


def identity(store: Store, pictures: int | None = None) -> dict[str, Any]:
    """What a site says of the store that it shows, for the first `pictures` that the store knows, else for all.

    Pages are named by the numbers of layers, units and pictures: `scan` stands for all that these numbers depend on.
    """
    facts = store.facts
    known = {name: value for name, value in facts.items() if name not in _MOVING}
    layers = [(layer.name, layer.alias, layer.maps) for layer in store.layers()]
    digest = hashlib.sha256(json.dumps([known, layers], sort_keys=True).encode())
    count = store.count if pictures is None else pictures
    for picture in islice(store.pictures(), count):
        digest.update(repr(picture.path).encode())
    return {
        "model": facts["model"]["name"], "weights": facts["model"]["sha256"], "pictures": count,
        "scan": digest.hexdigest(),
    }  # fmt: skip


class LinkedSite:
    """The site in `folder`, which is of `store`, to be linked to; `files` are those that may be read.

    The scan may have grown since. Raises `AtlasError` if the folder holds no site, or one of another store.
    """

    def __init__(self, folder: Path, store: Store) -> None:
        self.files = SiteFiles(folder)
        advice = f"make one with deconvviz atlas --store {store.path}"
        found = check_same(folder / MANIFEST, identity(store, 0), advice)
        if "scan" not in found:
            raise AtlasError(f"{folder} does not say of which scan it is, for an earlier version made it; {advice}")
        count = found.get("pictures")
        if not isinstance(count, int) or not 0 <= count <= store.count or found != found | identity(store, count):
            raise AtlasError(f"{folder} holds an atlas of another scan; {advice}")
        self._numbers = {layer.id: number for number, layer in enumerate(store.layers(), 1)}

    def unit(self, layer: StoreLayer, unit: int) -> str | None:
        """The page of a unit; None if it is not there, as before a build has ended."""
        return self._there(f"layers/{self._numbers[layer.id]}/{unit}.html")

    def place(self, place: Place) -> str | None:
        """The page of a place's picture, opened where the unit looks."""
        page = self._there(f"pictures/{place.picture}.html")
        return page and f"{page}#b{self._numbers[place.layer]}-{place.unit}-{place.rank}"

    def _there(self, name: str) -> str | None:
        return name if name in self.files else None
