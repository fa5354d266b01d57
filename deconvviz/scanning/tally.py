"""What a scan knows of its units, as numbers that add up the same in every order.

Adding tallies is exact, so blocks, runs and processes may be put together in any way with the same bits: counts are
whole numbers, sums are kept in whole parts, and the strongest places have a total order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deconvviz.scanning.rows import BINS, EDGES

# Weights of the parts of an exact sum: each part counts multiples of one of these, below 2^32 of them in one number.
# What is below 2^-96 is cut off each number.
_SCALES: tuple[float, ...] = tuple(2.0**e for e in (96, 64, 32, 0, -32, -64, -96))


def exact_parts(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """The sum over axis 0 of (N, U), N < 2^20, as whole parts (U, 7); parts of several sums may be added."""
    rest = values.astype(np.float64)
    parts = []
    for scale in _SCALES:
        whole = np.trunc(rest / scale)
        rest -= whole * scale
        parts.append(whole.sum(0).astype(np.int64))
    return np.stack(parts, 1)


def sum_of(parts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The sums (U,) that parts (U, 7) stand for, to double precision."""
    total = np.zeros(len(parts))
    for k in range(len(_SCALES) - 1, -1, -1):  # the small ones first
        total += parts[:, k] * _SCALES[k]
    return total


def bins_of(peaks: NDArray[np.floating]) -> NDArray[np.int64]:
    """Histogram (U, BINS) of maxima (N, U); see `deconvviz.scanning.rows.EDGES`."""
    units = peaks.shape[1]
    bins = np.where(peaks > 0, 1 + np.searchsorted(EDGES, peaks, side="right"), 0)
    flat = bins + np.arange(units) * BINS
    return np.bincount(flat.ravel(), minlength=units * BINS).reshape(units, BINS).astype(np.int64)


@dataclass
class StrongestPlaces:
    """For each of U units its strongest places in order, (U, top) each; an empty entry has activation -inf.

    The order: higher activation, then lower picture, then raster order of the place (row × width + column).
    """

    activations: NDArray[np.float64]
    pictures: NDArray[np.int64]
    spots: NDArray[np.int64]

    @classmethod
    def empty(cls, units: int, top: int) -> StrongestPlaces:
        """No place for any unit."""
        none = np.full((units, top), np.iinfo(np.int64).max)
        return cls(np.full((units, top), -np.inf), none, none.copy())

    @classmethod
    def of(
        cls, units: int, top: int, unit: NDArray[np.int64], activation: NDArray[np.float64],
        picture: NDArray[np.int64], spot: NDArray[np.int64],
    ) -> StrongestPlaces:  # fmt: skip
        """The strongest of a list of places, each of some unit."""
        order = np.lexsort((spot, picture, -activation, unit))
        unit, activation, picture, spot = unit[order], activation[order], picture[order], spot[order]
        rank = np.arange(len(unit)) - np.searchsorted(unit, unit)
        keep = rank < top
        at = (unit[keep], rank[keep])
        made = cls.empty(units, top)
        made.activations[at], made.pictures[at], made.spots[at] = activation[keep], picture[keep], spot[keep]
        return made

    @property
    def floor(self) -> NDArray[np.float64]:
        """The weakest activation that each list holds, (U,): -inf while it has room."""
        return self.activations[:, -1]

    def add(self, other: StrongestPlaces) -> NDArray[np.bool_]:
        """Take in another's places; returns which lists may have changed, (U,)."""
        touched: NDArray[np.bool_] = (other.activations[:, 0] > -np.inf) & (other.activations[:, 0] >= self.floor)
        if touched.any():
            top = self.activations.shape[1]
            mine = (self.activations, self.pictures, self.spots)
            others = (other.activations, other.pictures, other.spots)
            both = [np.concatenate((a[touched], b[touched]), 1) for a, b in zip(mine, others, strict=True)]
            order = np.lexsort((both[2], both[1], -both[0]), axis=1)[:, :top]
            for held, joined in zip(mine, both, strict=True):
                held[touched] = np.take_along_axis(joined, order, 1)
        return touched


@dataclass
class Tally:
    """Statistics and strongest places of U units over `count` pictures; see `UnitStatistics`."""

    count: int
    parts: NDArray[np.int64]
    maximum: NDArray[np.float64]
    fires: NDArray[np.int64]
    histogram: NDArray[np.int64]
    places: StrongestPlaces

    @classmethod
    def empty(cls, units: int, top: int) -> Tally:
        """Nothing seen yet."""
        return cls(
            0, np.zeros((units, len(_SCALES)), np.int64), np.full(units, -np.inf), np.zeros(units, np.int64),
            np.zeros((units, BINS), np.int64), StrongestPlaces.empty(units, top),
        )  # fmt: skip

    @classmethod
    def of(cls, peaks: NDArray[np.float64], means: NDArray[np.float64], places: StrongestPlaces) -> Tally:
        """The tally of N pictures from their units' maxima and means over the map, (N, U) each."""
        if not len(peaks):
            return cls.empty(peaks.shape[1], places.activations.shape[1])
        return cls(len(peaks), exact_parts(means), peaks.max(0), (peaks > 0).sum(0), bins_of(peaks), places)

    def add(self, other: Tally) -> NDArray[np.bool_]:
        """Take in another tally; returns which units' places may have changed, (U,)."""
        self.count += other.count
        self.parts += other.parts
        np.maximum(self.maximum, other.maximum, out=self.maximum)
        self.fires += other.fires
        self.histogram += other.histogram
        return self.places.add(other.places)
