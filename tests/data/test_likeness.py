"""Copies of a picture are found, other pictures are not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from deconvviz.data.likeness import BYTES, LIMIT, groups, hash_of_pixels, hashes_of, known, perceptual_hash, stack

DEMOS = sorted((Path(__file__).parents[2] / "demos" / "images").glob("*.jpg"))


def again(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


COPIES = {
    "smaller": lambda p: p.resize((p.width // 2, p.height // 2)),
    "compressed": lambda p: again(p, 30),
    "mirrored": ImageOps.mirror,
    "grey": lambda p: p.convert("L"),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.15),
}


def test_the_bits_by_hand() -> None:
    """A picture that grows brighter to the right is one cosine and weaker ones: the sum of the definition, in numpy."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (32, 32), dtype=np.uint8)
    k, n = np.arange(16)[:, None], np.arange(32)[None]
    cosines = np.cos(np.pi * (2 * n + 1) * k / 64)
    bits = (cosines @ grey.astype(float) @ cosines.T > 0).flatten()
    bits[0] = False
    found = perceptual_hash(Image.fromarray(grey))
    assert found.shape == (BYTES,) and np.array_equal(np.unpackbits(found.numpy()).astype(bool), bits)


@pytest.mark.parametrize("change", COPIES)
def test_copies_are_alike_and_others_are_not(change: str) -> None:
    pictures = [Image.open(path).convert("RGB") for path in DEMOS]
    hashes = stack(map(perceptual_hash, pictures))
    copies = stack(perceptual_hash(COPIES[change](p)) for p in pictures)
    for k in range(len(pictures)):
        assert known(copies[[k]], hashes[[k]]).all()
        assert not known(copies[[k]], hashes[[j for j in range(len(pictures)) if j != k]]).any()


def test_the_limit_is_inclusive_and_counts_differing_bits() -> None:
    first = torch.zeros(1, BYTES, dtype=torch.uint8)
    first[0, 0] = 1  # one bit: not a flat picture
    for apart, alike in ((LIMIT, True), (LIMIT + 1, False)):
        bits = np.unpackbits(first.numpy(), axis=1)
        bits[0, 200 : 200 + apart // 2] ^= 1
        bits[0, 100 : 100 + apart - apart // 2] ^= 1
        assert bool(known(torch.from_numpy(np.packbits(bits, axis=1)), first)[0]) is alike


def test_pictures_of_one_colour_are_like_nothing() -> None:
    flat = hashes_of([Image.new("RGB", (20, 10), "red"), Image.new("L", (9, 9), 7)])
    assert not known(flat, flat).any() and groups(flat) == [[0], [1]]
    assert not known(flat, flat[:0]).any() and known(flat[:0], flat).shape == (0,)


def test_groups_reach_by_way_of_others(tmp_path: Path) -> None:
    hashes = stack([perceptual_hash(Image.open(path)) for path in DEMOS[:2]])
    bits = np.unpackbits(hashes[:1].numpy(), axis=1)
    steps = []
    for k in range(3):
        bits[0, 60 + 40 * k : 100 + 40 * k] ^= 1
        steps.append(torch.from_numpy(np.packbits(bits, axis=1))[0])
    chain = stack([hashes[0], hashes[1], *steps])
    assert groups(chain) == [[0, 2, 3, 4], [1]]
    assert groups(chain, [[1, 4]]) == [[0, 1, 2, 3, 4]]


def test_a_decoded_picture_has_the_hash_of_its_file_and_a_broken_one_that_of_none(tmp_path: Path) -> None:
    picture = Image.open(DEMOS[0]).convert("RGB")
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    assert hash_of_pixels(pixels).equal(perceptual_hash(picture))
    (tmp_path / "a.png").write_bytes(b"nothing")
    found = hashes_of([DEMOS[0], tmp_path / "a.png"])
    assert known(found, stack([perceptual_hash(picture)])).tolist() == [True, False]
