"""One block of pictures through the network: maxima, means and the places that may be among the strongest."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvviz.engine.capture import TappedModel
from deconvviz.errors import DeconvvizValueError
from deconvviz.scanning.plan import Plan
from deconvviz.scanning.sources import PictureBlock, Told
from deconvviz.scanning.tally import StrongestPlaces, Tally

Part = tuple[Tally, list[Told]]


def look(probe: TappedModel, block: PictureBlock, plan: Plan, floor: NDArray[np.float64]) -> Part:
    """The tally of a block's pictures that are not done yet, and what is told of them.

    `floor` (U,) are activations that a place must exceed to count: the weakest of lists of earlier pictures.
    """
    told = [picture for picture in block.pictures if picture[0] >= plan.done]
    rows = [number - block.number * plan.batch for number, *_, error in told if error is None]
    view = _BlockTally(plan, block, floor, rows)
    if rows:
        probe.run(block.inputs, view.see)
    wrong = [row for row in rows if not (np.isfinite(view.peaks[row]).all() and np.isfinite(view.means[row]).all())]
    if wrong:
        # They may have kept places of others out: look again without them.
        numbers = {row + block.number * plan.batch for row in wrong}
        why = "its activations are not finite"
        again = [(*p[:4], why) if p[0] in numbers else p for p in block.pictures]
        return look(probe, PictureBlock(block.number, block.inputs, again), plan, floor)
    return view.tally(), told


class _BlockTally:
    """Takes in the layers' values of one block as they appear."""

    def __init__(self, plan: Plan, block: PictureBlock, floor: NDArray[np.float64], rows: list[int]) -> None:
        self.plan, self.rows, self.first = plan, rows, block.number * plan.batch
        self.floor = floor
        self.peaks = np.zeros((plan.batch, plan.units))
        self.means = np.zeros((plan.batch, plan.units))
        self.found: list[tuple[NDArray[np.int64], ...]] = []
        self.strengths: list[NDArray[np.float64]] = []

    def see(self, number: int, value: Tensor) -> None:
        """Reduce a layer's value (B, C, h, w) or (B, C)."""
        layer, start = self.plan.layers[number], int(self.plan.offsets[number])
        shape = (self.plan.batch, layer.maps, *(layer.size or ()))
        if not isinstance(value, Tensor) or tuple(value.shape) != shape:
            given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise DeconvvizValueError(f"layer '{layer.name}' gives {given} for a batch; expected {shape}")
        maps = value.detach().flatten(2) if value.dim() == 4 else value.detach()[:, :, None]
        high = maps.amax(2)
        mean = maps.mean(2, dtype=torch.float32 if maps.dtype != torch.float64 else None)
        units = slice(start, start + layer.maps)
        self.peaks[:, units] = high.double().cpu().numpy()
        self.means[:, units] = mean.cpu().numpy()
        self._candidates(maps, high.double(), start)

    def _candidates(self, maps: Tensor, high: Tensor, start: int) -> None:
        """Note the places that may be among the strongest of their unit."""
        use = torch.zeros(len(high), dtype=torch.bool, device=high.device)
        use[self.rows] = True
        high = torch.where(use[:, None] & high.isfinite(), high, -torch.inf)
        floor = torch.from_numpy(self.floor[start : start + high.shape[1]]).to(high.device)
        least = high.topk(min(self.plan.top, len(high)), dim=0).values[-1]
        row, unit = ((high > floor) & (high >= least)).nonzero(as_tuple=True)
        chosen, many = maps[row, unit], min(self.plan.per_picture, self.plan.top, maps.shape[2])
        if many == 1:
            spot = chosen.argmax(1, keepdim=True)  # the first in raster order
            strength = chosen.gather(1, spot)
        else:
            strength, spot = (x[:, :many] for x in chosen.sort(dim=1, descending=True, stable=True))
        columns = ((unit + start)[:, None], (row + self.first)[:, None], spot)
        self.found.append(tuple(c.expand_as(spot).flatten().cpu().numpy() for c in columns))
        self.strengths.append(strength.flatten().double().cpu().numpy())

    def tally(self) -> Tally:
        """All of it together, for the rows that count."""
        if not self.rows:
            return self.plan.nothing()
        unit, picture, spot = (np.concatenate(c) for c in zip(*self.found, strict=True))
        places = StrongestPlaces.of(self.plan.units, self.plan.top, unit, np.concatenate(self.strengths), picture, spot)
        return Tally.of(self.peaks[self.rows], self.means[self.rows], places)
