"""The results of `panels` and `panels_page`: the strongest places of units over a data set, as in Fig. 2."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deconvviz.results.base import LayerResult, Result, signed_pictures


@dataclass(frozen=True, eq=False)
class Panels(LayerResult):
    """The K strongest places of one unit over a data set (Zeiler & Fergus 2014, Fig. 2), the strongest first.

    Panels are as large as the receptive field, (h, w), or the input if that is smaller: `pixels` (K, C, h, w) are the
    projections, signed, in the input's own scale; `crops` (K, h, w, 3) uint8 the pieces of the pictures; both are zero
    outside `parts` (K, 4) top, left, bottom, right, where a panel hangs over its picture's border. `boxes` (K, 4) are
    these parts in the input, `pictures` (K,) the numbers of the pictures in the store with their `paths` and `labels`,
    `places` (K, 2) row and column in the map, `activations` (K,). `filter` (C, kh, kw) is the unit's own, of a layer
    that reads the picture. `statistics` are the unit's over `count` pictures: mean, maximum, share that it fires on.

    >>> net = deconvviz.load("zfnet")
    >>> with deconvviz.scan(net, "photos", ["conv2"], top=2, store="panel.db") as store:
    ...     found = deconvviz.panels(net, store, "conv2", 7)
    >>> found.unit, len(found.images())
    (7, 2)
    """

    unit: int
    pixels: Annotated[Tensor, "K C h w"]
    crops: Annotated[Tensor, "K h w 3"]
    parts: Annotated[Tensor, "K 4"]
    boxes: Annotated[Tensor, "K 4"]
    pictures: Annotated[Tensor, "K"]
    places: Annotated[Tensor, "K 2"]
    activations: Annotated[Tensor, "K"]
    filter: Annotated[Tensor | None, "C _ _"] = None
    paths: tuple[str | None, ...] = ()
    labels: tuple[str | None, ...] = ()
    statistics: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.activations.shape[0])

    @property
    def title(self) -> str:
        """Model, layer and unit."""
        return f"{self.model_name} {self.name} unit {self.unit}"

    def images(self, percentile: float = 99.5, scale: str = "panel") -> NDArray[np.uint8]:
        """Return the projections as pictures (K, h, w, C) uint8, zero as mid-grey 128; see `signed_pictures`."""
        return signed_pictures(self.pixels, percentile, scale)

    def facts(self) -> dict[str, object]:
        """Return everything but the pictures as plain Python values, ready for JSON."""
        lists = {n: getattr(self, n).tolist() for n in ("pictures", "places", "activations", "boxes", "parts")}
        return {**self.plain(), **lists}


@dataclass(frozen=True, eq=False)
class PanelsPage(Result):
    """Panels of some units of some layers, in the order of the layers; `seed` chose the units (Fig. 2).

    >>> net = deconvviz.load("zfnet")
    >>> with deconvviz.scan(net, "photos", ["conv2"], top=2, store="fig2.db") as store:
    ...     deconvviz.panels_page(net, store, units_per_layer=2).title
    'zfnet strongest places of random units of conv2'
    """

    kind: ClassVar[str] = "page of panels"
    drawn_by: ClassVar[str] = "draw_page"

    panels: tuple[Panels, ...]
    seed: int = 0

    def __len__(self) -> int:
        return len(self.panels)

    @property
    def title(self) -> str:
        """Model and layers."""
        layers = ", ".join(dict.fromkeys(p.name for p in self.panels))
        return f"{self.model_name} strongest places of random units of {layers}"

    def facts(self) -> dict[str, object]:
        """Return units with their places, as plain Python values, ready for JSON."""
        return {**self.plain(), "panels": [p.facts() for p in self.panels]}
