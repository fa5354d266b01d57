"""What a pass over the pictures keeps of a layer: each unit's peak, and how alike it is at two checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor


class Centred:
    """One batch of a layer's values (N, M, h, w) less their means, and what of it the correlation needs."""

    def __init__(self, values: Tensor) -> None:
        values = values if values.dim() == 4 else values[:, :, None, None]
        self.count = values.numel() // values.shape[1]
        self.mean = values.mean((0, 2, 3))
        self.values = values - self.mean.view(1, -1, 1, 1)
        self.square = self.values.pow(2).sum((0, 2, 3)).double()
        self.mean = self.mean.double()


class Correlation:
    """Correlation of each of M units with a reference over all pictures and places, merged batch by batch."""

    def __init__(self) -> None:
        self.count = 0
        self.means = self.squares = self.cross = torch.zeros(())

    def add(self, own: Centred, reference: Centred) -> None:
        """Merge a batch (Chan, Golub & LeVeque 1979): means first, so that large means cost no digits."""
        means = torch.stack([own.mean, reference.mean])
        apart = means - self.means
        weight = self.count * own.count / (self.count + own.count)
        self.squares = self.squares + torch.stack([own.square, reference.square]) + apart.pow(2) * weight
        cross = (own.values * reference.values).sum((0, 2, 3)).double()
        self.cross = self.cross + cross + apart[0] * apart[1] * weight
        self.means = self.means + apart * (own.count / (self.count + own.count))
        self.count += own.count

    def result(self) -> Tensor:
        """(M,) in -1..1; 0 for a unit that is constant here, NaN for one that is constant in the reference."""
        product = self.squares[0] * self.squares[1]
        found = torch.where(product > 0, self.cross / product.clamp(min=1e-300).sqrt(), 0.0)
        return torch.where(self.squares[1] > 0, found.clamp(-1, 1), torch.nan).float().cpu()


class Peaks:
    """The strongest activation of each of M units: its value, its picture, and the place in the map, flat."""

    def __init__(self) -> None:
        self.value: Tensor | None = None

    def add(self, values: Tensor, numbers: Tensor) -> None:
        """Take in a batch of values (N, M, h, w) or (N, M) of the pictures with these numbers."""
        values = values if values.dim() == 4 else values[:, :, None, None]
        self.width = values.shape[3]
        by_picture, places = values.flatten(2).max(2)
        value, row = by_picture.max(0)
        place = places.gather(0, row[None])[0]
        picture = numbers.to(row.device)[row]
        if self.value is None:
            self.value, self.picture, self.place = value, picture, place
            return
        better = value > self.value
        self.value = torch.where(better, value, self.value)
        self.picture = torch.where(better, picture, self.picture)
        self.place = torch.where(better, place, self.place)
