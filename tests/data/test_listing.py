"""Listings of folders: loose pictures, categories, and the idx files of MNIST."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvviz.data.listing import categories, listing, pictures_below, pictures_in
from deconvviz.errors import ImageError


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3)).save(path)


def test_pictures_of_sub_folders_at_any_depth(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "sub/c.png", "sub/deep/d.png"):
        picture(tmp_path / name)
    (tmp_path / "note.txt").write_text("no picture")
    found = listing(tmp_path)
    assert found.names == ("a.jpg", "b.png", "sub/c.png", "sub/deep/d.png")
    assert found.pictures[-1] == tmp_path / "sub" / "deep" / "d.png" and found.pictures == pictures_in(tmp_path)
    assert found.classes == () and found.labels == () and len(found) == 4


def test_one_rule_for_categories(tmp_path: Path) -> None:
    """A category is the sub-folder of the folder itself, whatever lies deeper; one alone is none."""
    for name in ("cat/a/1.png", "cat/2.png", "cat.png/3.png", "no/note.txt"):
        picture(tmp_path / name) if name.endswith("png") else (tmp_path / "no").mkdir()
    below = [("cat.png/3.png", "cat.png"), ("cat/2.png", "cat"), ("cat/a/1.png", "cat")]
    assert pictures_below(tmp_path) == below
    found = listing(tmp_path)
    assert found.labels == ("cat", "cat.png") and found.classes == (1, 0, 0)
    assert listing(tmp_path / "cat").labels == ()
    picture(tmp_path / "loose.png")  # it has none, so none is listed with one
    assert listing(tmp_path).labels == () and categories(tmp_path).names == tuple(name for name, _ in below)


def test_sub_folders_are_categories(tmp_path: Path) -> None:
    for name in ("dog/1.png", "dog/2.png", "cat/1.png", "BACKGROUND_Google/1.png", ".hidden/1.png"):
        picture(tmp_path / name)
    found = listing(tmp_path)
    assert found.names == ("cat/1.png", "dog/1.png", "dog/2.png")
    assert found.labels == ("cat", "dog") and found.classes == (0, 1, 1)
    assert found.take([2, 0]).names == ("dog/2.png", "cat/1.png") and found.take([2, 0]).classes == (1, 0)


def test_a_spread_takes_from_the_whole_list(tmp_path: Path) -> None:
    for k in range(10):
        picture(tmp_path / f"{k}.png")
    assert listing(tmp_path).spread(4).names == ("0.png", "2.png", "5.png", "7.png")
    assert len(listing(tmp_path).spread(None)) == len(listing(tmp_path).spread(99)) == 10


def test_idx_files_are_pictures_with_their_split(tmp_path: Path) -> None:
    pixels = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    for part, count in (("train", 2), ("t10k", 1)):
        own = pixels[:2] if part == "train" else pixels[2:]
        images = struct.pack(">HBBIII", 0, 8, 3, count, 4, 5) + own.tobytes()
        labels = struct.pack(">HBBI", 0, 8, 1, count) + bytes(range(count))
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    found = listing(tmp_path, 1)
    assert found.given == (False, False, True) and found.classes == (0, 1, 0)
    first = found.pictures[1]
    assert isinstance(first, Image.Image) and first.mode == "L" and np.array_equal(np.asarray(first), pixels[1])
    colour = listing(tmp_path, 3).take([2]).pictures[0]
    assert isinstance(colour, Image.Image) and np.array_equal(np.asarray(colour)[..., 2], pixels[2])


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        listing(tmp_path / "no")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no pictures in the folder"):
        listing(tmp_path)
