"""What can be told of filters from their weights alone: which are alike, what a stride cannot carry of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SPECTRUM = 64  # places of the spectrum along each axis, for the strongest frequency


def twins(weights: Tensor, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each filter the greatest |cosine| with another at any shift, signed, that filter, and the shift."""
    count, _, height, width = weights.shape
    norm = weights.flatten(1).norm(dim=1).clamp(min=1e-30)
    unit = weights / norm.view(-1, 1, 1, 1)
    group = torch.arange(count) * groups // count
    best = [torch.zeros(count), torch.zeros(count, dtype=torch.long), torch.zeros(count, dtype=torch.long)]
    for part in torch.split(torch.arange(count), 32):
        # Every filter over every other, at every place where they touch.
        found = F.conv2d(unit[part], unit, padding=(height - 1, width - 1)).flatten(2)
        found[part[:, None] == torch.arange(count)] = 0
        found[group[part][:, None] != group] = 0
        flat = found.abs().flatten(1).argmax(1)
        best[0][part] = found.flatten(1).gather(1, flat[:, None])[:, 0]
        best[1][part], best[2][part] = flat // found.shape[2], flat % found.shape[2]
    shift = torch.stack([best[2] // (2 * width - 1) - (height - 1), best[2] % (2 * width - 1) - (width - 1)], 1)
    return best[0].clamp(-1, 1), best[1], shift


def _spread(weights: Tensor, dilation: tuple[int, int]) -> Tensor:
    """The filters as they lie on the input: with the dilation's zeros between their values."""
    if dilation == (1, 1):
        return weights
    height, width = ((s - 1) * d + 1 for s, d in zip(weights.shape[2:], dilation, strict=True))
    spread = weights.new_zeros(*weights.shape[:2], height, width)
    spread[:, :, :: dilation[0], :: dilation[1]] = weights
    return spread


def above(weights: Tensor, stride: tuple[int, int], dilation: tuple[int, int]) -> Tensor:
    """Share of each filter's energy (F,) at frequencies above 1 / (2 × stride) along either axis; NaN for zeros.

    The energy inside a band of frequencies is a quadratic form of the filter's values with the band's sinc: exact,
    where a discrete spectrum would be coarse for a few pixels.
    """
    lying = _spread(weights, dilation).double()
    inside = lying
    for axis, step in ((2, stride[0]), (3, stride[1])):
        if step == 1:
            continue  # carries everything
        places = torch.arange(lying.shape[axis], dtype=torch.float64)
        band = torch.sinc((places[:, None] - places) / step) / step
        inside = torch.tensordot(inside, band, dims=([axis], [0])).movedim(-1, axis)
    total = lying.pow(2).sum((1, 2, 3))
    return (1 - (inside * lying).sum((1, 2, 3)) / total).clamp(0, 1).float()


def peak(weights: Tensor, dilation: tuple[int, int]) -> Tensor:
    """The strongest frequency (F,) of each filter, in cycles per pixel whatever the direction."""
    lying = _spread(weights, dilation)
    size = max(_SPECTRUM, *lying.shape[2:])
    power = torch.fft.rfft2(lying, s=(size, size)).abs().pow(2).sum(1)
    down, across = torch.fft.fftfreq(size), torch.fft.rfftfreq(size)
    flat = power.flatten(1).argmax(1)
    return torch.hypot(down[flat // len(across)], across[flat % len(across)])
