"""Pictures to scan: a folder, a list of files or a torch data set, read in blocks of one fixed composition."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from deconvviz.data.datasets import data_set, first_of
from deconvviz.data.images import read_image
from deconvviz.data.listing import pictures_below
from deconvviz.data.made_here import check_regular
from deconvviz.data.noise import quiet_decoders
from deconvviz.errors import DeconvvizError, DeconvvizTypeError, ImageError, in_one_line
from deconvviz.network.network import Network

Names = Sequence[tuple[str | None, str | None]]  # path below the folder and label of each picture
Told = tuple[int, str | None, int | None, int | None, str | None]  # number, label, width, height, error
# What reading a picture may raise when the picture is at fault: it is listed and left out. Of a file, that is whatever
# reading it raises; a data set of the caller's may have faults of its own, here is what Pillow raises.
UNREADABLE = (
    ImageError, OSError, SyntaxError, EOFError, NotImplementedError, struct.error, Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True)
class Item:
    """A picture as the network takes it, (C, H, W), with its label and the (width, height) of the original."""

    input: Tensor
    label: str | None
    width: int
    height: int


def preprocessor(net: Network) -> Network:
    """What prepares pictures for `net`, without its weights: small enough to be sent to other processes."""
    like = next((p for p in net.module.parameters() if p.is_floating_point()), torch.zeros(()))
    bare = nn.Identity()
    bare.register_parameter("like", nn.Parameter(torch.zeros((), dtype=like.dtype), requires_grad=False))
    return net.carried(bare, aliases={})


class Files:
    """Files below a folder, each with its path there and a label."""

    kind = "files"

    def __init__(self, net: Network, folder: str, names: Names) -> None:
        net.check_takes_pictures()
        self.folder: str | None = folder
        self._root, self._names, self._net = folder, names, preprocessor(net)

    def names(self) -> Names:
        """Paths below the folder, and labels."""
        return self._names

    def load(self, number: int) -> Item:
        """Read and preprocess a file; raises one of `UNREADABLE` if it cannot be read."""
        path, label = self._names[number]
        return self.read(str(path), label)

    def read(self, path: str, label: str | None = None) -> Item:
        """Read and preprocess the file at a path below the folder."""
        quiet_decoders()
        full = os.path.join(self._root, path)
        try:
            check_regular(full)
            image = read_image(full)
            return Item(self._net.preprocess(image)[0], label, *image.size)
        except Exception as error:
            # The store keeps this message, and knows no place of this machine.
            why = in_one_line(error).replace(os.path.join(self._root, ""), "")
            raise ImageError(why if isinstance(error, ImageError) else f"cannot read {path}: {why}") from error


class Items:
    """The items of a torch data set: tensors or PIL images, alone or as (picture, label, …)."""

    kind = "data set"
    folder: str | None = None

    def __init__(self, net: Network, data: Any) -> None:
        known = data_set(data)
        data = data if known is None else known
        if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
            raise DeconvvizTypeError(
                f"images is a {type(data).__name__}; allowed: a folder, a list of files, or a data set with a length"
            )
        self._data, self._net = data, preprocessor(net)

    def names(self) -> Names:
        """No paths; labels come with the items."""
        return [(None, None)] * len(self._data)

    def load(self, number: int) -> Item:
        """Take an item and preprocess it; raises one of `UNREADABLE` if it cannot be read."""
        item = self._data[number]
        image, *rest = item if isinstance(item, tuple | list) else (item,)
        if isinstance(image, Image.Image):
            return self._picture(image, rest)
        if isinstance(image, np.ndarray) and image.ndim in (2, 3):
            size = (image.shape[1], image.shape[0])
        elif isinstance(image, Tensor):
            size = (int(image.shape[-1]), int(image.shape[-2]))
        else:
            raise DeconvvizTypeError(
                f"item {number} of the data set is a {type(image).__name__}; allowed: a preprocessed tensor, a "
                "PIL image or a uint8 array, alone or first in a tuple"
            )
        return Item(self._net.preprocess(image)[0], self._label(rest[0]) if rest else None, *size)

    def _picture(self, image: Image.Image, rest: list[Any]) -> Item:
        try:
            return Item(self._net.preprocess(image)[0], self._label(rest[0]) if rest else None, *image.size)
        except DeconvvizError:
            raise
        except Exception as error:  # decoded only now
            raise ImageError(f"cannot read the picture: {in_one_line(error)}") from error

    def _label(self, given: Any) -> str | None:
        if isinstance(given, str) or given is None:
            return given
        try:
            number = int(given)
        except (TypeError, ValueError):
            return None  # something else than a class: a caption, boxes
        classes = getattr(self._data, "classes", None)
        known = isinstance(classes, Sequence) and 0 <= number < len(classes)
        return str(classes[number]) if known and classes is not None else str(number)


class _Pictures(Dataset[Any]):
    """A list of pictures as a data set: a tuple in it is a picture with its label."""

    def __init__(self, pictures: Sequence[Any]) -> None:
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, number: int) -> Any:
        return self._pictures[number]


# Numbered pictures.
PictureSource: TypeAlias = Files | Items


def source_of(net: Network, images: Any, root: Path | None = None) -> PictureSource:
    """The source that `images` stands for; `root` is where the paths of a list started in an earlier run.

    Raises `ImageError` for a folder without pictures, `DeconvvizTypeError`.
    """
    if isinstance(images, str | os.PathLike):
        folder = Path(images)
        if not folder.is_dir():
            raise ImageError(f"no such folder: {folder}")
        return Files(net, str(folder.absolute()), pictures_below(folder))
    if not isinstance(images, list | tuple):
        return Items(net, images)
    if images and all(isinstance(first_of(x), Tensor | Image.Image | np.ndarray) for x in images):
        return Items(net, _Pictures(images))
    wrong = next((x for x in images if not isinstance(x, str | os.PathLike)), None)
    if wrong is not None:
        raise DeconvvizTypeError(
            f"images holds a {type(wrong).__name__}; allowed: only paths, or only PIL images, uint8 arrays and tensors"
        )
    if not images:
        raise ImageError("images is an empty list; allowed: paths of pictures")
    paths = list(dict.fromkeys(os.path.abspath(x) for x in images))
    top = str(root) if root is not None else os.path.commonpath([os.path.dirname(p) for p in paths])
    return Files(net, top, [(os.path.relpath(p, top), None) for p in paths])


@dataclass
class PictureBlock:
    """A block of pictures: `inputs` (B, C, H, W), zeros where there is none; what is known of each picture.

    `pictures` holds (number, label, width, height, error) of those that are there; `fault` is an error that is not a
    picture's.
    """

    number: int
    inputs: Tensor
    pictures: list[Told]
    fault: Exception | None = None


class Blocks(Dataset[PictureBlock]):
    """The blocks of a source: block b holds the pictures b × size to b × size + size - 1, whatever runs when."""

    def __init__(
        self, source: PictureSource, count: int, size: int, shape: tuple[int, ...], dtype: torch.dtype
    ) -> None:
        self._source, self._count, self._size, self._shape, self._dtype = source, count, size, shape, dtype

    def __len__(self) -> int:
        return -(-self._count // self._size)

    def __getitem__(self, number: int) -> PictureBlock:
        block = PictureBlock(number, torch.zeros(self._size, *self._shape, dtype=self._dtype), [])
        start = number * self._size
        for row, picture in enumerate(range(start, min(start + self._size, self._count))):
            try:
                item = self._source.load(picture)
            except UNREADABLE as error:
                block.pictures.append((picture, None, None, None, in_one_line(error)))
                continue
            except Exception as error:
                block.fault = error
                return block
            if item.input.shape != self._shape:
                why = f"its input has shape {tuple(item.input.shape)}, that of the others {self._shape}"
                block.pictures.append((picture, item.label, item.width, item.height, why))
                continue
            block.inputs[row] = item.input
            block.pictures.append((picture, item.label, item.width, item.height, None))
        return block


def first_readable(source: PictureSource, count: int) -> Item:
    """The first picture that can be read. Raises `ImageError` if none can."""
    why = ""
    for number in range(count):
        try:
            return source.load(number)
        except UNREADABLE as error:
            why = why or in_one_line(error)
    raise ImageError(f"none of the {count} pictures can be read; the first: {why}")
