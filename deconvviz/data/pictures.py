"""Pictures to train on: read and decoded once, split into those to train on and those to test on."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from deconvviz.data.images import read_image
from deconvviz.data.listing import Listing, categories
from deconvviz.data.packed import is_packed, read_packed
from deconvviz.errors import DeconvvizValueError, ImageError
from deconvviz.models import registry

# Categories of Caltech-101 with the same photographs, differently cut: a pair stays on one side of a split.
SAME_PICTURES = {"Faces_easy": "Faces"}
CALTECH101 = "Caltech-101 (Li, Andreetto, Ranzato, Perona; CC BY 4.0)"


@dataclass(frozen=True)
class Pictures:
    """Pictures decoded once. `pixels`: uint8 (C, h, w) each; `classes`: (N,) indices into `labels`; `names`:
    file names within their category; `given`: True where the data set itself says "test", or None;
    `source`: name and licence of the data set where it is known."""

    pixels: Sequence[Tensor]
    classes: Tensor
    names: tuple[str, ...]
    labels: tuple[str, ...]
    unreadable: tuple[str, ...] = ()
    given: Tensor | None = None
    source: str = "unknown"

    def fingerprint(self) -> str:
        """SHA-256 over categories and names: whether two runs saw the same data."""
        said = json.dumps([self.labels, self.classes.tolist(), self.names])
        return hashlib.sha256(said.encode()).hexdigest()


def read_data(
    path: str | os.PathLike[str],
    channels: int = 3,
    side: int = 256,
    workers: int = 1,
    shown: Callable[[int, int], None] | None = None,
) -> Pictures:
    """Pictures of a folder with one sub-folder per category, or of a folder with the files of MNIST (idx) or CIFAR.

    The shorter side is brought down to `side` (`channels` 1: grey, 3: RGB). A picture that cannot be read is
    listed in `unreadable`. `shown` is called with the numbers of pictures read and of all. Raises
    `DeconvvizValueError` if there are fewer than two categories.
    """
    root = Path(path)
    if not root.is_dir():
        raise DeconvvizValueError(f"the data folder {root} does not exist")
    if is_packed(root):
        packed = read_packed(root, channels)
        names, labels = packed.names, packed.labels
        return Pictures(list(packed.pixels), packed.classes, names, labels, given=packed.given, source=packed.source)
    files = categories(root)
    if len(set(files.classes)) < 2:
        raise DeconvvizValueError(f"{root} must hold one folder of pictures per category, two or more")

    def decode(file: Path | Image.Image) -> Tensor | str:
        try:
            return _decode(file, channels, side)
        except ImageError as error:
            return str(error)

    decoded = []
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for picture in pool.map(decode, files.pictures):
            decoded.append(picture)
            if shown is not None:
                shown(len(decoded), len(files))
    good = files.take([k for k, x in enumerate(decoded) if isinstance(x, Tensor)])
    empty = set(range(len(files.labels))) - set(good.classes)
    if empty:
        raise DeconvvizValueError(f"no readable picture in the category '{files.labels[min(empty)]}' of {root}")
    return Pictures(
        [x for x in decoded if isinstance(x, Tensor)],
        torch.tensor(good.classes),
        tuple(map(_own_name, good.names)),
        files.labels,
        tuple(x for x in decoded if isinstance(x, str)),
        source=CALTECH101 if files.labels == tuple(sorted(registry.card("zfnet").labels)) else "unknown",
    )


def _decode(file: Path | Image.Image, channels: int, side: int) -> Tensor:
    picture = read_image(file)
    scale = side / min(picture.size)
    if scale < 1:
        size = (max(round(picture.width * scale), side), max(round(picture.height * scale), side))
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    picture = picture.convert("L" if channels == 1 else "RGB")
    flat = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return flat.view(picture.height, picture.width, channels).permute(2, 0, 1).contiguous()


def _own_name(name: str) -> str:
    """The name of a file within its category."""
    return name.rpartition("/")[2]


def split(
    data: Pictures | Listing, fraction: float = 0.12, per_category: int | None = None, most: int = 50
) -> tuple[list[int], list[int]]:
    """Indices (train, test), by a hash of category and name: the same on every machine.

    A share `fraction` of each category is for testing; or, with `per_category`, that many pictures of each
    train and at most `most` others test (the protocol of section 4.3 of the paper); a category without others
    keeps the share `fraction` for testing. A split that the data set gives itself is taken as it is. Raises
    `DeconvvizValueError`.
    """
    given = torch.as_tensor(() if data.given is None else data.given, dtype=torch.bool)
    if len(given) and per_category is None:
        return (~given).nonzero()[:, 0].tolist(), given.nonzero()[:, 0].tolist()
    if not 0 < fraction < 1:
        raise DeconvvizValueError(f"the test fraction is {fraction}; allowed: between 0 and 1")
    if per_category is not None and per_category < 1:
        raise DeconvvizValueError(f"per_category is {per_category}; allowed: 1 and above")
    groups = same_photographs(data)
    train: list[int] = []
    test: list[int] = []
    for label in dict.fromkeys(map(_shared, data.labels)):
        pictures = groups.get(label, {})
        ranked = [name for _, name in sorted((_hash(f"{label}/{name}"), name) for name in pictures)]
        count = math.ceil(fraction * len(ranked))
        if per_category is not None and len(ranked) > per_category:
            count = len(ranked) - per_category
        if len(ranked) - count < 1:
            raise DeconvvizValueError(
                f"category '{label}' has only {len(ranked)} picture; it needs one to train on and one to test on"
            )
        test += [i for name in ranked[: count if per_category is None else min(count, most)] for i in pictures[name]]
        train += [i for name in ranked[count:] for i in pictures[name]]
    return sorted(train), sorted(test)


def same_photographs(data: Pictures | Listing) -> dict[str, dict[str, list[int]]]:
    """For each category (those with the same photographs count as one) its pictures by name: indices into `data`."""
    groups: dict[str, dict[str, list[int]]] = {}
    for i, (c, name) in enumerate(zip(torch.as_tensor(data.classes).tolist(), data.names, strict=True)):
        groups.setdefault(_shared(data.labels[c]), {}).setdefault(_own_name(name), []).append(i)
    return groups


def _shared(label: str) -> str:
    return SAME_PICTURES.get(label, label)


def _hash(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
