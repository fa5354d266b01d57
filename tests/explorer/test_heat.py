"""The order in which a heat map fills."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.explorer.heat import coarse_to_fine, cut


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50))
def test_every_position_once_and_coarse_first(rows: int, cols: int, most: int) -> None:
    seen = np.zeros((rows, cols), int)
    order = []
    left = list(coarse_to_fine(rows, cols))
    first = len(left[0][0]) * len(left[0][1])
    while left:
        piece, rest = cut(left.pop(0), most)
        left = rest + left
        assert 1 <= len(piece[0]) * len(piece[1]) <= most
        seen[np.ix_(*piece)] += 1
        order += [(int(r), int(c)) for r in piece[0] for c in piece[1]]
    assert (seen == 1).all()
    early = np.array(order[:first])
    assert first <= 25
    for axis, count in ((0, rows), (1, cols)):
        away = np.abs(np.arange(count)[:, None] - early[None, :, axis]).min(1)
        assert away.max() <= max(rows, cols) / 2, "the first positions span the grid"
