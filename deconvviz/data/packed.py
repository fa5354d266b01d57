"""Data sets that come packed in files of their own: idx (MNIST, Fashion-MNIST), and CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from deconvviz.errors import DeconvvizValueError
from deconvviz.models import registry

# SHA-256 of the 10,000 test labels: the idx files of Fashion-MNIST and of MNIST look the same, and name no class.
FASHION_MNIST = "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9"
_SIDE = 32  # of a picture of CIFAR


class Packed(NamedTuple):
    """`pixels` uint8 (N, C, h, w); `classes` (N,), indices into `labels`; `given` (N,), True for a test picture;
    `source`: name and licence of the data set where it is known."""

    pixels: Tensor
    classes: Tensor
    given: Tensor
    labels: tuple[str, ...]
    source: str

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each picture: its part of the data set, and its number."""
        return tuple(f"{'test' if t else 'train'}{i}" for i, t in enumerate(self.given.tolist()))


def is_packed(root: Path) -> bool:
    """Whether the folder holds one of these data sets."""
    return any(root.glob("*-idx3-ubyte*")) or _cifar(root) is not None


def read_packed(root: Path, channels: int = 3) -> Packed:
    """Read the data set in `root` as pictures with 1 (grey) or 3 (RGB) channels. Raises `DeconvvizValueError`."""
    form = _cifar(root)
    train, test, labels, source = _read_idx(root) if form is None else _read_cifar(root, form)
    pixels, classes = (torch.cat(pair) for pair in zip(train, test, strict=True))
    given = torch.cat([torch.full((len(part[1]),), part is test) for part in (train, test)])
    wrong = classes[classes >= len(labels)]
    if len(wrong):
        raise DeconvvizValueError(f"{root} has pictures of class {int(wrong[0])}, but only {len(labels)} names")
    return Packed(_with_channels(pixels, channels), classes, given, labels, source)


def _with_channels(pixels: Tensor, channels: int) -> Tensor:
    if channels == pixels.shape[1]:
        return pixels
    if channels == 3:
        return pixels.expand(-1, 3, -1, -1)
    red, green, blue = pixels.int().unbind(1)
    # ITU-R 601, as Pillow's convert("L") does it.
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).to(torch.uint8)[:, None]


_Part = tuple[Tensor, Tensor]  # pictures, classes

# idx -----------------------------------------------------------------------------------------------------------------


def _read_idx(root: Path) -> tuple[_Part, _Part, tuple[str, ...], str]:
    parts = []
    for part in ("train", "t10k"):
        x, y = _idx(root, f"{part}-images-idx3-ubyte"), _idx(root, f"{part}-labels-idx1-ubyte")
        if x.dim() != 3 or y.dim() != 1 or len(x) != len(y):
            raise DeconvvizValueError(f"{root}: the {part} pictures and labels do not belong together")
        parts.append((x[:, None], y))
    count = 1 + max((int(y.max()) for _, y in parts if len(y)), default=-1)
    labels, source = tuple(str(k) for k in range(count)), "unknown"
    if hashlib.sha256(parts[1][1].numpy().tobytes()).hexdigest() == FASHION_MNIST:
        labels, source = registry.card("lenet").labels, "Fashion-MNIST (Zalando Research; MIT)"
    (train, test) = ((x, y.long()) for x, y in parts)
    return train, test, labels, source


def _idx(root: Path, name: str) -> Tensor:
    """An array in the idx format (big endian: two zeros, type 8 for bytes, rank, sizes), zipped or not."""
    path = next((p for p in (root / f"{name}.gz", root / name) if p.is_file()), None)
    if path is None:
        raise DeconvvizValueError(f"{root} has no {name}.gz")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zeros, kind, rank = struct.unpack(">HBB", data[:4])
        sizes = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DeconvvizValueError(f"{path} is damaged: {error}") from error
    if zeros != 0 or kind != 8 or len(data) != 4 + 4 * rank + math.prod(sizes):
        raise DeconvvizValueError(f"{path} is not an idx file of bytes, or is cut short")
    return torch.frombuffer(bytearray(data[4 + 4 * rank :]), dtype=torch.uint8).view(sizes)


# CIFAR ---------------------------------------------------------------------------------------------------------------


class _Form(NamedTuple):
    """CIFAR's binary version: its files, and the bytes of labels before a picture, the last of them the class."""

    name: str
    train: tuple[str, ...]
    test: str
    names: str
    before: int


_FORMS = (
    _Form("CIFAR-100", ("train.bin",), "test.bin", "fine_label_names.txt", 2),
    _Form("CIFAR-10", tuple(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin", "batches.meta.txt", 1),
)
# Two files of the Python version of each.
_PICKLED = (("meta", "train"), ("batches.meta", "data_batch_1"))


def _cifar(root: Path) -> _Form | None:
    """Which CIFAR `root` holds: its names and a file of pictures are enough, what lacks is said later."""
    if any(all((root / name).is_file() for name in pair) for pair in _PICKLED):
        raise DeconvvizValueError(
            f"{root} holds the Python version of CIFAR, whose files can run code when they are read; "
            "give the binary version, from https://www.cs.toronto.edu/~kriz/cifar.html"
        )
    return next((f for f in _FORMS if (root / f.names).is_file() and (root / f.train[0]).is_file()), None)


def _read_cifar(root: Path, form: _Form) -> tuple[_Part, _Part, tuple[str, ...], str]:
    batches = [_batch(root / name, form) for name in form.train]
    train = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    lines = (root / form.names).read_text(encoding="utf-8").splitlines()
    labels = tuple(line.strip() for line in lines if line.strip())
    source = f"{form.name} (A. Krizhevsky, University of Toronto; no licence stated)"
    return train, _batch(root / form.test, form), labels, source


def _batch(path: Path, form: _Form) -> _Part:
    if not path.is_file():
        raise DeconvvizValueError(f"{path.parent} has no {path.name}")
    data, record = path.read_bytes(), form.before + 3 * _SIDE**2
    if not data or len(data) % record:
        raise DeconvvizValueError(f"{path} is not a file of {form.name}, or is cut short")
    rows = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(-1, record)
    return rows[:, form.before :].reshape(-1, 3, _SIDE, _SIDE), rows[:, form.before - 1].long()
