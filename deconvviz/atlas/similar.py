"""Which units look alike, by their mean projections and crops, and an order in which like stands beside like."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deconvviz.atlas.sheets import Pixels

SIDE = 12
LENGTH = 3 * (SIDE**2 + (SIDE // 2) ** 2)
# What the pages call it.
NAME = "the cosine between the mean projections of two units, averaged with that between their mean crops"

Matrix = NDArray[np.float64]


def descriptor(projections: Iterable[Pixels], crops: Iterable[Pixels]) -> NDArray[np.float64]:
    """A unit's mean projection and mean crop from tiles (h, w, 4), as one vector of length 1, grey as zero, (D,).

    Half the square of its length comes from each, so the product of two descriptors is the mean of two cosines.
    """
    both: NDArray[np.float64] = np.concatenate([_mean(projections, SIDE), _mean(crops, SIDE // 2)]) * 0.5**0.5
    return both


def _mean(tiles: Iterable[Pixels], side: int) -> NDArray[np.float64]:
    total = np.zeros((side, side, 3))
    for tile in tiles:
        small = np.asarray(Image.fromarray(tile, "RGBA").resize((side, side), Image.Resampling.BOX), np.float64)
        total += (small[..., :3] - 128) * (small[..., 3:] / 255)
    length = np.linalg.norm(total)
    return (total / length if length else total).ravel()


def cosines(descriptors: Matrix) -> Matrix:
    """Similarity of every pair of units, (U, U); units without a projection resemble none."""
    # Rounded, so that the order does not hang on the last bit of a matrix product.
    table: Matrix = np.round(descriptors @ descriptors.T, 6)
    return table


def nearest(table: Matrix, unit: int, count: int) -> list[tuple[int, float]]:
    """The `count` units most similar to `unit`, the most similar first, ties by number; none below zero."""
    row = table[unit].copy()
    row[unit] = -np.inf
    best = np.argsort(-row, kind="stable")[:count]
    return [(int(n), float(row[n])) for n in best if row[n] > 0]


def order(table: Matrix) -> list[int]:
    """The units in a row in which neighbours are similar: from neighbour to neighbour, then with twists taken out.

    Starts at the unit that resembles the others least, goes on to the nearest one left, and turns round pieces of the
    row (2-opt) as long as that makes neighbours more similar, for a bounded number of rounds.
    """
    count = len(table)
    if count < 3:
        return list(range(count))
    row = [int(np.argmin(table.sum(axis=1)))]
    free = np.ones(count, bool)
    free[row[0]] = False
    while len(row) < count:
        near = np.where(free, table[row[-1]], -np.inf)
        row.append(int(np.argmax(near)))
        free[row[-1]] = False
    return [int(n) for n in _untwisted(table, np.array(row))]


def _untwisted(table: Matrix, row: NDArray[np.int64], rounds: int = 20) -> NDArray[np.int64]:
    """Turn round row[i + 1 : j + 1] where the two new neighbours are more similar than the two old ones."""
    for _ in range(rounds):
        changed = False
        for i in range(len(row) - 2):
            # Old pairs (i, i+1) and (j, j+1); new pairs (i, j) and (i+1, j+1), for every j at once.
            j = np.arange(i + 1, len(row) - 1)
            old = table[row[i], row[i + 1]] + table[row[j], row[j + 1]]
            gain = table[row[i], row[j]] + table[row[i + 1], row[j + 1]] - old
            best = int(np.argmax(gain))
            if gain[best] > 1e-9:
                end = int(j[best]) + 1
                row[i + 1 : end] = row[i + 1 : end][::-1].copy()
                changed = True
        if not changed:
            break
    return row
