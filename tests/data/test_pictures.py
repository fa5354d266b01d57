"""Pictures are read, and split so that near-duplicates stay on one side."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import deconvviz.models.registry
from deconvviz.data.pictures import Pictures, read_data, split
from deconvviz.errors import DeconvvizValueError


def noise(seed: int) -> Tensor:
    """A picture (1, 16, 16) like no other: blobs of its own."""
    x = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(seed))
    return (nn.functional.interpolate(x, (16, 16), mode="bicubic")[0].clamp(0, 1) * 255).to(torch.uint8)


def made_up(sizes: dict[str, int], same: dict[tuple[str, int], tuple[str, int]] | None = None) -> Pictures:
    """So many pictures of each category; `same`: which of them are mirror images of which others."""
    names = [(label, f"image_{i:04}.jpg") for label, n in sizes.items() for i in range(n)]
    pixels = [noise(k) for k in range(len(names))]
    for (label, i), (other, j) in (same or {}).items():
        k, original = names.index((label, f"image_{i:04}.jpg")), names.index((other, f"image_{j:04}.jpg"))
        pixels[k] = pixels[original].flip(2)
    labels = tuple(sizes)
    return Pictures(pixels, torch.tensor([labels.index(c) for c, _ in names]), tuple(n for _, n in names), labels)


def of(data: Pictures, part: list[int], label: str) -> set[str]:
    return {data.names[i] for i in part if data.labels[int(data.classes[i])] == label}


def test_split_by_share_keeps_pairs_together() -> None:
    sizes = {"Faces": 40, "Faces_easy": 40, "ant": 33, "bass": 9}
    data = made_up(sizes)
    parts = split(data, 0.12, validation=0.2)
    assert sorted(i for part in parts for i in part) == list(range(122))
    for part in parts:
        assert of(data, part, "Faces") == of(data, part, "Faces_easy")
    assert [len(of(data, part, "Faces")) for part in parts] == [27, 8, 5]
    assert [len(of(data, part, "ant")) for part in parts] == [22, 7, 4]
    assert [len(of(data, part, "bass")) for part in parts] == [5, 2, 2]
    assert split(made_up(sizes), 0.12, validation=0.2) == parts


def test_like_pictures_stay_in_one_part_whatever_their_names() -> None:
    pairs = {("bass", k): ("ant", 2 * k) for k in range(20)}
    data = made_up({"ant": 60, "bass": 60}, pairs)
    for part in split(data, 0.2, validation=0.2):
        ants, basses = of(data, part, "ant"), of(data, part, "bass")
        assert all((f"image_{k:04}.jpg" in basses) == (f"image_{2 * k:04}.jpg" in ants) for k in range(20))
    assert [len(part) for part in split(data, 0.2, validation=0.2)] == [72, 24, 24]


def test_a_group_larger_than_a_part_trains() -> None:
    data = made_up({"ant": 20, "bass": 20}, {("ant", k): ("ant", 0) for k in range(1, 10)})
    parts = split(data, 0.12, validation=0.12)
    assert {f"image_{k:04}.jpg" for k in range(10)} <= of(data, parts.train, "ant")
    assert len(of(data, parts.test, "ant")) == 3


def test_split_by_count() -> None:
    data = made_up({"ant": 170, "bass": 31})
    parts = split(data, per_category=30)
    assert not set(parts.train) & set(parts.test) and not set(parts.validation) & set(parts.train + parts.test)
    assert [len(of(data, part, "ant")) for part in parts] == [30, 50, 50]
    assert [len(of(data, part, "bass")) for part in parts] == [30, 0, 1]
    parts = split(data, per_category=31)  # no others in "bass": an eighth of it is for testing
    assert [len(of(data, part, "bass")) for part in parts] == [27, 0, 4]
    with pytest.raises(DeconvvizValueError, match="'bass' has only 1 picture;"):
        split(made_up({"ant": 100, "bass": 1}), per_category=30)
    with pytest.raises(DeconvvizValueError, match="per_category is 0"):
        split(data, per_category=0)
    with pytest.raises(DeconvvizValueError, match=r"validation fraction is 0.9; allowed: 0 to 0.88"):
        split(data, validation=0.9)


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
    assert split(data, validation=0) == ([0, 1, 2, 3], [], [4, 5])
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
