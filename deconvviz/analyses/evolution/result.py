"""The result of `evolve`: what units respond to as training goes on, and when each layer has settled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from deconvviz.errors import DeconvvizValueError, ResultError
from deconvviz.results.base import LayerResult, PictureResult
from deconvviz.results.table import Table

# What is compared with the last checkpoint.
MEASURES = ("features", "projections")


@dataclass(frozen=True, eq=False)
class EvolutionLayer(LayerResult):
    """K units of one layer at E checkpoints: a part of `Evolution`.

    At each checkpoint a unit's strongest activation over all pictures: `activations` (E, K), in which picture
    `pictures` (E, K), where in the map `places` (E, K, 2), its receptive field `boxes` (E, K, 4) top, left, bottom,
    right. `pixels` (E, K, C, h, w) are the projections, cut to windows as large as the receptive field that lie inside
    the picture, and `photos` the same pieces of the preprocessed pictures. `features` (E, M) is for each of the layer's
    M units the correlation of its values, over all pictures and places, with those of the last checkpoint, NaN for
    those that never fire there; `projections` (E, K) the cosine of the projection with the last one, both from the
    picture and the place of the last.
    """

    units: Annotated[Tensor, "K"]
    activations: Annotated[Tensor, "E K"]
    pictures: Annotated[Tensor, "E K"]
    places: Annotated[Tensor, "E K 2"]
    boxes: Annotated[Tensor, "E K 4"]
    pixels: Annotated[Tensor, "E K C h w"]
    photos: Annotated[Tensor, "E K C h w"]
    features: Annotated[Tensor, "E M"]
    projections: Annotated[Tensor, "E K"]

    def __len__(self) -> int:
        return int(self.units.shape[0])

    @property
    def title(self) -> str:
        """The layer."""
        return self.name

    @property
    def jumps(self) -> Tensor:
        """(E, K) True where another picture is behind the projection than at the checkpoint before."""
        changed = self.pictures[1:] != self.pictures[:-1]
        return torch.cat([torch.zeros_like(self.pictures[:1], dtype=torch.bool), changed])

    def similarity(self, measure: str = "features") -> Tensor:
        """Return the layer's similarity (E,) with the last checkpoint: the mean over units of one of `MEASURES`."""
        if measure not in MEASURES:
            raise DeconvvizValueError(f"measure is {measure!r}; allowed: {', '.join(MEASURES)}")
        values: Tensor = getattr(self, measure)
        return values.nanmean(1)


@dataclass(frozen=True, eq=False)
class Evolution(PictureResult):
    """How the features of some layers evolve over the checkpoints of a training run (Zeiler & Fergus 2014, Fig. 4).

    `epochs` (E,) are those of the checkpoints, `layers` one `EvolutionLayer` each, `names` those of the pictures (the
    indices in a layer's `pictures` point to them). `mean` and `std` are the
    input's normalisation; `policy` and `model` say how it was made and of what.

    >>> net = deconvviz.load("lenet")
    >>> e = deconvviz.evolve({1: net, 2: net}, torch.rand(4, 1, 28, 28), layer=["1", "2"], count=2)
    >>> e.settled(0.9)  # the same network twice: from the first epoch on
    {'conv1': 1, 'conv2': 1}
    """

    epochs: tuple[int, ...]
    layers: tuple[EvolutionLayer, ...]
    names: tuple[str, ...]

    def check(self) -> None:
        """Raise `ResultError` if the fields contradict each other in what their annotations cannot say."""
        for layer in self.layers:
            if len(layer.activations) != len(self.epochs):
                raise ResultError(
                    f"{layer.name} has {len(layer.activations)} checkpoints, but {len(self.epochs)} epochs"
                )
            if layer.pictures.numel() and not 0 <= int(layer.pictures.min()) <= int(layer.pictures.max()) < len(
                self.names
            ):
                raise ResultError(f"{layer.name} has pictures beyond the {len(self.names)} names")

    @property
    def title(self) -> str:
        """Model and layers."""
        return f"{self.model_name} evolution of {', '.join(x.name for x in self.layers)}"

    def settled(self, level: float = 0.9, measure: str = "features") -> dict[str, int]:
        """Return for each layer the epoch from which on its similarity with the last checkpoint is `level` or more.

        `measure` is one of `MEASURES`; the last epoch is the answer for a layer that gets there only at the end.
        """
        found = {}
        for layer in self.layers:
            below = (layer.similarity(measure) < level).nonzero()
            first = int(below[-1]) + 1 if len(below) else 0
            found[layer.name] = self.epochs[min(first, len(self.epochs) - 1)]
        return found

    def table(self, measure: str = "features", level: float = 0.9) -> Table:
        """Return the similarity with the last checkpoint, one row a layer and one column an epoch."""
        settled = self.settled(level, measure)
        rows = [
            [layer.name, *(f"{x:.3f}" for x in layer.similarity(measure).tolist()), settled[layer.name]]
            for layer in self.layers
        ]
        caption = (
            f"Similarity of {measure} with those of the last checkpoint, and the epoch from which it is ≥ {level:g}."
        )
        return Table(["layer", *(f"epoch {e}" for e in self.epochs), f"≥ {level:g}"], rows, caption)

    def facts(self) -> dict[str, object]:
        """Return what was found as plain Python values, ready for JSON; the pictures are in npz."""
        plain = self.plain()
        names = plain.pop("names")
        assert isinstance(names, list)
        return {
            **plain,
            "pictures": len(names),
            "layers": [self._layer_facts(layer, names) for layer in self.layers],
            "settled": {measure: self.settled(measure=measure) for measure in MEASURES},
        }

    def _layer_facts(self, layer: EvolutionLayer, names: list[str]) -> dict[str, object]:
        units = [
            {
                "unit": int(unit),
                "activations": layer.activations[:, k].tolist(),
                "pictures": [names[i] for i in layer.pictures[:, k].tolist()],
                "jumps": [e for e, jumped in zip(self.epochs, layer.jumps[:, k].tolist(), strict=True) if jumped],
            }
            for k, unit in enumerate(layer.units)
        ]
        similarity = {measure: layer.similarity(measure).tolist() for measure in MEASURES}
        return {"layer": layer.name, "similarity": similarity, "units": units}
