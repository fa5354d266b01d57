"""The result of `project`: numbers and the pictures made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deconvviz.results.base import LayerResult, OnePictureResult, signed_pictures


@dataclass(frozen=True, eq=False)
class Projection(LayerResult, OnePictureResult):
    """What K units of one layer respond to in one picture, projected down to its pixels.

    `units` (K,), `places` (K, 2) row and column in the map, `activations` (K,), `pixels` (K, C, H, W) signed,
    in the input's own scale, `boxes` (K, 4) top, left, bottom, right of the receptive field clipped to the
    picture, half-open; `switches` is the number of max pools between the layer and the picture (0: a deconvnet's
    projection does not follow the photograph; None: not known); `image` (C, H, W) is the preprocessed input, `mean` and
    `std` its normalisation (empty for a bare module); `policy` and `model` say how it was made and of what. Zeiler &
    Fergus 2014, section 2.1.

    >>> p = deconvviz.project(deconvviz.load("zfnet"), "image.jpg", "conv1", top=2)
    >>> p.images().shape, p.crops()[0].shape, p.policy["method"]
    ((2, 224, 224, 3), (7, 7, 3), 'deconvnet')
    """

    units: Annotated[Tensor, "K"]
    places: Annotated[Tensor, "K 2"]
    activations: Annotated[Tensor, "K"]
    pixels: Annotated[Tensor, "K C H W"]
    boxes: Annotated[Tensor, "K 4"]
    switches: int | None = None

    def __len__(self) -> int:
        return int(self.units.shape[0])

    @property
    def title(self) -> str:
        """Model and layer."""
        return f"{self.model_name} {self.name}"

    def images(self, percentile: float = 99.5, scale: str = "panel") -> NDArray[np.uint8]:
        """Return the projections as pictures (K, H, W, C) uint8, zero as mid-grey 128; see `signed_pictures`."""
        return signed_pictures(self.pixels, percentile, scale)

    def crops(self) -> list[NDArray[np.uint8]]:
        """Return for each unit its receptive field cut from the photograph, (h, w, C) uint8."""
        shown = self.photograph()
        return [shown[t:b, left:right].copy() for t, left, b, right in self.boxes.tolist()]

    def facts(self) -> dict[str, object]:
        """Return everything but the pixels as plain Python values, ready for JSON."""
        lists = {n: getattr(self, n).tolist() for n in ("units", "places", "activations", "boxes")}
        return {**self.plain(), **lists}
