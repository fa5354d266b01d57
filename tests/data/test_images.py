"""Pictures of every kind become upright RGB, or a clear error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import deconvviz
from deconvviz.data import images
from deconvviz.data.images import read_image
from deconvviz.data.listing import pictures_in
from deconvviz.errors import DeconvvizTypeError, ImageError


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    picture = Image.new("RGB", (6, 4), "white")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").size == (4, 6)


def test_sixteen_bit_grey_keeps_its_scale(tmp_path: Path) -> None:
    values = np.array([[0, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.asarray(read_image(tmp_path / "a.png"))[0].tolist() == [[0] * 3, [128] * 3, [255] * 3]


def test_alpha_lies_over_white() -> None:
    picture = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    picture.putpixel((1, 0), (10, 20, 30, 255))
    assert np.asarray(read_image(picture))[0].tolist() == [[255] * 3, [10, 20, 30]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LA", "RGB"])
def test_every_mode_becomes_rgb_and_the_given_picture_stays(mode: str) -> None:
    picture = Image.new("RGB", (3, 2), "white").convert(mode)
    read = read_image(picture)
    assert read.mode == "RGB" and picture.mode == mode
    assert np.abs(np.asarray(read).astype(int) - 255).max() <= 1


def test_transparent_palette(tmp_path: Path) -> None:
    picture = Image.new("P", (1, 1), 0)
    picture.putpalette([200, 0, 0])
    picture.save(tmp_path / "a.png", transparency=0)
    assert read_image(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif").getpixel((0, 0)) == (255, 0, 0)


def test_one_pixel() -> None:
    assert read_image(Image.new("RGB", (1, 1), "red")).size == (1, 1)


def test_large_pictures_are_reduced_and_huge_ones_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_SIDE", 10)
    assert max(read_image(Image.new("RGB", (35, 7))).size) <= 10
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    with pytest.raises(ImageError, match="11 x 10 pixels, more than 100"):
        read_image(Image.new("RGB", (11, 10)))


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "RGB", "RGBA", "LA", "CMYK", "transparent P"])
def test_large_pictures_of_every_mode_are_reduced(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_SIDE", 10)
    if mode == "I;16":
        picture = Image.fromarray(np.full((40, 12), 65535, dtype=np.uint16))
    else:
        picture = Image.new("RGB", (12, 40), "white").convert(mode.split()[-1])
    exif = Image.Exif()
    exif[0x0112] = 6  # turned: the long side lies
    options: dict[str, Any] = {"transparency": 0} if mode == "transparent P" else {}
    name = "a.jpg" if mode == "CMYK" else "a.png"
    picture.save(tmp_path / name, exif=exif, **options)
    read = read_image(tmp_path / name)
    assert read.mode == "RGB" and read.size == (10, 3)
    assert int(np.asarray(read).min()) >= 254


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("not a picture")
    with pytest.raises(ImageError, match=r"cannot read .*a\.jpg"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="no such picture"):
        read_image(tmp_path / "b.jpg")
    with pytest.raises(ImageError, match="folder"):
        read_image(tmp_path)
    with pytest.raises(DeconvvizTypeError, match="int"):
        read_image(3)  # type: ignore[arg-type]


def test_truncated_jpeg(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="truncated"):
        read_image(tmp_path / "a.jpg")


def test_a_folder_lists_its_pictures_only(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no pictures"):
        pictures_in(tmp_path)
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in pictures_in(tmp_path)] == ["a.jpg", "b.PNG"]


def test_one_pixel_goes_through_the_whole_project(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (200, 30, 60)).save(tmp_path / "a.png")
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3))
    net = deconvviz.Network(module, input_size=16, mean=(0.5,) * 3, std=(0.25,) * 3)
    result = deconvviz.project(net, tmp_path / "a.png", "3", top=2)
    assert result.pixels.shape == (2, 3, 16, 16) and bool(result.pixels.isfinite().all())
    assert (result.photograph() == (200, 30, 60)).all()
    assert result.save(tmp_path / "b.png").is_file()


def test_the_largest_picture_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """10,000 x 10,000 pixels of one colour: 300 MB decoded from a small file, then reduced."""
    Image.new("1", (10_000, 10_000), 1).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 100_000
    Image.new("L", (10_000, 10_001)).save(tmp_path / "b.png")
    # A process of its own, and its own high-water mark: ru_maxrss would carry over the size of the process that
    # started it.
    code = (
        "from pathlib import Path\nfrom deconvviz.data.images import read_image\n"
        "from deconvviz.errors import ImageError\n"
        "picture = read_image('a.png')\n"
        "try: read_image('b.png')\nexcept ImageError as error: print(error)\n"
        "print(max(picture.size), picture.getpixel((0, 0)))\n"
        "status = Path('/proc/self/status').read_text().splitlines()\n"
        "print(next(line.split()[1] for line in status if line.startswith('VmHWM')))"
    )
    if sys.platform != "linux":
        pytest.skip("the high-water mark is read from /proc, which is Linux only")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    refused, size, peak = done.stdout.splitlines()
    assert "10000 x 10001 pixels" in refused
    side, colour = size.split(" ", 1)
    assert int(side) <= images.MAX_SIDE and colour == "(255, 255, 255)"
    assert int(peak) < 1_000_000


def test_a_given_picture_that_cannot_be_decoded(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    Image.effect_noise((200, 200), 50).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with Image.open(path) as opened, pytest.raises(ImageError, match="cannot read the picture"):
        read_image(opened)
