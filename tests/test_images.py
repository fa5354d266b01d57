"""Pictures of every kind become upright RGB, or a clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvviz import images
from deconvviz.errors import DeconvvizTypeError, ImageError
from deconvviz.images import pictures_in, read_image


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
