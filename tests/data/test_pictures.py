"""Pictures are read, and split so that near-duplicates stay on one side."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import pytest
import torch
from PIL import Image

import deconvviz.models.registry
from deconvviz.data.pictures import Pictures, read_data, split
from deconvviz.errors import DeconvvizValueError


def made_up(sizes: dict[str, int]) -> Pictures:
    names = [(c, f"image_{i:04}.jpg") for c, n in enumerate(sizes.values()) for i in range(n)]
    return Pictures([], torch.tensor([c for c, _ in names]), tuple(n for _, n in names), tuple(sizes))


def test_split_by_share_keeps_pairs_together() -> None:
    data = made_up({"Faces": 40, "Faces_easy": 40, "ant": 33, "bass": 9})
    train_, test = split(data, 0.12)
    assert sorted(train_ + test) == list(range(122))
    chosen = [(data.labels[int(data.classes[i])], data.names[i]) for i in test]
    faces = {n for c, n in chosen if c == "Faces"}
    assert faces == {n for c, n in chosen if c == "Faces_easy"} and len(faces) == 5
    assert sum(c == "ant" for c, _ in chosen) == 4 and sum(c == "bass" for c, _ in chosen) == 2
    assert split(data, 0.12) == (train_, test)
    # A picture more changes no other's side of the split but at the border.
    more = split(made_up({"Faces": 40, "Faces_easy": 40, "ant": 33, "bass": 10}), 0.12)[1]
    assert [i for i in more if i < 113] == [i for i in test if i < 113]


def test_split_by_count() -> None:
    data = made_up({"ant": 100, "bass": 31})
    train_, test = split(data, per_category=30)
    assert not set(train_) & set(test)
    assert [int((data.classes[train_] == c).sum()) for c in (0, 1)] == [30, 30]
    assert [int((data.classes[test] == c).sum()) for c in (0, 1)] == [50, 1]
    train_, test = split(data, per_category=31)  # no others in "bass": an eighth of it is for testing
    assert [int((data.classes[train_] == c).sum()) for c in (0, 1)] == [31, 27]
    assert [int((data.classes[test] == c).sum()) for c in (0, 1)] == [50, 4]
    with pytest.raises(DeconvvizValueError, match="'bass' has only 1 picture"):
        split(made_up({"ant": 100, "bass": 1}), per_category=30)
    with pytest.raises(DeconvvizValueError, match="per_category is 0"):
        split(data, per_category=0)


def test_read_folder(folder: Path) -> None:
    data = read_data(folder, 3, 28)
    assert data.labels == ("bottom", "middle", "top") and len(data.pixels) == 48
    assert data.pixels[0].shape == (3, 28, 28) and data.pixels[0].dtype == torch.uint8
    assert len(data.unreadable) == 1 and "broken.png" in data.unreadable[0]
    with pytest.raises(DeconvvizValueError, match="one folder of pictures per category"):
        read_data(folder / "bottom")


def write_idx(path: Path, sizes: tuple[int, ...], data: bytes) -> None:
    path.write_bytes(gzip.compress(struct.pack(f">HBB{len(sizes)}I", 0, 8, len(sizes), *sizes) + data))


def test_read_idx(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("t10k", 2)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", (count, 2, 3), bytes(range(6 * count)))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", (count,), bytes([0, 2, 1, 2][:count]))
    data = read_data(tmp_path, 1)
    assert data.pixels[1].tolist() == [[[6, 7, 8], [9, 10, 11]]]
    assert data.classes.tolist() == [0, 2, 1, 2, 0, 2] and data.labels == ("0", "1", "2")
    assert split(data) == ([0, 1, 2, 3], [4, 5])
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(DeconvvizValueError, match="damaged"):
        read_data(tmp_path, 1)


def test_the_two_data_sets_in_idx_files_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = bytes(i % 10 for i in range(30))
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", (30, 2, 2), bytes(120))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", (30,), labels)
    digits = read_data(tmp_path, 1)
    assert digits.labels == tuple("0123456789") and digits.source == "unknown"
    monkeypatch.setattr("deconvviz.data.packed.FASHION_MNIST", hashlib.sha256(labels).hexdigest())
    clothes = read_data(tmp_path, 1)
    assert clothes.labels[9] == "Ankle boot" and "Fashion-MNIST" in clothes.source


def test_reading_is_reported_and_caltech_is_recognised(tmp_path: Path) -> None:
    for label in deconvviz.models.registry.card("zfnet").labels:
        (tmp_path / label).mkdir()
        Image.new("L", (8, 6)).save(tmp_path / label / "image_0001.png")
    seen: list[tuple[int, int]] = []
    data = read_data(tmp_path, 3, 4, shown=lambda done, total: seen.append((done, total)))
    assert "Caltech-101" in data.source and "CC BY 4.0" in data.source
    assert seen == [(n, 101) for n in range(1, 102)]
    (tmp_path / "yin_yang" / "image_0001.png").unlink()
    (tmp_path / "yin_yang").rmdir()
    assert read_data(tmp_path, 3, 4).source == "unknown"
