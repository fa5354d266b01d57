"""Similarity and the order by it."""

from __future__ import annotations

import itertools

import numpy as np

from deconvviz.atlas.similar import LENGTH, SIDE, cosines, descriptor, nearest, order


def tile(pixels: np.ndarray) -> np.ndarray:
    return np.dstack([pixels, np.full(pixels.shape[:2], 255)]).astype(np.uint8)


def test_grey_is_zero_the_sign_counts_and_contrast_does_not() -> None:
    wave = np.sin(np.arange(4 * SIDE) / 5)[:, None, None] * np.ones((1, 4 * SIDE, 3))
    grey = tile(np.full((20, 20, 3), 128))
    strong, weak, opposite = (descriptor([tile(128 + k * wave)], [grey]) for k in (100, 40, -100))
    assert 0.49 < np.dot(strong, weak) <= 0.5 and -0.5 <= np.dot(strong, opposite) < -0.49
    assert not descriptor([grey], [grey]).any()
    assert descriptor([], []).shape == (LENGTH,)


def test_projections_and_crops_count_the_same() -> None:
    rng = np.random.default_rng(0)
    a, b, c, d = (tile(rng.integers(0, 256, (SIDE, SIDE, 3))) for _ in range(4))

    def cosine(first: np.ndarray, second: np.ndarray, side: int) -> float:
        cells = [x[..., :3].astype(float).reshape(side, SIDE // side, side, SIDE // side, 3).mean((1, 3)) - 128
                 for x in (first, second)]  # fmt: skip
        return float((cells[0] * cells[1]).sum() / np.sqrt((cells[0] ** 2).sum() * (cells[1] ** 2).sum()))

    expected = (cosine(a, c, SIDE) + cosine(b, d, SIDE // 2)) / 2
    assert abs(float(np.dot(descriptor([a], [b]), descriptor([c], [d]))) - expected) < 0.02
    assert abs(float(np.linalg.norm(descriptor([a, c], [b]))) - 1) < 1e-9


def test_what_is_cut_off_counts_as_grey() -> None:
    bright = tile(np.full((24, 24, 3), 228))
    bright[:, :12, 3] = 0
    halves = descriptor([bright], [])[: 3 * SIDE**2].reshape(SIDE, SIDE, 3)
    assert not halves[:, : SIDE // 2].any() and (halves[:, SIDE // 2 :] > 0).all()


def test_nearest_are_the_most_similar_others() -> None:
    directions = np.array([[1.0, 0], [0.8, 0.6], [0.6, 0.8], [-1, 0], [0, 0]])
    table = cosines(directions)
    assert np.allclose(table[0], [1, 0.8, 0.6, -1, 0])
    assert nearest(table, 0, 2) == [(1, 0.8), (2, 0.6)]
    assert [n for n, _ in nearest(table, 0, 9)] == [1, 2], "neither itself nor what does not resemble it"


def test_the_order_of_points_on_an_arc_is_the_arc() -> None:
    angles = np.linspace(0, np.pi / 2, 40)
    shuffled = np.random.default_rng(0).permutation(40)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)[shuffled]
    found = shuffled[order(cosines(points))].tolist()
    assert found in (list(range(40)), list(range(39, -1, -1)))


def test_the_order_is_better_than_the_one_from_neighbour_to_neighbour_and_the_same_again() -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(60, 5))
    table = cosines(points / np.linalg.norm(points, axis=1, keepdims=True))
    row = order(table)
    assert sorted(row) == list(range(60)) and row == order(table.copy())

    def gain(units: list[int]) -> float:
        return float(sum(table[a, b] for a, b in itertools.pairwise(units)))

    greedy = [int(np.argmin(table.sum(axis=1)))]
    while len(greedy) < 60:
        left = [n for n in range(60) if n not in greedy]
        greedy.append(max(left, key=lambda n: (table[greedy[-1], n], -n)))
    assert gain(row) > gain(greedy) > gain(list(range(60)))


def test_few_units_stay_as_they_are() -> None:
    for count in range(3):
        assert order(np.eye(count)) == list(range(count))
