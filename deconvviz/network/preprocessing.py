"""From a picture to the input: resized, cropped and normalised as a card says, and where that lies in the picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL import Image
from torch import Tensor

from deconvviz.card import Card
from deconvviz.data.images import read_image

PictureFile: TypeAlias = str | os.PathLike[str] | Image.Image
# What analyses take as one picture; a tensor is a preprocessed input.
Picture: TypeAlias = PictureFile | Tensor


def listed(images: Any) -> tuple[list[Any], tuple[str, ...]]:
    """One or several pictures as a list, and a name for each: its file's, or "picture 1", …

    A tensor (N, C, H, W) is N pictures.
    """
    if isinstance(images, Tensor):
        given = list(images) if images.dim() == 4 else [images]
    else:
        given = list(images) if isinstance(images, Sequence) and not isinstance(images, str) else [images]
    names = (Path(i).name if isinstance(i, str | os.PathLike) else f"picture {n}" for n, i in enumerate(given, 1))
    return given, tuple(names)


def normalised(picture: PictureFile, card: Card) -> Tensor:
    """The input (1, C, H, W), float32, for a path or a PIL image, with a card that has mean and std."""
    shown = _fitted(read_image(picture), card).convert("L" if card.channels == 1 else "RGB")
    size = (shown.height, shown.width, card.channels)
    pixels = torch.frombuffer(bytearray(shown.tobytes()), dtype=torch.uint8).reshape(size)
    low, high = card.value_range
    x = pixels.permute(2, 0, 1).float().div(255) * (high - low) + low
    return ((x - per_channel(card.mean)) / per_channel(card.std))[None]


def per_channel(values: Sequence[float]) -> Tensor:
    """One number per channel (C, 1, 1), to reckon with pixels."""
    return torch.tensor(values, dtype=torch.float32)[:, None, None]


@dataclass(frozen=True)
class _Fit:
    """How a picture becomes the input, all sizes (height, width): cut, resized, then cropped at the centre.

    `cut` (top, left, height, width) is what is kept of a strip before resizing, or the whole picture; `corner` (top,
    left) where the input lies in the `resized` picture.
    """

    cut: tuple[int, int, int, int]
    resized: tuple[int, int]
    corner: tuple[int, int]


def _fit(height: int, width: int, card: Card) -> _Fit:
    """With torchvision's rounding."""
    whole = (0, 0, height, width)
    if card.resize is None:
        return _Fit(whole, card.input_size, (0, 0))
    short, long = sorted((height, width))
    scaled = int(card.resize * long / short)
    if scaled > 16 * max(card.resize, *card.input_size):
        # A strip: cut it before scaling, or the scaled copy would not fit into memory.
        keep = short * 4
        top, left = max((height - keep) // 2, 0), max((width - keep) // 2, 0)
        inner = _fit(min(height, keep), min(width, keep), card)
        return _Fit((top, left, *inner.cut[2:]), inner.resized, inner.corner)
    resized = (scaled, card.resize) if width <= height else (card.resize, scaled)
    down, across = (round((new - kept) / 2) for new, kept in zip(resized, card.input_size, strict=True))
    return _Fit(whole, resized, (down, across))


def _fitted(picture: Image.Image, card: Card) -> Image.Image:
    """Resized (antialiased bilinear) and cropped at the centre."""
    fit = _fit(picture.height, picture.width, card)
    top, left, height, width = fit.cut
    if (height, width) != (picture.height, picture.width):
        picture = picture.crop((left, top, left + width, top + height))
    if fit.resized != (height, width):
        picture = picture.resize(fit.resized[::-1], Image.Resampling.BILINEAR)
    (top, left), (height, width) = fit.corner, card.input_size
    return picture.crop((left, top, left + width, top + height))


def shown_region(picture: tuple[int, int], card: Card) -> tuple[float, float, float, float]:
    """The part of a picture (height, width) that the input shows: top, left, bottom, right in the picture's pixels."""
    fit = _fit(*picture, card)
    ends = []
    for axis in (0, 1):
        start, size, resized = fit.corner[axis], fit.cut[2 + axis], fit.resized[axis]
        ends.append([at * size / resized + fit.cut[axis] for at in (start, start + card.input_size[axis])])
    (top, bottom), (left, right) = ends
    return top, left, bottom, right
