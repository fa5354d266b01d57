"""From a picture to the input: resized, cropped and normalised as a card says, and where that lies in the picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deconvviz.card import Card
from deconvviz.data.datasets import DataSetPictures, data_set
from deconvviz.data.images import PictureFile
from deconvviz.data.listing import listing
from deconvviz.errors import ImageError

# What analyses take as one picture; a tensor is a preprocessed input.
Picture: TypeAlias = PictureFile | Tensor
# What they take as one or several.
Pictures: TypeAlias = Picture | Sequence[Picture] | Dataset[Any] | DataLoader[Any]

INTERPOLATIONS = tuple(name.lower() for name in Image.Resampling.__members__)
CROPS = ("center", "letterbox", None)
# No picture is scaled to more than so many times the length of its input: a strip is cut, or refused.
_LONGEST = 16


def listed(images: Any, channels: int = 3) -> tuple[Sequence[Any], tuple[str, ...]]:
    """One or several pictures as a sequence, and a name for each: its file's, or "picture 1", …

    A folder is all pictures in it (`data.listing`), a data set or its loader its items; a tensor (N, C, H, W) or an
    array (N, H, W, C) is N pictures. `channels` are those of pictures that lie packed in a folder.
    """
    data = data_set(images)
    if data is not None:
        return DataSetPictures(data), tuple(f"picture {n + 1}" for n in range(len(data)))
    if isinstance(images, str | os.PathLike) and Path(images).is_dir():
        found = listing(images, channels)
        return found.pictures, found.names
    given: list[Any]
    if isinstance(images, Tensor | np.ndarray):
        given = list(images) if images.ndim == 4 else [images]
    else:
        given = list(images) if isinstance(images, Sequence) and not isinstance(images, str) else [images]
    names = (Path(i).name if isinstance(i, str | os.PathLike) else f"picture {n}" for n, i in enumerate(given, 1))
    return given, tuple(names)


def several(image: Any, channels: int) -> Sequence[Any] | None:
    """The pictures that `listed` gives, if several are meant; None for one, as a path or a tensor (1, C, H, W) is."""
    if isinstance(image, Tensor):
        return list(image) if image.dim() == 4 and image.shape[0] != 1 else None
    many = (
        isinstance(image, list | tuple | Dataset | DataLoader)
        or (isinstance(image, np.ndarray) and image.ndim == 4)
        or (isinstance(image, str | os.PathLike) and os.path.isdir(image))
    )
    return listed(image, channels)[0] if many else None


def normalised(picture: Image.Image, card: Card) -> Tensor:
    """The input (1, C, H, W), float32, for an upright RGB picture, with a card that has mean and std."""
    shown = _fitted(picture, card).convert("L" if card.channels == 1 else "RGB")
    low, high = card.value_range
    x = pixels_of(shown).float().div(255) * (high - low) + low
    return ((x - per_channel(card.mean)) / per_channel(card.std))[None]


def pixels_of(picture: Image.Image) -> Tensor:
    """The pixels (C, H, W), uint8, of a grey or RGB picture."""
    size = (picture.height, picture.width, len(picture.getbands()))
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).reshape(size).permute(2, 0, 1)


def per_channel(values: Sequence[float]) -> Tensor:
    """One number per channel (C, 1, 1), to reckon with pixels."""
    return torch.tensor(values, dtype=torch.float32)[:, None, None]


@dataclass(frozen=True)
class _Fit:
    """How a picture becomes the input, all sizes (height, width): cut, resized, then cropped or framed.

    `cut` (top, left, height, width) is what is kept of a strip before resizing, or the whole picture; `corner` (top,
    left) where the input, of the size `kept`, lies in the `resized` picture: negative where there is a frame.
    """

    cut: tuple[int, int, int, int]
    resized: tuple[int, int]
    corner: tuple[int, int]
    kept: tuple[int, int]


def _fit(height: int, width: int, card: Card) -> _Fit:
    """With torchvision's rounding."""
    resized = _resized(height, width, card)
    if max(resized) > _LONGEST * max(*card.input_size, *_sides(card)):
        if card.crop is None:
            raise ImageError(f"the picture has {width} x {height} pixels, a strip; it must be cropped for this network")
        # A strip: cut it before scaling, or the scaled copy would not fit into memory.
        keep = min(height, width) * 4
        top, left = max((height - keep) // 2, 0), max((width - keep) // 2, 0)
        inner = _fit(min(height, keep), min(width, keep), card)
        return _Fit((top, left, *inner.cut[2:]), inner.resized, inner.corner, inner.kept)
    whole = (0, 0, height, width)
    if card.crop is None:
        return _Fit(whole, resized, (0, 0), resized)
    framed = card.crop == "letterbox"
    down, across = (_start(new, kept, framed) for new, kept in zip(resized, card.input_size, strict=True))
    return _Fit(whole, resized, (down, across), card.input_size)


def _sides(card: Card) -> tuple[int, ...]:
    return (card.resize,) if isinstance(card.resize, int) else card.resize or card.input_size


def _resized(height: int, width: int, card: Card) -> tuple[int, int]:
    """The size (height, width) of a picture after resizing."""
    sides = _sides(card)
    if card.crop == "letterbox":
        ratio = max(height / sides[0], width / sides[-1])
        return max(round(height / ratio), 1), max(round(width / ratio), 1)
    if len(sides) == 2:
        return sides[0], sides[1]
    short, long = sorted((height, width))
    scaled = int(sides[0] * long / short)
    return (scaled, sides[0]) if width <= height else (sides[0], scaled)


def _start(length: int, kept: int, framed: bool) -> int:
    """Where the middle `kept` pixels of `length` begin: with the rounding of torchvision, or of Pillow for a frame."""
    return round((length - kept) / 2) if framed or length >= kept else -((kept - length) // 2)


def _fitted(picture: Image.Image, card: Card) -> Image.Image:
    """Resized and cropped or framed as the card says."""
    fit = _fit(picture.height, picture.width, card)
    top, left, height, width = fit.cut
    if (height, width) != (picture.height, picture.width):
        picture = picture.crop((left, top, left + width, top + height))
    if fit.resized != (height, width):
        picture = picture.resize(fit.resized[::-1], Image.Resampling[card.interpolation.upper()])
    (top, left), (height, width) = fit.corner, fit.kept
    if card.crop != "letterbox":
        return picture.crop((left, top, left + width, top + height))  # black outside, as torchvision has it
    framed = Image.new("RGB", (width, height), _mean_colour(card))
    framed.paste(picture, (-left, -top))
    return framed


def _mean_colour(card: Card) -> tuple[int, int, int]:
    low, high = card.value_range
    levels = [min(max(round(255 * (m - low) / (high - low)), 0), 255) for m in card.mean]
    return (levels[0], levels[0], levels[0]) if len(levels) == 1 else (levels[0], levels[1], levels[2])


def shown_region(picture: tuple[int, int], card: Card) -> tuple[float, float, float, float]:
    """The part of a picture (height, width) that the input shows: top, left, bottom, right in the picture's pixels.

    It is larger than the picture where that has a frame.
    """
    fit = _fit(*picture, card)
    ends = []
    for axis in (0, 1):
        start, size, resized = fit.corner[axis], fit.cut[2 + axis], fit.resized[axis]
        ends.append([at * size / resized + fit.cut[axis] for at in (start, start + fit.kept[axis])])
    (top, bottom), (left, right) = ends
    return top, left, bottom, right
