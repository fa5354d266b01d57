"""The map whose activity is watched while the picture is covered (Fig. 7 b)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from deconvviz.engine.layers import FoundLayer, layer_maps
from deconvviz.engine.recording import Recording
from deconvviz.engine.windows import Patch, RecordedMap


@dataclass
class Watch:
    """A layer's value whose map `unit` is summed; `total` is its sum on the picture itself."""

    value: int
    unit: int
    total: float
    recorded: RecordedMap | None

    def activity(self, patch: Patch) -> Tensor:
        """The sum of the watched map for each of the K changes, float64."""
        one = patch.data[:, self.unit].double()
        if patch.windows is None or self.recorded is None:
            return one.flatten(1).sum(1) if one.dim() > 1 else one
        recorded = self.recorded.on(patch.windows)
        return self.total + one.flatten(1).sum(1) - recorded.flatten(1).sum(1)

    def map(self, patch: Patch) -> Tensor:
        """The watched map for each of the K changes, (K, h, w) float64; (K, 1, 1) of outputs (N, C)."""
        one = patch.data[:, self.unit : self.unit + 1].double()
        if self.recorded is None:
            return one[..., None]
        return self.recorded.changed(Patch(one, patch.windows))[:, 0]


def watch(rec: Recording, found: FoundLayer, unit: int | None = None) -> Watch:
    """Watch a `unit` of a layer, by default the one whose maximum is largest on the picture itself."""
    maps = layer_maps(rec, found)
    unit = int(maps.flatten(1).amax(1).argmax()) if unit is None else unit
    one = rec.values[found.value][:, unit : unit + 1]
    recorded = RecordedMap(one.double()) if one.dim() == 4 else None
    return Watch(found.value, unit, float(maps[unit].double().sum()), recorded)
