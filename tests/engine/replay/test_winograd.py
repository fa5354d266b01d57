"""The fast 3×3 convolution against torch's in float64, in every tiling."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.engine.replay import winograd
from deconvviz.engine.replay.winograd import Winograd, suits


@contextmanager
def only(tiles: tuple[int, ...]) -> Iterator[None]:
    """No other tiles to choose from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "_BLOCKS", (tiles,))
        winograd._tiling.cache_clear()
        yield
    winograd._tiling.cache_clear()


def pair(size: tuple[int, int], dtype: torch.dtype, maps: int = 7, channels: int = 5, count: int = 3) -> torch.Tensor:
    return torch.randn(count, channels, *size, dtype=dtype).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("tiles", winograd._BLOCKS)
@pytest.mark.parametrize("size", [(4, 4), (7, 10), (5, 3), (16, 9), (23, 6)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (0, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_plain_convolution(
    tiles: tuple[int, ...], size: tuple[int, int], padding: tuple[int, int], bias: bool
) -> None:
    """Blocks that fit, blocks larger than the map, and last ones that make rows again."""
    torch.manual_seed(0)
    x = pair(size, torch.float64)
    weight, shift = torch.randn(7, 5, 3, 3).double(), torch.randn(7).double() if bias else None
    kept = x.clone(), weight.clone()
    with only(tiles):
        got = Winograd(weight, shift)(x, padding)
    torch.testing.assert_close(got, F.conv2d(x, weight, shift, padding=padding), rtol=0, atol=1e-11)
    assert torch.equal(x, kept[0]) and torch.equal(weight, kept[1])


@given(st.integers(3, 40), st.integers(3, 40), st.integers(1, 5), st.tuples(st.integers(0, 2), st.integers(0, 2)))
def test_equals_it_in_the_tiles_it_chooses(height: int, width: int, count: int, padding: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x, weight = pair((height, width), torch.float64, count=count), torch.randn(4, 5, 3, 3).double()
    got = Winograd(weight, None)(x, padding)
    torch.testing.assert_close(got, F.conv2d(x, weight, padding=padding), rtol=0, atol=1e-11)


def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = pair((8, 8), torch.float32, count=9)
    fast = Winograd(torch.randn(6, 5, 3, 3), None)
    want = fast(x)
    monkeypatch.setattr("deconvviz.engine.costs.TILE_PART", 1)
    monkeypatch.setattr("deconvviz.engine.costs.TILE_PART_OF_FILTER", 0)
    torch.testing.assert_close(fast(x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("one_dnn", [True, False])
@pytest.mark.parametrize("tiles", winograd._BLOCKS)
def test_rounding_in_float32_stays_near_that_of_the_plain_one(
    monkeypatch: pytest.MonkeyPatch, tiles: tuple[int, ...], one_dnn: bool
) -> None:
    if not one_dnn:
        monkeypatch.setattr("deconvviz.engine.replay.winograd._has_one_dnn", lambda: False)
    torch.manual_seed(0)
    x, weight, bias = pair((14, 14), torch.float32, channels=256), torch.randn(256, 256, 3, 3) / 48, torch.randn(256)
    want = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    with only(tiles):
        got = Winograd(weight, bias)(x, (1, 1))
    assert got.dtype == torch.float32
    assert float((got.double() - want).abs().max() / want.abs().max()) < 5e-6


def test_only_where_it_is_the_same() -> None:
    weight = torch.zeros(16, 16, 3, 3)
    assert suits(weight, (1, 1), (1, 1), 1)
    assert not suits(weight, (2, 1), (1, 1), 1)
    assert not suits(weight, (1, 1), (1, 2), 1)
    assert not suits(weight[:, :8], (1, 1), (1, 1), 2)
    assert not suits(weight.double(), (1, 1), (1, 1), 1)
    assert not suits(weight.to("meta"), (1, 1), (1, 1), 1)
    assert not suits(torch.zeros(16, 16, 5, 5), (1, 1), (1, 1), 1)


def test_pays_with_many_maps_on_large_batches_only() -> None:
    """In places of a plain convolution: below height × width it is taken."""
    many, few = (Winograd(torch.zeros(n, n, 3, 3), None) for n in (512, 64))
    assert many.price(64, 7, 7, (1, 1)) < 0.7 * 49 and many.price(64, 14, 14) < 0.7 * 196
    assert many.price(1, 7, 7, (1, 1)) > 49
    many.expected = 4  # then preparing the filters costs more than it saves
    assert many.price(4, 7, 7, (1, 1)) > 49
    assert all(few.price(k, n, n) > n * n for k, n in itertools.product((1, 64), (7, 14, 28)))
