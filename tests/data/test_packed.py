"""CIFAR's binary files: pictures, classes and names; its pickles are refused with a line that says what to give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deconvviz.data.listing import listing
from deconvviz.data.pictures import read_data, split
from deconvviz.errors import DeconvvizValueError

NAMES = ("ant", "bee", "cat")
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 3072), dtype=np.uint8)
CLASSES = [0, 1, 2, 2, 1, 0, 0, 1, 2, 0, 1, 2]


def hundred_binary(root: Path) -> None:
    for name, part in (("train.bin", slice(0, 8)), ("test.bin", slice(8, 12))):
        rows = zip(CLASSES[part], PIXELS[part], strict=True)
        (root / name).write_bytes(b"".join(bytes([7, c]) + x.tobytes() for c, x in rows))
    (root / "fine_label_names.txt").write_text("\n".join(NAMES) + "\n")


def batches() -> list[tuple[str, slice]]:
    parts = [(f"data_batch_{n}", slice(n - 1, n)) for n in range(1, 5)]
    return [*parts, ("data_batch_5", slice(4, 8)), ("test_batch", slice(8, 12))]


def ten_binary(root: Path) -> None:
    for name, part in batches():
        rows = zip(CLASSES[part], PIXELS[part], strict=True)
        (root / f"{name}.bin").write_bytes(b"".join(bytes([c]) + x.tobytes() for c, x in rows))
    (root / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")


@pytest.mark.parametrize("write", [hundred_binary, ten_binary])
def test_cifar(write: object, tmp_path: Path) -> None:
    assert callable(write)
    write(tmp_path)
    data = read_data(tmp_path, 3)
    assert data.labels == NAMES and data.classes.tolist() == CLASSES
    assert torch.equal(torch.stack(list(data.pixels)).flatten(1), torch.from_numpy(PIXELS))
    assert split(data, validation=0) == (list(range(8)), [], list(range(8, 12)))
    train, validation, test = split(data)
    assert sorted(train + validation) == list(range(8)) and validation and test == list(range(8, 12))
    assert data.source.startswith("CIFAR-100 " if "hundred" in write.__name__ else "CIFAR-10 ")
    picture = Image.fromarray(PIXELS[3].reshape(3, 32, 32).transpose(1, 2, 0).copy())
    assert np.array_equal(read_data(tmp_path, 1).pixels[3][0], np.asarray(picture.convert("L")))
    found = listing(tmp_path)
    assert found.labels == NAMES and found.given == (False,) * 8 + (True,) * 4
    shown = found.pictures[3]
    assert isinstance(shown, Image.Image) and shown.tobytes() == picture.tobytes()


def test_what_is_cut_short_or_missing(tmp_path: Path) -> None:
    hundred_binary(tmp_path)
    file = tmp_path / "test.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DeconvvizValueError, match=r"test\.bin .* cut short"):
        read_data(tmp_path)
    file.unlink()
    with pytest.raises(DeconvvizValueError, match=r"has no test\.bin"):
        read_data(tmp_path)
    hundred_binary(tmp_path)
    (tmp_path / "fine_label_names.txt").write_text("ant\nbee\n")
    with pytest.raises(DeconvvizValueError, match="class 2, but only 2 names"):
        read_data(tmp_path)


@pytest.mark.parametrize("names", [("meta", "train", "test"), ("batches.meta", "data_batch_1")])
def test_pickles_are_never_read(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"cos\nabort\n(tR.")  # would end the process
    for read in (read_data, listing):
        with pytest.raises(DeconvvizValueError, match="give the binary version, from https://"):
            read(tmp_path)
