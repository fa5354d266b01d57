"""The pictures of a folder as a list, none of them decoded yet: loose files, one folder a category, or MNIST, CIFAR."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from PIL import Image
from torch import Tensor

from deconvviz.data.images import SUFFIXES
from deconvviz.data.packed import is_packed
from deconvviz.data.pictures import LEFT_OUT, read_data
from deconvviz.errors import ImageError


@dataclass(frozen=True)
class Listing:
    """Pictures (paths, or PIL images), a `name` for each, and their `classes`, indices into `labels`.

    Both are empty for a folder of loose pictures. `given` is True where the data set itself says "test", or empty.
    """

    pictures: Sequence[Path | Image.Image]
    names: tuple[str, ...]
    classes: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    given: tuple[bool, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def spread(self, most: int | None) -> Listing:
        """Return at most `most` of the pictures, evenly spread over the list; all of them for None."""
        if most is None or most >= len(self):
            return self
        return self.take([k * len(self) // most for k in range(most)])

    def take(self, chosen: Sequence[int]) -> Listing:
        """Return the pictures with these indices."""
        classes = tuple(self.classes[k] for k in chosen) if self.classes else ()
        given = tuple(self.given[k] for k in chosen) if self.given else ()
        pictures, names = [self.pictures[k] for k in chosen], tuple(self.names[k] for k in chosen)
        return Listing(pictures, names, classes, self.labels, given)


def listing(folder: str | os.PathLike[str], channels: int = 3) -> Listing:
    """List the pictures of `folder`: those directly in it, or else those of its sub-folders, one for each category.

    A folder with the files of MNIST (idx) or CIFAR is read as `channels` (1: grey, 3: RGB); of Caltech-101 the
    background category is left out, as in training. Raises `ImageError` for a folder that does not exist or holds no
    pictures.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ImageError(f"the folder {root} does not exist")
    if is_packed(root):
        data = read_data(root, channels)
        given = tuple(data.given.tolist()) if data.given is not None else ()
        return Listing(_Pixels(data.pixels), data.names, tuple(data.classes.tolist()), data.labels, given)
    loose = _files(root)
    if loose:
        return Listing(loose, tuple(p.name for p in loose))
    folders = sorted(d for d in root.iterdir() if d.is_dir() and d.name[0] != "." and d.name not in LEFT_OUT)
    found = [(k, p) for k, d in enumerate(folders) for p in _files(d)]
    if not found:
        raise ImageError(f"no pictures in the folder {root} or its sub-folders; looked for {', '.join(SUFFIXES)}")
    names = tuple(f"{p.parent.name}/{p.name}" for _, p in found)
    return Listing([p for _, p in found], names, tuple(k for k, _ in found), tuple(d.name for d in folders))


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


class _Pixels(Sequence[Image.Image]):
    """Decoded pictures (C, h, w) uint8 as PIL images, made when asked for."""

    def __init__(self, pixels: Sequence[Tensor]) -> None:
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image.Image]: ...
    def __getitem__(self, index: int | slice) -> Image.Image | list[Image.Image]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        x = self._pixels[index].permute(1, 2, 0).contiguous().numpy()
        return Image.fromarray(x[..., 0] if x.shape[2] == 1 else x)
