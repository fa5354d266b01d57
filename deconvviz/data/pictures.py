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

from deconvviz.data.images import SUFFIXES, read_image
from deconvviz.data.packed import is_packed, read_packed
from deconvviz.errors import DeconvvizValueError, ImageError
from deconvviz.models import registry

LEFT_OUT = ("BACKGROUND_Google",)
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
        return _read_packed(root, channels)
    labels = tuple(sorted(d.name for d in root.iterdir() if d.is_dir() and d.name not in LEFT_OUT and d.name[0] != "."))
    files = [(c, f) for c, label in enumerate(labels) for f in _pictures_of(root / label)]
    if len({c for c, _ in files}) < 2:
        raise DeconvvizValueError(f"{root} must hold one folder of pictures per category, two or more")

    def decode(file: Path) -> Tensor | str:
        try:
            return _decode(file, channels, side)
        except ImageError as error:
            return str(error)

    decoded = []
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for picture in pool.map(decode, [f for _, f in files]):
            decoded.append(picture)
            if shown is not None:
                shown(len(decoded), len(files))
    good = [(c, f.name, x) for (c, f), x in zip(files, decoded, strict=True) if isinstance(x, Tensor)]
    empty = set(range(len(labels))) - {c for c, _, _ in good}
    if empty:
        raise DeconvvizValueError(f"no readable picture in the category '{labels[min(empty)]}' of {root}")
    return Pictures(
        [x for _, _, x in good],
        torch.tensor([c for c, _, _ in good]),
        tuple(name for _, name, _ in good),
        labels,
        tuple(x for x in decoded if isinstance(x, str)),
        source=CALTECH101 if labels == tuple(sorted(registry.card("zfnet").labels)) else "unknown",
    )


def _pictures_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)


def _decode(file: Path, channels: int, side: int) -> Tensor:
    picture = read_image(file)
    scale = side / min(picture.size)
    if scale < 1:
        size = (max(round(picture.width * scale), side), max(round(picture.height * scale), side))
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    picture = picture.convert("L" if channels == 1 else "RGB")
    flat = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return flat.view(picture.height, picture.width, channels).permute(2, 0, 1).contiguous()


def _read_packed(root: Path, channels: int) -> Pictures:
    found = read_packed(root, channels)
    names = tuple(f"{'test' if t else 'train'}{i}" for i, t in enumerate(found.given.tolist()))
    return Pictures(list(found.pixels), found.classes, names, found.labels, given=found.given, source=found.source)


def split(
    data: Pictures, fraction: float = 0.12, per_category: int | None = None, most: int = 50
) -> tuple[list[int], list[int]]:
    """Indices (train, test), by a hash of category and name: the same on every machine.

    A share `fraction` of each category is for testing; or, with `per_category`, that many pictures of each
    train and at most `most` others test (the protocol of section 4.3 of the paper); a category without others
    keeps the share `fraction` for testing. A split that the data set gives itself is taken as it is. Raises
    `DeconvvizValueError`.
    """
    if data.given is not None and per_category is None:
        return (~data.given).nonzero()[:, 0].tolist(), data.given.nonzero()[:, 0].tolist()
    if not 0 < fraction < 1:
        raise DeconvvizValueError(f"the test fraction is {fraction}; allowed: between 0 and 1")
    if per_category is not None and per_category < 1:
        raise DeconvvizValueError(f"per_category is {per_category}; allowed: 1 and above")
    train: list[int] = []
    test: list[int] = []
    for members in _groups(data):
        ranked = _ranked(data, members)
        names = sorted({(key, name) for key, name, _ in ranked})
        count = math.ceil(fraction * len(names))
        if per_category is not None and len(names) > per_category:
            count = len(names) - per_category
        if len(names) - count < 1:
            raise DeconvvizValueError(
                f"category '{data.labels[members[0]]}' has only {len(names)} picture; it needs one to train on and "
                "one to test on"
            )
        tests = {name for _, name in names[: count if per_category is None else min(count, most)]}
        trains = {name for _, name in names[count:]}
        train += [i for _, name, i in ranked if name in trains]
        test += [i for _, name, i in ranked if name in tests]
    return sorted(train), sorted(test)


def _groups(data: Pictures) -> list[list[int]]:
    """Categories, those with the same photographs together."""
    groups: dict[str, list[int]] = {}
    for c, label in enumerate(data.labels):
        groups.setdefault(SAME_PICTURES.get(label, label), []).append(c)
    return list(groups.values())


def _ranked(data: Pictures, members: Sequence[int]) -> list[tuple[int, str, int]]:
    """(hash, name, index) of the pictures of these categories; the hash ignores which of them it is."""
    shared = SAME_PICTURES.get(data.labels[members[0]], data.labels[members[0]])
    found = torch.isin(data.classes, torch.tensor(members)).nonzero()[:, 0].tolist()
    keys = [int(hashlib.sha256(f"{shared}/{data.names[i]}".encode()).hexdigest()[:8], 16) for i in found]
    return sorted((key, data.names[i], i) for key, i in zip(keys, found, strict=True))
