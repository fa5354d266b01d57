"""A store beside a session: the strongest pictures of a unit over a data set."""

from __future__ import annotations

import os
import threading
from typing import Any

from PIL import Image

from deconvviz.analyses.panels.compute import PanelSource
from deconvviz.explorer.drawing import data_url, jpeg
from deconvviz.network.network import Network
from deconvviz.scanning.store import Store

_COUNT = 9


class Strongest:
    """The store at `path` and its pictures. Raises `StoreError` for another network's store, `ImageError`."""

    def __init__(self, net: Network, path: str | os.PathLike[str]) -> None:
        self._store = Store.open(path)
        try:
            self._source = PanelSource(net, self._store)
        except BaseException:
            self._store.close()
            raise
        # Geometry and SQLite are for one thread at a time.
        self._lock = threading.Lock()

    def facts(self) -> dict[str, Any]:
        """How many pictures it is of, and which layers it knows."""
        with self._lock:
            return {
                "pictures": self._store.done, "layers": [layer.title for layer in self._store.layers()], "atlas": False,
            }  # fmt: skip

    def unit(self, layer: str, unit: int) -> dict[str, Any]:
        """The strongest pictures of a unit: what it reads of each."""
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
                    "image": data_url(jpeg(Image.fromarray(seen)), "image/jpeg"), "link": None,
                })  # fmt: skip
        return {"strongest": found, "link": None}

    def close(self) -> None:
        """Close the store."""
        with self._lock:
            self._store.close()
