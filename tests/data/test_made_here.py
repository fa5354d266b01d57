"""What a folder's pictures are: no FIFO, none that deconvviz made; both are said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from deconvviz.data.images import read_image
from deconvviz.data.listing import listing, pictures_below, pictures_in
from deconvviz.data.made_here import check_regular, made_here
from deconvviz.errors import DeconvvizWarning, ImageError


def write(path: Path, **texts: str) -> Path:
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3)).save(path, pnginfo=info)
    return path


def test_what_says_so_was_made_here(tmp_path: Path) -> None:
    assert made_here(write(tmp_path / "a.png", Title="é" * 300, Software="deconvviz 0.1"))
    assert not made_here(write(tmp_path / "b.png", Title="Software", Comment="deconvviz"))
    assert not made_here(write(tmp_path / "c.png", Software="Matplotlib, not deconvviz"))
    for name, data in (
        ("empty.png", b""),
        ("cut.png", (tmp_path / "a.png").read_bytes()[:70]),
        ("text.png", b"x" * 99),
    ):
        (tmp_path / name).write_bytes(data)
        assert not made_here(tmp_path / name)
    assert not made_here(tmp_path / "nowhere.png") and not made_here(tmp_path)


def test_they_are_left_out_of_folders_and_said(tmp_path: Path) -> None:
    for name in ("own.png", "cat/own.png", "dog/own.png"):
        write(tmp_path / name)
    for name in ("made.png", "cat/made.png", "dog/more.png"):
        write(tmp_path / name, Software="deconvviz 0.1")
    with pytest.warns(
        DeconvvizWarning, match=r"3 pictures in .* are left out: made by deconvviz \(the first: made.png\)"
    ):
        with pytest.warns(DeconvvizWarning):
            names = [name for name, _ in pictures_below(tmp_path)]
        assert names == ["cat/own.png", "dog/own.png", "own.png"]
        pictures_below(tmp_path)
        assert pictures_in(tmp_path) == [tmp_path / name for name in names]
    with pytest.warns(DeconvvizWarning, match="3 pictures in .* are left out: made by deconvviz"):
        assert listing(tmp_path).names == ("cat/own.png", "dog/own.png", "own.png")
    (tmp_path / "own.png").unlink()
    (tmp_path / "made.png").unlink()
    with pytest.warns(DeconvvizWarning, match="2 pictures"):
        found = listing(tmp_path)
    assert found.names == ("cat/own.png", "dog/own.png") and found.classes == (0, 1) and found.labels == ("cat", "dog")


def test_a_fifo_is_never_opened(tmp_path: Path) -> None:
    write(tmp_path / "own.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "nowhere.png").symlink_to("no such file")
    with pytest.warns(DeconvvizWarning, match=r"2 pictures in .* are left out: no file .* \(the first: device.png\)$"):
        assert [name for name, _ in pictures_below(tmp_path)] == ["nowhere.png", "own.png"]
    with pytest.warns(DeconvvizWarning, match="2 pictures"):
        assert listing(tmp_path).names == ("nowhere.png", "own.png")
    for name in ("pipe.png", "device.png"):
        with pytest.raises(ImageError, match="is a FIFO, a socket or a device, not a picture"):
            check_regular(tmp_path / name)
        with pytest.raises(ImageError, match="is a FIFO, a socket or a device, not a picture"):
            read_image(tmp_path / name)
    check_regular(tmp_path / "own.png")
    check_regular(tmp_path / "nowhere.png")
