"""The result of `filters`: a layer's filters, the numbers of their diagnosis, and another network's beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvviz.errors import DeconvvizValueError
from deconvviz.results.base import LayerResult, signed_pictures
from deconvviz.results.table import Table

# What can be wrong with a filter, in the order in which it is told.
FAULTS = ("dead", "duplicate", "saturated", "aliased")


@dataclass(frozen=True, eq=False)
class Filters(LayerResult):
    """The F filters of one convolution and what is wrong with them (Zeiler & Fergus 2014, section 4.1 and Fig. 6).

    `weights` (F, C, h, w) as they act, a BatchNorm right behind them folded in. `rms` (F,) is each filter's root mean
    square in the paper's input scale, pixels of about [-128, 128]: `input_scale` (C,) is how many times larger those
    are than the network's own inputs (1 where that is not known). `cosine` (F,) is the signed cosine with the filter
    `twin` (F,) that is most like it, or its negative, once that one is moved by `shift` (F, 2) pixels down and right.
    `above` (F,) is the share of its energy at frequencies that the map, at `stride` (down, across), cannot carry:
    above 1 / (2 × stride) cycles per pixel along either axis; `peak` (F,) its strongest frequency in cycles per pixel.
    `bound` (F,) is the greatest response that any picture can give, before the rectifier (None where that cannot be
    said); `fires` (F,) the share of places where it is positive over the `pictures` that were looked at (None without).
    `policy` holds the thresholds, `model` says of what this is, `other` is a second network's filters.

    >>> f = deconvviz.filters(deconvviz.load("zfnet"))
    >>> sorted(f.faults()), f.faults()["dead"]
    (['aliased', 'dead', 'duplicate', 'saturated'], [])
    """

    weights: Annotated[Tensor, "F C h w"]
    rms: Annotated[Tensor, "F"]
    cosine: Annotated[Tensor, "F"]
    twin: Annotated[Tensor, "F"]
    shift: Annotated[Tensor, "F 2"]
    above: Annotated[Tensor, "F"]
    peak: Annotated[Tensor, "F"]
    stride: tuple[int, int]
    input_scale: tuple[float, ...]
    bound: Annotated[Tensor | None, "F"] = None
    fires: Annotated[Tensor | None, "F"] = None
    pictures: int = 0
    other: Filters | None = None

    def __len__(self) -> int:
        return int(self.weights.shape[0])

    @property
    def title(self) -> str:
        """Models and layer."""
        names = " and ".join(r.model_name for r in self.networks())
        return f"{names} filters of {self.name}"

    def networks(self) -> list[Filters]:
        """Return this result, and the other network's if there is one."""
        return [self] if self.other is None else [self, self.other]

    @property
    def dead(self) -> Tensor:
        """(F,) True for a filter that is blank beside the others, or that never fires.

        Blank: an RMS below `policy["blank"]` of the median. Never fires: no picture at all can lift it above zero
        (`bound`), or none of those that were looked at did (`fires`).
        """
        dead = self.rms < float(self.policy["blank"]) * self.rms.median()
        dead = dead | (self.rms == 0)
        if self.bound is not None:
            dead = dead | (self.bound <= 0)
        if self.fires is not None:
            dead = dead | (self.fires == 0)
        return dead

    @property
    def duplicate(self) -> Tensor:
        """(F,) True for a living filter whose |cosine| with another, also moved, is `policy["similar"]` or more."""
        return (self.cosine.abs() >= float(self.policy["similar"])) & ~self.dead

    @property
    def saturated(self) -> Tensor:
        """(F,) True for a filter with an RMS at the paper's radius (within 1 %) or above it."""
        return self.rms >= 0.99 * float(self.policy["radius"])

    @property
    def aliased(self) -> Tensor:
        """(F,) True for a living filter with more than `policy["alias"]` of its energy above what the map carries."""
        return (self.above > float(self.policy["alias"])) & ~self.dead

    def faults(self) -> dict[str, list[int]]:
        """Return the numbers of the filters that have each of `FAULTS`."""
        return {fault: getattr(self, fault).nonzero()[:, 0].tolist() for fault in FAULTS}

    @property
    def dominance(self) -> float:
        """The largest RMS over the median one: large where a few filters dominate, as in the paper's Fig. 6 (a)."""
        median = float(self.rms.median())
        return float(self.rms.max()) / median if median > 0 else float("inf")

    def clipped(self, radius: float | None = None) -> Tensor:
        """Return the filters (F, C, h, w), those with an RMS above `radius` scaled back to it.

        That is what the paper's training does after each step (section 3). `radius` is in the paper's input scale;
        None takes `policy["radius"]`. Raises `DeconvvizValueError` for one that is not positive.
        """
        limit = float(self.policy["radius"]) if radius is None else radius
        if not limit > 0:
            raise DeconvvizValueError(f"the radius is {limit}; allowed: above 0")
        factor = (limit / self.rms.clamp(min=1e-30)).clamp(max=1)
        return self.weights * factor.view(-1, 1, 1, 1)

    def images(self, scale: str = "shared", radius: float | None = None, percentile: float = 99.5) -> NDArray[np.uint8]:
        """Return the filters as pictures (F, h, w, 1 or 3) uint8, zero as mid-grey 128; see `signed_pictures`.

        `scale="shared"` is one scale for all of them, `"panel"` each filter's own; `radius` as in `clipped`. Filters
        with neither 1 nor 3 channels show the root mean square over them.
        """
        weights = self.weights if radius is None else self.clipped(radius)
        if weights.shape[1] not in (1, 3):
            weights = weights.pow(2).mean(1, keepdim=True).sqrt()
        return signed_pictures(weights, percentile, scale)

    def table(self) -> Table:
        """Return the counts of each network, one row each."""
        columns = ["network", "layer", "filters", "kernel", "stride", *FAULTS, "max/median RMS", "above Nyquist"]
        rows = []
        for r in self.networks():
            counts = [len(numbers) for numbers in r.faults().values()]
            kernel, stride = pair(r.weights.shape[2:]), pair(r.stride)
            mean = float(r.above.nanmean())
            name = r.model_name
            rows.append([name, r.name, len(r), kernel, stride, *counts, f"{r.dominance:.2f}", f"{mean:.1%}"])
        return Table(columns, rows)

    def facts(self) -> dict[str, object]:
        """Return the diagnosis as plain Python values, ready for JSON; the filters themselves are in npz."""
        pairs = [
            {"filters": [k, int(self.twin[k])], "cosine": float(self.cosine[k]), "shift": self.shift[k].tolist()}
            for k in self.duplicate.nonzero()[:, 0].tolist()
            # A pair is told once, unless the other half has a nearer twin of its own.
            if not (int(self.twin[k]) < k and int(self.twin[int(self.twin[k])]) == k)
        ]
        facts: dict[str, object] = {
            **self.plain(),
            "filters": len(self),
            "kernel": list(self.weights.shape[2:]),
            "faults": self.faults(),
            "duplicates": pairs,
            "dominance": self.dominance,
            "rms": self.rms.tolist(),
            "above_nyquist": self.above.tolist(),
            "peak_frequency": self.peak.tolist(),
            "fires": None if self.fires is None else self.fires.tolist(),
        }
        return facts if self.other is None else {**facts, "other": self.other.facts()}


def pair(sides: torch.Size | tuple[int, ...]) -> str:
    """Return "7×7" of (7, 7)."""
    return "×".join(str(int(s)) for s in sides)
