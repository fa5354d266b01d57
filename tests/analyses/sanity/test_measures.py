"""Measures of likeness against plain loops, formulas by hand, and (where it is installed) scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from deconvviz.analyses.sanity.measures import MEASURES, alike, correlation, cosines, hog, rank_correlation, ranks, ssim


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def smooth(seed: int, side: int = 40) -> Tensor:
    """A map from 0 to 1 with structure."""
    found = torch.nn.functional.avg_pool2d(noise(1, side + 6, side + 6, seed=seed), 7, 1)[0]
    return (found - found.min()) / (found.max() - found.min())


def test_ranks_with_ties_by_counting() -> None:
    values = torch.tensor([3.0, 1.0, 3.0, -2.0, 3.0, 1.0], dtype=torch.float64)
    plain = [float((values < v).sum()) + (float((values == v).sum()) + 1) / 2 for v in values]
    assert ranks(values).tolist() == plain == [5.0, 2.5, 5.0, 1.0, 5.0, 2.5]


def test_rank_correlation_by_the_formula_of_differences() -> None:
    a, b = noise(50), noise(50, seed=1)
    differences = ranks(a) - ranks(b)
    assert rank_correlation(a, b) == pytest.approx(1 - 6 * float(differences.square().sum()) / (50 * (50**2 - 1)))
    assert rank_correlation(a, a.exp()) == pytest.approx(1)
    assert rank_correlation(a, -(a**3)) == pytest.approx(-1)


def test_correlation_is_numpys() -> None:
    a, b = noise(3, 7), noise(3, 7, seed=1)
    assert correlation(a, b) == pytest.approx(float(np.corrcoef(a.flatten(), b.flatten())[0, 1]))
    assert math.isnan(correlation(a, torch.ones(3, 7))) and math.isnan(correlation(torch.ones(0), torch.ones(0)))


def test_structural_similarity_by_a_loop_over_windows() -> None:
    a, b = smooth(0, 16), smooth(1, 16)
    weights = np.array([[math.exp(-(y * y + x * x) / (2 * 1.5**2)) for x in range(-5, 6)] for y in range(-5, 6)])
    weights /= weights.sum()
    found = []
    for row in range(6):
        for column in range(6):
            one, two = (m[row : row + 11, column : column + 11].numpy() for m in (a, b))
            mean_1, mean_2 = (weights * one).sum(), (weights * two).sum()
            var_1, var_2 = (weights * (one - mean_1) ** 2).sum(), (weights * (two - mean_2) ** 2).sum()
            together = (weights * (one - mean_1) * (two - mean_2)).sum()
            top = (2 * mean_1 * mean_2 + 1e-4) * (2 * together + 9e-4)
            found.append(top / ((mean_1**2 + mean_2**2 + 1e-4) * (var_1 + var_2 + 9e-4)))
    assert ssim(a, b) == pytest.approx(np.mean(found))
    assert ssim(a, a) == pytest.approx(1) and ssim(a[:3, :5], a[:3, :5]) == pytest.approx(1)


def test_an_upright_edge_has_one_orientation() -> None:
    step = torch.zeros(16, 16, dtype=torch.float64)
    step[:, 8:] = 1
    found = hog(step).view(2, 2, 9)
    assert found[..., 1:].count_nonzero() == 0 and bool((found[..., 0] > 0.4).all())
    across = hog(step.T.contiguous()).view(2, 2, 9)
    assert across.argmax(2).tolist() == [[4, 4], [4, 4]]  # 90 degrees


def test_hog_of_what_is_too_small() -> None:
    assert len(hog(noise(3, 9))) == 0
    assert len(hog(noise(8, 8))) == 36  # one block of cells of 4 x 4
    assert math.isnan(alike(noise(1, 3, 3), noise(1, 3, 3, seed=1))[3])


@pytest.mark.parametrize("side", [40, 43])
def test_as_scikit_image_has_it(side: int) -> None:
    metrics, feature = pytest.importorskip("skimage.metrics"), pytest.importorskip("skimage.feature")
    a, b = smooth(0, side), smooth(1, side)
    there = metrics.structural_similarity(
        a.numpy(), b.numpy(), gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
    )
    assert ssim(a, b) == pytest.approx(there, abs=1e-12)
    described = feature.hog(a.numpy(), 9, (8, 8), (2, 2), block_norm="L2-Hys")
    np.testing.assert_allclose(hog(a).numpy(), described, atol=1e-6)  # whose histograms are float32


def test_alike() -> None:
    a = noise(3, 24, 24)
    assert alike(a, a).tolist() == pytest.approx([1] * len(MEASURES))
    assert alike(a, -a).tolist() == pytest.approx([-1, 1, 1, 1])  # magnitudes do not know the sign
    assert bool(alike(0 * a, a).isnan().all() and alike(a, 0 * a).isnan().all())


def test_cosines() -> None:
    a = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]]).view(3, 1, 1, 2)
    b = torch.tensor([[-4.0, -3.0], [0.0, 2.0], [1.0, 1.0]]).view(3, 1, 1, 2)
    found = cosines(a, b)
    assert found[:2].tolist() == pytest.approx([24 / 25, 0]) and math.isnan(found[2])
