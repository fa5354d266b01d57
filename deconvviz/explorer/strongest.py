"""A store beside a session, and its atlas: the strongest pictures of a unit over a data set, and where more is."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from PIL import Image

from deconvviz.analyses.panels.compute import PanelSource
from deconvviz.atlas.linked import LinkedSite
from deconvviz.explorer.drawing import data_url, jpeg
from deconvviz.network.network import Network
from deconvviz.scanning.store import Store

_COUNT = 9


class Strongest:
    """The store at `path` and its pictures; `site` is the atlas in the folder `atlas`, None without one.

    Raises `StoreError` for another network's store, `ImageError`, `AtlasError` for a folder that is not its atlas.
    """

    def __init__(self, net: Network, path: str | os.PathLike[str], atlas: str | os.PathLike[str] | None = None) -> None:
        self._store = Store.open(path)
        try:
            self._source = PanelSource(net, self._store)
            self.site = None if atlas is None else LinkedSite(Path(atlas), self._store)
        except BaseException:
            self._store.close()
            raise
        # Geometry and SQLite are for one thread at a time.
        self._lock = threading.Lock()

    def facts(self) -> dict[str, Any]:
        """How many pictures it is of, and which layers it knows."""
        with self._lock:
            return {
                "pictures": self._store.done, "layers": [layer.title for layer in self._store.layers()],
                "atlas": self.site is not None,
            }  # fmt: skip

    def unit(self, layer: str, unit: int) -> dict[str, Any]:
        """The strongest pictures of a unit: what it reads of each. A `link` is the name of a page of the atlas."""
        with self._lock:
            at = self._store.layer(layer)
            places = [place for place in self._store.top(at, unit)[:_COUNT] if place.activation != 0]
            found = []
            for place in places:
                picture = self._store.picture(place.picture)
                ((top, left, bottom, right),) = self._source.boxes(at, [(place.row, place.col)])
                seen = self._source.photograph(picture)[top:bottom, left:right]
                found.append({
                    "rank": place.rank, "activation": place.activation, "name": picture.title,
                    "image": data_url(jpeg(Image.fromarray(seen)), "image/jpeg"),
                    "link": self.site and self.site.place(place),
                })  # fmt: skip
            return {"strongest": found, "link": self.site and self.site.unit(at, unit)}

    def close(self) -> None:
        """Close the store."""
        with self._lock:
            self._store.close()
