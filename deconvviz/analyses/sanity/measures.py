"""How alike two projections are: rank correlation, structural similarity, oriented gradients, cosine."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# In the order of `alike`.
MEASURES = ("rank correlation", "rank correlation of magnitudes", "SSIM", "HOG")

_SIGMA, _RADIUS = 1.5, 5  # pixels: the Gaussian window of SSIM, 11 wide
_C1, _C2 = 0.01**2, 0.03**2  # its constants, for values from 0 to 1
_CELL, _BLOCK, _BINS = 8, 2, 9  # HOG: pixels of a cell, cells of a block, orientations
_CLIP, _EPS = 0.2, 1e-5  # of a block's normalisation


def alike(reference: Tensor, other: Tensor) -> Tensor:
    """How alike two projections (C, h, w) are, by each of `MEASURES`, (4,) float64.

    Rank correlation is Spearman's, over all numbers with their signs; that of magnitudes, SSIM (Wang et al. 2004) and
    the correlation of HOG descriptors (Dalal and Triggs 2005) are of the sum of the channels' magnitudes, (h, w), over
    its largest value. NaN where either is 0 everywhere: a unit that does not fire sends nothing back by `guided` or
    `gradient`, and then nothing can be said.
    """
    reference, other = reference.double().cpu(), other.double().cpu()
    if not reference.any() or not other.any():
        return torch.full((len(MEASURES),), torch.nan, dtype=torch.float64)
    a, b = magnitudes(reference), magnitudes(other)
    found = (rank_correlation(reference, other), rank_correlation(a, b), ssim(a, b), correlation(hog(a), hog(b)))
    return torch.tensor(found, dtype=torch.float64)


def magnitudes(pixels: Tensor) -> Tensor:
    """The sum of the magnitudes of all channels, (h, w), its largest value 1."""
    total = pixels.abs().sum(0)
    return total / total.max()


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """|cosine| (K,) of each of K projections (K, C, H, W) with its partner; NaN where one of them is 0 everywhere."""
    one, two = a.flatten(1).double(), b.flatten(1).double()
    length = one.norm(dim=1) * two.norm(dim=1)
    dots = (one * two).sum(1).abs()
    return torch.where(length > 0, (dots / length).clamp(max=1), torch.nan).cpu()


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's: the correlation of the ranks; equal numbers share the mean of theirs."""
    return correlation(ranks(a.flatten()), ranks(b.flatten()))


def ranks(values: Tensor) -> Tensor:
    """The ranks (n,) of numbers (n,), from 1; the mean rank of those that are equal."""
    ordered, order = values.sort()
    _, group, counts = torch.unique_consecutive(ordered, return_inverse=True, return_counts=True)
    mean = counts.cumsum(0) - (counts - 1) / 2
    found = torch.empty(len(values), dtype=torch.float64)
    found[order] = mean.double()[group]
    return found


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's, of any two equal shapes; NaN where one of them is constant, or empty."""
    if not a.numel():
        return math.nan
    one, two = a.flatten() - a.mean(), b.flatten() - b.mean()
    length = float(one.norm() * two.norm())
    return float(one @ two) / length if length > 0 else math.nan


def ssim(a: Tensor, b: Tensor) -> float:
    """The mean structural similarity of two maps (h, w) from 0 to 1: Gaussian windows that lie inside of them."""
    radius = min(_RADIUS, (min(a.shape) - 1) // 2)
    line = torch.exp(-(torch.arange(-radius, radius + 1, dtype=torch.float64) ** 2) / (2 * _SIGMA**2))
    line = line / line.sum()
    both = torch.stack([a, b, a * a, b * b, a * b])[:, None]
    means = F.conv2d(F.conv2d(both, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))[:, 0]
    mean_a, mean_b, square_a, square_b, product = means
    variance, covariance = square_a - mean_a**2 + square_b - mean_b**2, product - mean_a * mean_b
    top = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    return float((top / ((mean_a**2 + mean_b**2 + _C1) * (variance + _C2))).mean())


def hog(values: Tensor) -> Tensor:
    """Histograms of oriented gradients of a map (h, w): 9 unsigned orientations, cells of 8×8, blocks of 2×2 cells.

    Blocks are normalised by L2-Hys. Maps too small for that have smaller cells; of less than 4 pixels a side there is
    nothing to describe.
    """
    height, width = values.shape
    cell = min(_CELL, min(height, width) // _BLOCK)
    if cell < 2:
        return values.new_empty(0)
    down, across = torch.zeros_like(values), torch.zeros_like(values)
    down[1:-1], across[:, 1:-1] = values[2:] - values[:-2], values[:, 2:] - values[:, :-2]
    angle = torch.rad2deg(torch.atan2(down, across)) % 180
    chosen = (angle // (180 / _BINS)).long().clamp(max=_BINS - 1)
    binned = F.one_hot(chosen, _BINS).permute(2, 0, 1) * torch.hypot(down, across)
    cells = F.avg_pool2d(binned, cell)
    blocks = cells.unfold(1, _BLOCK, 1).unfold(2, _BLOCK, 1).permute(1, 2, 3, 4, 0).flatten(2)
    for limit in (_CLIP, math.inf):
        blocks = (blocks / (blocks.square().sum(-1, keepdim=True) + _EPS**2).sqrt()).clamp(max=limit)
    return blocks.flatten()
