"""Which pictures a folder holds, not decoded yet: loose files, one folder a category, MNIST or CIFAR, a whole tree."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from PIL import Image
from torch import Tensor

from deconvviz.data.images import SUFFIXES
from deconvviz.data.made_here import pictures_among
from deconvviz.data.packed import is_packed, read_packed
from deconvviz.errors import ImageError

# Folders of Caltech-101 that are no category.
LEFT_OUT = ("BACKGROUND_Google",)


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
    """List the pictures of `folder` and of its sub-folders, by path; `pictures_below` says what their categories are.

    A folder with the files of MNIST (idx) or CIFAR is read as `channels` (1: grey, 3: RGB). If some pictures have a
    category and some have none, none is listed with one. Raises `ImageError` for a folder that does not exist or holds
    no pictures.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ImageError(f"the folder {root} does not exist")
    if is_packed(root):
        data = read_packed(root, channels)
        given = tuple(data.given.tolist())
        return Listing(_Pixels(data.pixels), data.names, tuple(data.classes.tolist()), data.labels, given)
    return _listing(root, pictures_below(root))


def categories(root: Path) -> Listing:
    """The pictures of `root` that have a category; see `pictures_below`. Empty if it holds none."""
    try:
        found = pictures_below(root)
    except ImageError:
        found = []
    return _listing(root, [(name, label) for name, label in found if label is not None])


def _listing(root: Path, found: Sequence[tuple[str, str | None]]) -> Listing:
    paths, names = [root / name for name, _ in found], tuple(name for name, _ in found)
    given = [label for _, label in found if label is not None]
    if len(given) < len(found):
        return Listing(paths, names)
    labels = tuple(sorted(set(given)))
    numbers = {label: k for k, label in enumerate(labels)}
    return Listing(paths, names, tuple(numbers[label] for label in given), labels)


def pictures_in(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the picture files in `folder` and its sub-folders by path, as `pictures_below` finds them."""
    root = Path(folder)
    return [root / name for name, _ in pictures_below(root)]


def pictures_below(folder: Path) -> list[tuple[str, str | None]]:
    """Picture files in a folder and its sub-folders, by path below it, each with its category or None.

    This is what a folder means everywhere. The category of a picture is the sub-folder of `folder` that it is in, at
    any depth, if there are several with pictures; one directly in `folder` has none. Hidden files and folders are left
    out, and so is, as in the paper, the background category of Caltech-101; a folder that links lead to twice is
    entered once. Raises `ImageError` if there are none.
    """
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    for at, folders, files in os.walk(folder, followlinks=True):
        here = os.stat(at)
        if (here.st_dev, here.st_ino) in seen:
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = sorted(f for f in folders if f[0] != "." and not (f in LEFT_OUT and Path(at) == Path(folder)))
        found += [os.path.relpath(os.path.join(at, f), folder) for f in files if not f.startswith(".") and _named(f)]
    paths = pictures_among((folder / f for f in sorted(found)), str(folder))
    if not paths:
        raise ImageError(f"no pictures in the folder {folder} or its sub-folders; looked for {', '.join(SUFFIXES)}")
    names = sorted(p.relative_to(folder).as_posix() for p in paths)
    tops = {name.partition("/")[0] for name in names if "/" in name}
    return [(n, n.partition("/")[0] if "/" in n and len(tops) > 1 else None) for n in names]


def _named(name: str) -> bool:
    """Whether this is how the file of a picture is named."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


class _Pixels(Sequence[Image.Image]):
    """Decoded pictures (N, C, h, w) uint8 as PIL images, made when asked for."""

    def __init__(self, pixels: Tensor) -> None:
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
