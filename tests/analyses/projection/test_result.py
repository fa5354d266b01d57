"""A projection keeps its numbers through pictures and files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deconvviz.analyses.projection.result import Projection
from deconvviz.errors import DeconvvizValueError


def make(count: int = 3, channels: int = 3, dtype: torch.dtype = torch.float32) -> Projection:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(count, channels, 20, 24, generator=generator).to(dtype)
    boxes = torch.tensor([[k, 2 * k, k + 9, 2 * k + 7] for k in range(count)])
    return Projection(
        "relu5", "conv5", torch.arange(count) + 4, torch.arange(2 * count).view(count, 2),
        torch.linspace(9, 3, count), pixels, boxes, image=torch.rand(channels, 20, 24, generator=generator),
        policy={"method": "deconvnet", "place": (1, 2)}, mean=(0.5,) * channels, std=(0.25,) * channels,
        model={"name": "zfnet", "sha256": "abc"}, labels=("cat",),
    )  # fmt: skip


def test_npz_loads_as_the_same_result(tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.float64):
        saved = make(dtype=dtype)
        loaded = Projection.load(saved.save(tmp_path / "a.npz"))
        assert loaded == saved and loaded.pixels.dtype == dtype and loaded.labels == ("cat",)
        assert loaded != dataclasses.replace(saved, pixels=saved.pixels + 1)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_zero_is_mid_grey_and_signs_are_symmetric() -> None:
    pixels = torch.zeros(2, 1, 2, 2)
    pixels[0, 0, 0] = torch.tensor([1.0, -1.0])
    pixels[1, 0, 0] = torch.tensor([4.0, -2.0])
    result = dataclasses.replace(make(2, 1), pixels=pixels)
    panel, shared = result.images(100), result.images(100, "shared")
    assert panel[0, :, :, 0].tolist() == [[255, 1], [128, 128]]
    assert panel[1, :, :, 0].tolist() == [[255, 64], [128, 128]]
    assert shared[0, :, :, 0].tolist() == [[160, 96], [128, 128]]
    assert (dataclasses.replace(result, pixels=pixels * 0).images() == 128).all()


def test_crops_are_the_boxes_of_the_photograph() -> None:
    result = make()
    expected = np.rint((result.image * 0.25 + 0.5).clamp(0, 1).permute(1, 2, 0).double().numpy() * 255)
    for k, crop in enumerate(result.crops()):
        assert np.abs(crop - expected[k : k + 9, 2 * k : 2 * k + 7]).max() <= 1


def test_metadata_is_inside_the_png(tmp_path: Path) -> None:
    with Image.open(make().save(tmp_path / "a.png")) as picture:
        facts = json.loads(picture.text["Description"])
    assert facts["model"]["sha256"] == "abc" and facts["policy"]["method"] == "deconvnet"
    assert facts["units"] == [4, 5, 6]


def test_text_stays_text_in_vector_formats(tmp_path: Path) -> None:
    assert "unit 4" in make().save(tmp_path / "a.svg").read_text()
    pdf = make().save(tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(DeconvvizValueError, match=r"\.png, \.pdf, \.svg, \.npz"):
        make().save(tmp_path / "a.jpg")
    with pytest.raises(DeconvvizValueError, match="does not exist"):
        make().save(tmp_path / "no" / "a.png")
    with pytest.raises(DeconvvizValueError, match="panel"):
        make().images(scale="all")
    with pytest.raises(DeconvvizValueError, match="percentile"):
        make().images(0)
    (tmp_path / "b.npz").write_bytes(b"junk")
    with pytest.raises(DeconvvizValueError, match="not a saved projection"):
        Projection.load(tmp_path / "b.npz")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make().save(tmp_path / "a.npz")
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk")

    monkeypatch.setattr("deconvviz.files.os.replace", fail)
    with pytest.raises(OSError, match="disk"):
        make(2).save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.npz"]
