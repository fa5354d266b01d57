"""Tallies add up the same in every order, to the bit; oracles are Python's own exact sums and sorts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deconvviz.scanning.rows import BINS, EDGES
from deconvviz.scanning.tally import StrongestPlaces, Tally, bins_of, exact_parts, sum_of


def test_sums_are_exact_in_every_order() -> None:
    rng = np.random.default_rng(0)
    values = (rng.standard_normal((500, 3)) * 10.0 ** rng.integers(-12, 13, (500, 3))).astype(np.float32)
    whole = exact_parts(values)
    for order in (rng.permutation(500), np.arange(500)[::-1]):
        cut = sum(exact_parts(values[order[a : a + 77]]) for a in range(0, 500, 77))
        assert (cut == whole).all()
    expected = [math.fsum(values[:, k].tolist()) for k in range(3)]
    assert sum_of(whole).tolist() == pytest.approx(expected, rel=1e-15)
    assert sum_of(exact_parts(np.array([[1e8], [1.0], [-1e8]]))).tolist() == [1.0]


def test_histogram_by_hand() -> None:
    bins = bins_of(np.array([[0.0, 1.0], [-3.0, 1.2], [1e-9, 1.5], [3e6, 2.0]]))
    one = 2 + int(np.flatnonzero(EDGES == 1.0)[0])  # from 1 up to the square root of 2
    assert bins[0, [0, 1, BINS - 1]].tolist() == [2, 1, 1] and bins[0].sum() == 4
    assert bins[1, [one, one + 1, one + 2]].tolist() == [2, 1, 1]


def test_places_are_those_of_a_plain_sort() -> None:
    rng = np.random.default_rng(1)
    # Few different activations: ties everywhere.
    rows = {(int(u), int(p), int(s)): float(a) for u, p, s, a in rng.integers(0, (3, 20, 5, 4), (400, 4))}
    made = [StrongestPlaces.empty(3, 6) for _ in range(2)]
    for n, order in enumerate((list(rows), sorted(rows))):
        for start in range(0, len(order), 37):
            part = order[start : start + 37]
            unit, picture, spot = np.array(part).T
            made[n].add(StrongestPlaces.of(3, 6, unit, np.array([rows[k] for k in part]), picture, spot))
    for u in range(3):
        best = sorted((-a, p, s) for (unit, p, s), a in rows.items() if unit == u)[:6]
        for places in made:
            columns = (-places.activations[u], places.pictures[u], places.spots[u])
            assert list(zip(*(c.tolist() for c in columns), strict=True)) == best


def test_what_changed_is_told() -> None:
    places = StrongestPlaces.empty(3, 1)
    one = np.array([1])
    assert places.add(StrongestPlaces.of(3, 1, one, np.array([5.0]), one, one)).tolist() == [False, True, False]
    assert not places.add(StrongestPlaces.of(3, 1, one, np.array([4.0]), one, one)).any()
    assert places.add(StrongestPlaces.of(3, 1, one, np.array([5.0]), np.array([0]), one)).any(), (
        "a lower picture wins a tie"
    )
    assert places.pictures[1].tolist() == [0]


def test_the_tally_of_nothing_changes_nothing() -> None:
    some = Tally.of(np.array([[1.0, -2.0]]), np.array([[0.5, -2.5]]), StrongestPlaces.empty(2, 3))
    some.add(Tally.of(np.empty((0, 2)), np.empty((0, 2)), StrongestPlaces.empty(2, 3)))
    assert some.count == 1 and some.maximum.tolist() == [1.0, -2.0] and some.fires.tolist() == [1, 0]
