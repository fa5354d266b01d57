"""No picture, however malformed, ends a scan: it is named, listed and left out."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import deconvviz
from deconvviz import DeconvvizWarning, ImageError, Network
from deconvviz.scanning.sources import Blocks, Files

Write = Callable[..., list[Path]]
KINDS = {
    "PNG": {}, "JPEG": {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"},
    "WEBP": {}, "BMP": {}, "GIF": {}, "TIFF": {"compression": "tiff_lzw"}, "PPM": {}, "DDS": {},
}  # fmt: skip


def seeds() -> list[bytes]:
    noise = np.random.default_rng(0).integers(0, 256, (14, 18, 3), dtype=np.uint8)
    made = []
    for kind, options in KINDS.items():
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, kind, **options)  # type: ignore[arg-type]
        made.append(buffer.getvalue())
    return made


def mutated(data: bytes, chance: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(int(chance.integers(1, 5))):
        # Most of what matters stands at the beginning.
        at = int(len(changed) * chance.random() ** 3)
        how = chance.integers(4)
        if how == 0 and changed:
            changed[at % len(changed)] = int(chance.integers(256))
        elif how == 1:
            changed[at : at + 4] = chance.integers(0, 256, 4, dtype=np.uint8).tobytes()
        elif how == 2:
            del changed[at : at + int(chance.integers(1, 9))]
        else:
            del changed[max(at, 4) :]
    return bytes(changed)


@pytest.mark.filterwarnings("ignore")
def test_no_mutated_picture_ends_a_run(
    net: Network, tmp_path: Path, hostile: int, capfd: pytest.CaptureFixture[str]
) -> None:
    chance, kinds, unreadable = np.random.default_rng(1), seeds(), 0
    source = Files(net, str(tmp_path), [("x.png", None)])
    blocks = Blocks(source, 1, 1, (3, 16, 16), torch.float32)
    count = 500 * hostile
    for n in range(count):
        (tmp_path / "x.png").write_bytes(mutated(kinds[n % len(kinds)], chance))
        block = blocks[0]
        assert block.fault is None and len(block.pictures) == 1
        error = block.pictures[0][4]
        assert error is None or ("\n" not in error and str(tmp_path) not in error)
        unreadable += error is not None
    assert count // 4 < unreadable < count
    assert capfd.readouterr().err == "", "the decoders keep quiet"


def test_whatever_reading_raises_is_listed(
    net: Network, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess = Network.preprocess
    import struct

    def fail(net: Network, image: Image.Image) -> torch.Tensor:
        if np.asarray(image)[0, 0, 0] == first:
            raise struct.error("unpack requires a buffer of 4 bytes")
        return preprocess(net, image)

    with Image.open(folder / "cat" / "002.png") as picture:
        first = np.asarray(picture)[0, 0, 0]
    monkeypatch.setattr(Network, "preprocess", fail)
    with deconvviz.scan(net, folder, ["1"], store=tmp_path / "s.db", workers=0) as store:
        lost = {p.path: p.error for p in store.pictures("unreadable")}
    assert lost["cat/002.png"] == "cannot read cat/002.png: unpack requires a buffer of 4 bytes"
    assert "cat/004.png" in lost and store.path.exists()


def test_fifos_and_names_that_are_no_text(net: Network, tmp_path: Path, write_pictures: Write) -> None:
    photos = tmp_path / "photos"
    write_pictures(photos, 4)
    (photos / "cat").rename(photos / os.fsdecode(b"caf\xe9"))
    (photos / os.fsdecode(b"caf\xe9") / os.fsdecode(b"b\xff.png")).write_text("not a picture")
    os.mkfifo(photos / "dog" / "pipe.png")
    with pytest.warns(DeconvvizWarning, match=r"left out: no file .* \(the first: pipe.png\)"):
        store = deconvviz.scan(net, photos, ["1"], store=tmp_path / "s.db", workers=0)
    with store:
        assert {p.label for p in store.pictures()} == {os.fsdecode(b"caf\xe9"), "dog"}
        (lost,) = store.pictures("unreadable")
        assert lost.path == os.fsdecode(b"caf\xe9/b\xff.png") and store.units(0).count == 4 and store.complete
    with pytest.raises(ImageError, match="FIFO"):
        deconvviz.scan(net, [photos / "dog" / "pipe.png"], ["1"], store=tmp_path / "t.db", workers=0)
