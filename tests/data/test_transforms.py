"""Geometric transforms: whole shifts and turns move the numbers, the rest is torch's own sampler."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deconvviz.data.transforms import TRANSFORMS, default_values, fill_colour, warp
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnknownNameError

SQUARE = torch.randn(3, 9, 9, generator=torch.Generator().manual_seed(0))
OBLONG = torch.randn(2, 7, 10, generator=torch.Generator().manual_seed(1))
FILLS: list[Any] = ["grey", "reflect", "edge", 1.5, (0.5, -1.0)]


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("kind", list(TRANSFORMS))
def test_the_identity_is_the_picture(kind: str, fill: Any) -> None:
    assert warp(OBLONG, kind, [TRANSFORMS[kind].identity], fill)[0].equal(OBLONG)


@pytest.mark.parametrize(("kind", "axis"), [("translation", 1), ("horizontal", 2)])
@pytest.mark.parametrize("shift", [1, -1, 3, -4, 6])
def test_whole_shifts_against_slices(kind: str, axis: int, shift: int) -> None:
    size = OBLONG.shape[axis]
    expected = torch.roll(OBLONG, shift, axis)
    fresh = range(shift) if shift > 0 else range(size + shift, size)
    expected.index_fill_(axis, torch.tensor(list(fresh)), 2.5)
    assert warp(OBLONG, kind, [shift], 2.5)[0].equal(expected)
    beyond = warp(OBLONG, kind, [size, -size - 3], 2.5)
    assert beyond.eq(2.5).all()


@pytest.mark.parametrize("shift", [2, -3, 11])
def test_reflection_and_edge_against_numpy_s_padding(shift: int) -> None:
    import numpy as np

    for fill, mode in (("reflect", "symmetric"), ("edge", "edge")):
        padded = np.pad(OBLONG.numpy(), ((0, 0), (12, 12), (0, 0)), mode)  # type: ignore[call-overload]
        expected = torch.from_numpy(padded[:, 12 - shift : 19 - shift])
        assert warp(OBLONG, "translation", [shift], fill)[0].equal(expected)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, -1])
@pytest.mark.parametrize("size", [8, 9])
def test_quarter_turns_are_counter_clockwise(turns: int, size: int) -> None:
    picture = torch.randn(3, size, size)
    assert warp(picture, "rotation", [90 * turns])[0].equal(torch.rot90(picture, turns, (1, 2)))


def test_flip_and_half_a_turn_of_an_oblong() -> None:
    assert warp(OBLONG, "flip", [0, 1]).equal(torch.stack([OBLONG, OBLONG.flip(2)]))
    assert warp(OBLONG, "rotation", [180])[0].equal(OBLONG.flip(1, 2))


def by_torch(picture: Tensor, theta: list[list[float]], mode: str) -> Tensor:
    """`affine_grid` works in units of half the picture, (x, y)."""
    grid = F.affine_grid(torch.tensor([theta], dtype=picture.dtype), [1, *picture.shape], align_corners=False)
    return F.grid_sample(picture[None], grid, padding_mode=mode, align_corners=False)[0]


@pytest.mark.parametrize(("fill", "mode"), [("grey", "zeros"), ("edge", "border"), ("reflect", "reflection")])
def test_everything_else_against_torch_s_sampler(fill: str, mode: str) -> None:
    picture = OBLONG.double()
    height, width = picture.shape[1:]
    for shift in (0.3, -2.75, 4.5):
        found = warp(picture, "translation", [shift], fill)[0]
        torch.testing.assert_close(found, by_torch(picture, [[1, 0, 0], [0, 1, -2 * shift / height]], mode))
        found = warp(picture, "horizontal", [shift], fill)[0]
        torch.testing.assert_close(found, by_torch(picture, [[1, 0, -2 * shift / width], [0, 1, 0]], mode))
    for scale in (0.6, 1.3, 1.8):
        expected = by_torch(picture, [[1 / scale, 0, 0], [0, 1 / scale, 0]], mode)
        torch.testing.assert_close(warp(picture, "scale", [scale], fill)[0], expected)
    for degrees in (10.0, 45.0, 200.0, -30.0):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        expected = by_torch(picture, [[c, -s * height / width, 0], [s * width / height, c, 0]], mode)
        torch.testing.assert_close(warp(picture, "rotation", [degrees], fill)[0], expected)


def test_many_values_are_one_each() -> None:
    values = [0.0, 10.0, 90.0, 251.0]
    one_by_one = torch.cat([warp(SQUARE, "rotation", [v]) for v in values])
    assert warp(SQUARE, "rotation", values).equal(one_by_one)
    assert warp(SQUARE.bfloat16(), "rotation", values).dtype == torch.bfloat16


def test_the_defaults_are_the_paper_s_and_fit_smaller_pictures() -> None:
    for kind in ("translation", "horizontal"):
        values = default_values(kind, 224)
        assert (min(values), max(values)) == (-60, 60) and 0 in values
        small = default_values(kind, 28)
        assert (min(small), max(small)) == (-8, 8) and len(set(small)) == len(small)
    assert (default_values("scale", 28)[0], default_values("scale", 28)[-1]) == (1, 1.8)
    assert (default_values("rotation", 224)[0], default_values("rotation", 224)[-1]) == (0, 350)
    for kind, found in TRANSFORMS.items():
        assert found.identity in default_values(kind, 224)


@pytest.mark.parametrize(
    ("picture", "kind", "values", "fill", "error", "message"),
    [
        (SQUARE, "rotate", [1], "grey", UnknownNameError, "rotate.*did you mean 'rotation'"),
        (SQUARE, "scale", [1, 0], "grey", DeconvvizValueError, "a value of scale is 0; allowed: numbers above 0"),
        (SQUARE, "flip", [0.5], "grey", DeconvvizValueError, "0.5; allowed: 0 and 1"),
        (SQUARE, "rotation", [math.nan], "grey", DeconvvizValueError, "nan; allowed: finite"),
        (SQUARE, "rotation", [], "grey", DeconvvizValueError, "rotation has no values"),
        (SQUARE, "rotation", ["ten"], "grey", DeconvvizTypeError, "allowed: numbers"),
        (SQUARE, "rotation", [1], "gray", UnknownNameError, "did you mean 'grey'"),
        (SQUARE, "rotation", [1], (1, 2), DeconvvizValueError, "or 3 of them"),
        (SQUARE, "rotation", [1], {}, DeconvvizTypeError, "fill is {}"),
        (SQUARE[0], "rotation", [1], "grey", DeconvvizTypeError, r"\(9, 9\); allowed: a float tensor \(C, H, W\)"),
        (SQUARE.byte(), "rotation", [1], "grey", DeconvvizTypeError, "float tensor"),
    ],
)
def test_errors(picture: Any, kind: str, values: Any, fill: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        warp(picture, kind, values, fill)


def test_a_colour_for_every_fill() -> None:
    batch = SQUARE[None]
    assert fill_colour("grey", batch).equal(torch.zeros(3))  # type: ignore[union-attr]
    assert fill_colour("reflect", batch) is None and fill_colour("edge", batch) is None
    assert fill_colour(2, batch).equal(torch.full((3,), 2.0))  # type: ignore[union-attr]
    assert fill_colour([1, 2, 3], batch).equal(torch.tensor([1.0, 2, 3]))  # type: ignore[union-attr]
