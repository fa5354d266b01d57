"""In which order a heat map fills: coarse first, then ever finer, in pieces of some rows with some columns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Lines = NDArray[np.int64]
Piece = tuple[Lines, Lines]


def coarse_to_fine(rows: int, cols: int) -> Iterator[Piece]:
    """Pieces of a grid (rows, cols), as numbers of rows and of columns; every position is in one of them, once.

    The first has every 2^k-th row with every 2^k-th column; each step halves the distance by two pieces, the rows
    between with all columns of the new distance, and the rows there were with the columns between.
    """
    step = 1
    while step * 4 < max(rows, cols):
        step *= 2
    yield np.arange(0, rows, step), np.arange(0, cols, step)
    while step > 1:
        half = step // 2
        yield from _some(
            (np.arange(half, rows, step), np.arange(0, cols, half)),
            (np.arange(0, rows, step), np.arange(half, cols, step)),
        )
        step = half


def cut(piece: Piece, most: int) -> tuple[Piece, list[Piece]]:
    """The first part of a piece, at most `most` positions, and what is left of it: whole rows, or parts of one."""
    rows, cols = piece
    if len(cols) > most:
        return (rows[:1], cols[:most]), _some((rows[:1], cols[most:]), (rows[1:], cols))
    down = max(most // len(cols), 1)
    return (rows[:down], cols), _some((rows[down:], cols))


def _some(*pieces: Piece) -> list[Piece]:
    return [(rows, cols) for rows, cols in pieces if len(rows) and len(cols)]
