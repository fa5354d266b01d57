"""What a network is shown: random views while training, fixed crops for testing."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as TF

from deconvviz.card import Card
from deconvviz.data.pictures import Pictures
from deconvviz.models.recipes import Augmentation, Recipe


def seed_of(*parts: int) -> int:
    """A seed that depends on all of `parts`, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


def augment(picture: Tensor, size: int, how: Augmentation, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random view, float (C, size, size) in 0..1, of `picture`, uint8 (C, h, w); and where it lies.

    NaN marks an erased rectangle: its colour is the mean that only the normalisation knows. The place is
    (left, top, right, bottom) in shares of the picture, (4,); of a mirrored view left and right are exchanged.
    """
    draws: Iterator[float] = iter(torch.rand(40, generator=generator).tolist())

    def draw(low: float, high: float) -> float:
        return low + (high - low) * next(draws)

    height, width = picture.shape[1:]
    top, left, h, w = _crop(height, width, how, draw)
    place = torch.tensor([left / width, top / height, (left + w) / width, (top + h) / height])
    view = picture[:, top : top + h, left : left + w]
    if view.shape[1:] != (size, size):
        view = TF.resize(view, [size, size], antialias=True)
    x = view.float() / 255
    if draw(0, 1) < how.flip:
        x = x.flip(2)
        place = place[[2, 1, 0, 3]]
    if how.colour:
        x = _recolour(x, how.colour, draw)
    if draw(0, 1) < how.erase:
        h, w = int(draw(0.1, 0.35) * size), int(draw(0.1, 0.35) * size)
        top, left = int(draw(0, size - h)), int(draw(0, size - w))
        x[:, top : top + h, left : left + w] = torch.nan
    return x, place


def _crop(height: int, width: int, how: Augmentation, draw: Callable[[float, float], float]) -> tuple[int, ...]:
    """(top, left, height, width) of a random crop; the largest square if eight attempts do not fit."""
    for _ in range(8):
        area = height * width * draw(*how.area)
        ratio = math.exp(draw(-math.log(how.ratio), math.log(how.ratio)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            break
    else:
        w = h = min(height, width)
    return int(draw(0, height - h + 1)), int(draw(0, width - w + 1)), h, w


def _recolour(x: Tensor, strength: float, draw: Callable[[float, float], float]) -> Tensor:
    light = draw(-0.125, 0.125) * strength
    contrast, saturation = 1 + draw(-0.25, 0.3) * strength, 1 + draw(-0.5, 0.4) * strength
    if draw(0, 1) < 0.1 * strength:
        saturation = 0.0
    if x.shape[0] == 3:
        grey = (x * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
        x = grey + (x - grey) * saturation
    mean = x.mean()
    return ((x - mean) * contrast + mean + light).clamp(0, 1)


def normalise(x: Tensor, card: Card) -> Tensor:
    """Network inputs (N, C, H, W) of pictures in 0..1, channels last; NaN becomes the mean colour, 0."""
    low, high = card.value_range
    mean, std = x.new_tensor(card.mean).view(-1, 1, 1), x.new_tensor(card.std).view(-1, 1, 1)
    inputs = ((x * (high - low) + low - mean) / std).nan_to_num(0.0)
    return inputs.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Blend:
    """How the views of a batch are blended with one another: mixup, after Zhang et al. (2018). `order` (N,): with
    which; `share`: of the view itself, 1 where nothing is blended."""

    order: Tensor
    share: float = 1.0

    @classmethod
    def drawn(cls, recipe: Recipe, epoch: int, count: int) -> Blend:
        """A blend of `count` views in `epoch`, from torch's own generator."""
        if not recipe.mixup or epoch >= recipe.mixup_until * recipe.epochs:
            return cls(torch.arange(count))
        share = float(torch.distributions.Beta(recipe.mixup, recipe.mixup).sample())
        return cls(torch.randperm(count), share)

    def of(self, values: Tensor) -> Tensor:
        """`values` (N, …) of the views, blended."""
        return values if self.share == 1 else torch.lerp(values[self.order], values, self.share)


class Views(Dataset[tuple[Tensor, int, int, Tensor]]):
    """Random views of one epoch, each drawn from (seed, epoch, picture) alone: view, class, picture, place."""

    def __init__(
        self, data: Pictures, indices: Sequence[int], how: Augmentation, size: int, seed: int, epoch: int
    ) -> None:
        self.data, self.indices, self.how, self.size = data, indices, how, size
        self.seed, self.epoch = seed, epoch

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[Tensor, int, int, Tensor]:
        index = self.indices[position]
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch, index))
        view, place = augment(self.data.pixels[index], self.size, self.how, generator)
        return view, int(self.data.classes[index]), index, place


def resized_side(card: Card, size: int) -> int:
    """Length of a picture's shorter side before the crop at input size `size`, in proportion to the card's."""
    native = max(card.input_size)
    side = min(card.resize) if isinstance(card.resize, tuple) else card.resize
    return round((side or native) * size / native)


def centre(picture: Tensor, resize: int, size: int) -> Tensor:
    """The centre crop, uint8 (C, size, size), of `picture` with its shorter side at `resize`."""
    return TF.center_crop(_shorter(picture, resize), [size, size])  # type: ignore[no-any-return]


def ten_crops(picture: Tensor, resize: int, size: int) -> Tensor:
    """(10, C, size, size): the four corners and the centre of `picture`, and their mirror images."""
    return torch.stack(TF.ten_crop(_shorter(picture, resize), [size, size]))


def _shorter(picture: Tensor, resize: int) -> Tensor:
    if min(picture.shape[1:]) == resize:
        return picture
    return TF.resize(picture, [resize], antialias=True)  # type: ignore[no-any-return]
