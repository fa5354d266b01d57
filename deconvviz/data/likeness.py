"""Pictures that show the same: a perceptual hash that survives a smaller copy, another compression, a mirror.

The signs of the lowest frequencies of the picture in grey, squeezed to a square: after Zauner, "Implementation and
benchmarking of perceptual image hash functions" (2010), with 16 × 16 frequencies instead of 8 × 8.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deconvviz.data.images import read_image
from deconvviz.errors import ImageError

_SIDE = 32  # of the square
_KEPT = 16  # frequencies along each axis
BYTES = _KEPT * _KEPT // 8
# Two pictures with at most so many of the 255 bits apart are alike. On Caltech-101 pairs up to here are copies, mirror
# images and retouched versions, not one of two things; a fifth farther on they begin to be different motorbikes.
LIMIT = 46
_CHUNK = 2048

_places = torch.arange(_SIDE, dtype=torch.float64)
_COSINES = torch.cos(math.pi * (2 * _places[None] + 1) * _places[:_KEPT, None] / (2 * _SIDE))
# A mirror image has the opposite sign at every odd frequency from left to right.
_ODD = torch.arange(_KEPT).remainder(2).bool().expand(_KEPT, _KEPT).flatten()


def perceptual_hash(picture: Image.Image) -> Tensor:
    """The hash of `picture`, (32,) uint8."""
    grey = picture.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    signal = _COSINES @ torch.from_numpy(np.array(grey, dtype=np.float64)) @ _COSINES.T
    bits = (signal > 1e-6).flatten()  # of a flat picture nothing but the mean is left, and rounding
    bits[0] = False  # the mean
    return torch.from_numpy(np.packbits(bits.numpy()))


def hash_of_pixels(pixels: Tensor) -> Tensor:
    """The hash of a decoded picture (C, h, w) uint8, grey or RGB."""
    values = pixels.permute(1, 2, 0).contiguous().numpy()
    return perceptual_hash(Image.fromarray(values[..., 0] if values.shape[2] == 1 else values))


def hashes_of(pictures: Sequence[str | os.PathLike[str] | Image.Image]) -> Tensor:
    """The hashes (N, 32) of pictures; one that cannot be read gets the hash of a flat one, which is like no other."""

    def one(picture: str | os.PathLike[str] | Image.Image) -> Tensor:
        try:
            return perceptual_hash(read_image(picture))
        except ImageError:
            return torch.zeros(BYTES, dtype=torch.uint8)

    with ThreadPoolExecutor() as pool:  # most of it is decoding, outside Python
        return stack(pool.map(one, pictures))


def stack(hashes: Iterable[Tensor]) -> Tensor:
    """Hashes as one tensor (N, 32), also if there are none."""
    found = list(hashes)
    return torch.stack(found) if found else torch.empty(0, BYTES, dtype=torch.uint8)


def _signs(hashes: Tensor) -> tuple[Tensor, Tensor]:
    """The bits (N, 256) of `hashes` (N, 32) as ±1, and those of the mirror images."""
    bits = torch.from_numpy(np.unpackbits(hashes.numpy(), axis=1)).float() * 2 - 1
    mirrored = torch.where(_ODD, -bits, bits)
    return bits, mirrored


def _alike(signs: Tensor, others: tuple[Tensor, Tensor]) -> Tensor:
    agreeing = torch.maximum(signs @ others[0].T, signs @ others[1].T)
    alike = agreeing >= _KEPT * _KEPT - 2 * LIMIT
    # A picture of one colour has nothing to be told by.
    return alike & ~_flat(signs)[:, None] & ~_flat(others[0])


def _flat(signs: Tensor) -> Tensor:
    return (signs < 0).all(1)


def known(hashes: Tensor, among: Tensor) -> Tensor:
    """Whether each picture of `hashes` (N, 32) is like one of `among` (M, 32), or like its mirror image: (N,) bool."""
    if not len(hashes) or not len(among):
        return torch.zeros(len(hashes), dtype=torch.bool)
    others = _signs(among)
    return torch.cat([_alike(part, others).any(1) for part in torch.split(_signs(hashes)[0], _CHUNK)])


def groups(hashes: Tensor, together: Sequence[Sequence[int]] = ()) -> list[list[int]]:
    """The pictures of `hashes` (N, 32) in groups of those that are alike, also by way of others.

    `together`: pictures that belong together whatever they look like. Each group, and the list of groups, is in the
    order of the pictures.
    """
    parent = list(range(len(hashes)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(i: int, j: int) -> None:
        low, high = sorted((root(i), root(j)))
        parent[high] = low

    for group in together:
        for i in group[1:]:
            join(group[0], i)
    signs = _signs(hashes)
    for start in range(0, len(hashes), _CHUNK):
        for i, j in _alike(signs[0][start : start + _CHUNK], signs).nonzero().tolist():
            join(start + i, j)
    found: dict[int, list[int]] = {}
    for i in range(len(hashes)):
        found.setdefault(root(i), []).append(i)
    return list(found.values())
