"""Pictures to train on: read and decoded once, split into those to train on, to choose on and to test on."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from deconvviz.data import likeness
from deconvviz.data.images import read_image
from deconvviz.data.listing import Listing, categories
from deconvviz.data.packed import is_packed, read_packed
from deconvviz.errors import DeconvvizValueError, ImageError
from deconvviz.models import registry

# Categories of Caltech-101 with the same photographs, differently cut: a pair stays on one side of a split.
SAME_PICTURES = {"Faces_easy": "Faces"}
_KEY = "deconvviz, three parts"
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

    @cached_property
    def hashes(self) -> Tensor:
        """The perceptual hash (N, 32) of every picture."""
        return likeness.stack(map(likeness.hash_of_pixels, self.pixels))

    @cached_property
    def groups(self) -> list[list[int]]:
        """The pictures in groups of those that are alike, or known to be the same photograph.

        Each alone where the data set brings its own split: thumbnails of one kind are alike without being copies.
        """
        if self.given is not None:
            return [[i] for i in range(len(self.names))]
        same = [group for names in same_photographs(self).values() for group in names.values()]
        return likeness.groups(self.hashes, same)

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
    """The path of a file within its category."""
    return name.partition("/")[2] or name


class Split(NamedTuple):
    """Indices of the pictures to train on; of those that choices are made on (which epoch, which rate); and of those
    that are looked at once, at the end."""

    train: list[int]
    validation: list[int]
    test: list[int]


def split(
    data: Pictures,
    fraction: float = 0.12,
    per_category: int | None = None,
    most: int = 50,
    validation: float = 0.12,
) -> Split:
    """Part the pictures in three, by a hash of category and name: the same on every machine.

    Pictures that are alike (`likeness.groups`: copies, mirror images, retouched versions) stay in one part. Shares
    `fraction` and `validation` of each category are for the test and for choices; or, with `per_category`, that many
    pictures of each train, at most `most` others test (the protocol of section 4.3 of the paper) and at most as many
    of what is left validate; a category without others keeps the share `fraction` for testing. Where the data set
    itself says which pictures test, those do. Raises `DeconvvizValueError`.
    """
    if not 0 < fraction < 1:
        raise DeconvvizValueError(f"the test fraction is {fraction}; allowed: between 0 and 1")
    if not 0 <= validation < 1 - fraction:
        raise DeconvvizValueError(
            f"the validation fraction is {validation}; allowed: 0 to {1 - fraction:g}, that left out"
        )
    if per_category is not None and per_category < 1:
        raise DeconvvizValueError(f"per_category is {per_category}; allowed: 1 and above")
    if data.given is not None and per_category is None:
        test = data.given.nonzero()[:, 0].tolist()
        kept, others = _part(data, (~data.given).nonzero()[:, 0].tolist(), lambda n: math.ceil(validation * n))
        return Split(others, kept, test)
    everything = list(range(len(data.names)))
    if per_category is None:
        test, others = _part(data, everything, lambda n: math.ceil(fraction * n))
        # A share of all pictures, taken from those that are left.
        share = validation / (1 - fraction)
        kept, others = _part(data, others, lambda n: min(round(share * n), n - 1))
        return Split(others, kept, test)
    train_on = per_category
    rest, others = _part(data, everything, lambda n: n - train_on if n > train_on else math.ceil(fraction * n))
    test, left = _part(data, rest, lambda n: min(n, most), alone=True)
    return Split(others, _part(data, left, lambda n: min(n, most), alone=True)[0], test)


def _part(
    data: Pictures, among: Sequence[int], wanted: Callable[[int], int], alone: bool = False
) -> tuple[list[int], list[int]]:
    """Two parts of the pictures `among`; the first has `wanted(n)` of the n pictures of each category.

    Groups of like pictures are taken in the order of a hash, if they do not go beyond that number in any of their
    categories. Unless `alone`, each category must have a picture in the second part too.
    """
    labels = [_shared(data.labels[c]) for c in data.classes[list(among)].tolist()]
    counts = Counter(labels)
    missing = {label: wanted(n) for label, n in counts.items()}
    for label, n in counts.items():
        if n - missing[label] < 1 and not alone:
            raise DeconvvizValueError(
                f"category '{label}' has only {n} picture{'s' * (n > 1)}; it needs one to train on and one to test on"
            )
    where = {picture: k for k, picture in enumerate(among)}
    found = [[where[i] for i in group if i in where] for group in data.groups]
    chosen: set[int] = set()
    for _, group in sorted((min(_hash(f"{labels[k]}/{data.names[among[k]]}") for k in g), g) for g in found if g):
        own = Counter(labels[k] for k in group)
        if all(missing[label] >= n for label, n in own.items()):
            chosen.update(group)
            for label, n in own.items():
                missing[label] -= n
    first = sorted(among[k] for k in chosen)
    return first, sorted(among[k] for k in range(len(among)) if k not in chosen)


def in_hash_order(data: Listing) -> list[list[int]]:
    """The pictures of each category of `data`, indices, in the order of the hash that `split` goes by."""
    order = sorted(range(len(data)), key=lambda i: _hash(f"{data.labels[data.classes[i]]}/{_own_name(data.names[i])}"))
    return [[i for i in order if data.classes[i] == c] for c in range(len(data.labels))]


def same_photographs(data: Pictures | Listing) -> dict[str, dict[str, list[int]]]:
    """For each category (those with the same photographs count as one) its pictures by name: indices into `data`."""
    groups: dict[str, dict[str, list[int]]] = {}
    for i, (c, name) in enumerate(zip(torch.as_tensor(data.classes).tolist(), data.names, strict=True)):
        groups.setdefault(_shared(data.labels[c]), {}).setdefault(_own_name(name), []).append(i)
    return groups


def _shared(label: str) -> str:
    return SAME_PICTURES.get(label, label)


def _hash(text: str) -> int:
    """A number for a picture. The key makes it another one than that of earlier versions, whose test pictures have
    been looked at."""
    return int(hashlib.sha256(f"{_KEY}/{text}".encode()).hexdigest()[:15], 16)
