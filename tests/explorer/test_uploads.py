"""What a page sends: bounded, and read as strictly as files are."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvviz.data.images import read_bytes, read_image
from deconvviz.errors import ImageError
from deconvviz.explorer.pictures import MOST_BYTES, Pictures, safe_name
from deconvviz.live import record

from .conftest import Page, content, picture, small


def bomb(side: int) -> bytes:
    """A PNG that says it is `side` pixels wide and high, of nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rest = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + rest


BAD = {
    "nothing": b"",
    "text": b"not a picture",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "html": b"<html><script>alert(1)</script></html>",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nquit\n",
    "zip": b"PK\x03\x04" + bytes(100),
    "half a png": content(picture())[:400],
    "half a jpeg": content(picture(), "JPEG")[:600],
    "bomb": bomb(40_000),
    "large": bomb(10_001),
    "no pixels": bomb(0),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_picture_is_refused_in_one_line(page: Page, what: str) -> None:
    before = page.json("model")["pictures"]
    answer = page.send(BAD[what], "x.png")
    assert answer.status_code == 415
    assert "\n" not in answer.json()["error"] and "x.png" in answer.json()["error"]
    assert page.json("model")["pictures"] == before


@pytest.mark.parametrize("what", sorted(set(BAD) - {"eps"}))
def test_as_strictly_as_files(tmp_path: Path, what: str) -> None:
    file = tmp_path / "x.png"
    file.write_bytes(BAD[what])
    with pytest.raises(ImageError) as of_file:
        read_image(file)
    with pytest.raises(ImageError) as of_bytes:
        read_bytes(BAD[what], str(file))
    assert str(of_bytes.value) == str(of_file.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_a_picture_that_is_sent_is_what_the_file_is(page: Page, tmp_path: Path, kind: str) -> None:
    data = content(picture(3), kind)
    (tmp_path / "x").write_bytes(data)
    answer = page.send(data, f"x.{kind.lower()}")
    assert answer.status_code == 200
    id = answer.json()["id"]
    seen = Image.open(io.BytesIO(page.get(f"pictures/{id}/input").content))
    pixels = page.net.denormalise(page.net.preprocess(tmp_path / "x"))[0].permute(1, 2, 0).mul(255).round().byte()
    assert np.array_equal(np.asarray(seen), pixels.numpy())


def test_the_same_bytes_are_the_same_picture(page: Page, first: str) -> None:
    data = (page.folder / "a.png").read_bytes()
    assert page.send(data, "other.png").json()["id"] == first
    assert page.send(content(picture(4)), "b.png").json()["id"] != first


def test_a_file_that_says_it_is_too_large_is_refused_unread(page: Page) -> None:
    answer = page.send(bytes(MOST_BYTES + 1))
    assert (answer.status_code, answer.json()) == (413, {"error": "the file is larger than 30 MB"})


def test_a_file_that_does_not_say_how_large_it_is_is_cut_off(page: Page) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(2000):
            sent += 1 << 20
            yield bytes(1 << 20)

    try:
        answer = page.http.post("/api/pictures", content=endless())
        assert answer.status_code == 413
    except Exception as error:  # closed while still being written to
        assert type(error).__name__ in ("WriteError", "ReadError", "RemoteProtocolError"), error
    assert sent < 500 << 20
    assert page.json("health")["version"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"), ("C:\\pictures\\cat.jpg", "cat.jpg"), ("", "picture"), ("...", "picture"),
        ("a\nb\x00\x1b[31m.png", "ab[31m.png"), ("<script>.png", "<script>.png"), ("x" * 300, "x" * 100),
        ("\u202egnp.exe", "gnp.exe"),
    ],
)  # fmt: skip
def test_a_name_is_a_name(given: str, kept: str) -> None:
    assert safe_name(given) == kept


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    net = small()
    made: list[object] = []
    pictures = Pictures(net, lambda image: made.append(image) or record(net, image))  # type: ignore[func-returns-value]
    data = [content(picture(seed)) for seed in range(6)]
    monkeypatch.setattr("deconvviz.explorer.pictures._KEPT", 4)
    ids = [pictures.send(one, "x.png") for one in data]
    assert [shown["id"] for shown in pictures.listed()] == ids[2:]
    one = pictures.record(ids[2]).nbytes
    assert one > 32 * 32 * 3 * 4
    monkeypatch.setattr("deconvviz.explorer.pictures._RECORDED_BYTES", 2 * one)
    made.clear()
    for id in (ids[2], ids[3], ids[3], ids[2], ids[4]):
        pictures.record(id)
    assert len(made) == 2
    pictures.record(ids[2])  # used last but one
    assert len(made) == 2
    pictures.record(ids[3])
    assert len(made) == 3


def test_what_is_made_ready_is_kept_for_the_pictures_in_use() -> None:
    net = small()
    pictures = Pictures(net, lambda image: record(net, image))
    ids = [pictures.send(content(picture(seed)), "x.png") for seed in range(3)]

    def ready(id: str) -> bool:
        rec, _ = pictures._records[id]
        return bool(rec._prepared or rec._replays)

    for id in ids:
        rec = pictures.record(id)
        rec.project("conv2", [1])
        rec.occluder(5).at(1, 2)
    assert [ready(id) for id in ids] == [False, True, True]
    before = pictures.record(ids[0]).project("conv2", [1])
    assert [ready(id) for id in ids] == [True, False, True]
    assert before == pictures.record(ids[0]).project("conv2", [1])


def test_a_file_that_has_changed_is_not_another_picture(tmp_path: Path) -> None:
    net = small()
    pictures = Pictures(net, lambda image: record(net, image))
    picture(0).save(tmp_path / "a.png")
    (id,) = pictures.give(tmp_path / "a.png")
    picture(1).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="has changed since"):
        pictures.record(id)
