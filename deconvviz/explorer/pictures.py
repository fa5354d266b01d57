"""The pictures of a session: given at its start or by a page, each with its recording while there is memory for it."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from deconvviz.data.images import read_bytes, read_image
from deconvviz.data.listing import pictures_in
from deconvviz.errors import DeconvvizError, ImageError
from deconvviz.live import Record
from deconvviz.network.network import Network
from deconvviz.network.preprocessing import Picture
from deconvviz.results.base import photograph, rgb

# A file that a page may send.
MOST_BYTES = 30_000_000
# What all such files together may take, and how many there may be; the oldest go first.
_KEPT_BYTES = 300_000_000
_KEPT = 1000
# What the values of recordings may take, besides the one in use; and how many keep what was made ready for questions,
# which is about as large as the network.
_RECORDED_BYTES = 1_000_000_000
_READY = 2
# Pixels of the longer side of the whole picture, as it is kept to be shown.
_WHOLE_SIDE = 1024

Source: TypeAlias = bytes | Path | Image.Image | Tensor


class UnknownPicture(DeconvvizError):
    """A picture that this session does not have, or not any more."""


@dataclass
class Shown:
    """A picture: its `source`, its `name`, and how Python code calls it, as `said`.

    `whole` is all of it, small, `size` (height, width) what it was, both known once it has been opened.
    """

    id: str
    name: str
    source: Source
    said: str
    sent: bool = False
    whole: Image.Image | None = None
    size: tuple[int, int] = (0, 0)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self) -> Picture:
        """What the network is given: decoded anew, or the tensor."""
        source = self.source
        if isinstance(source, Tensor):
            return source
        if isinstance(source, bytes):
            picture = read_bytes(source, self.name)
        else:
            if isinstance(source, Path) and _of_file(source) != self.id:
                raise ImageError(f"{source} has changed since it was opened; give it again")
            picture = read_image(source)
        with self._lock:
            if self.whole is None:
                self.size = (picture.height, picture.width)
                self.whole = picture.copy()
                self.whole.thumbnail((_WHOLE_SIDE, _WHOLE_SIDE))
        return picture

    @property
    def path(self) -> str:
        """What a command calls it: the file as it was given, or the name of the one that was sent."""
        return str(self.source) if isinstance(self.source, Path) else self.name

    @property
    def bytes(self) -> int:
        """The memory that its source takes."""
        return len(self.source) if isinstance(self.source, bytes) else 0


class Pictures:
    """The pictures of a session by their ids; `make` records one. May be asked from several threads."""

    def __init__(self, net: Network, make: Callable[[Picture], Record]) -> None:
        self._net, self._make = net, make
        self._shown: OrderedDict[str, Shown] = OrderedDict()
        # Each with what the network saw, (H, W, 3) uint8.
        self._records: OrderedDict[str, tuple[Record, NDArray[np.uint8]]] = OrderedDict()
        self._lock, self._recording = threading.Lock(), threading.Lock()

    def listed(self) -> list[dict[str, str]]:
        """Their ids and names, in the order of coming."""
        with self._lock:
            return [{"id": shown.id, "name": shown.name} for shown in self._shown.values()]

    def give(self, image: Any) -> list[str]:
        """Add what `explore` was given: a picture, a folder, or several; their ids. Raises the errors of reading."""
        if isinstance(image, list | tuple):
            return [found for one in image for found in self.give(one)]
        if isinstance(image, Tensor) and image.dim() == 4 and image.shape[0] != 1:
            return [found for one in image for found in self.give(one)]
        if isinstance(image, str | os.PathLike) and Path(image).is_dir():
            return [found for path in pictures_in(Path(image)) for found in self.give(path)]
        return [self._add(_given(image, len(self._shown) + 1))]

    def send(self, content: bytes, name: str) -> str:
        """Add the content of a file that a page has sent, once it is known to be a picture; its id."""
        name = safe_name(name)
        shown = Shown(_digest(content), name, content, repr(name), sent=True)
        with self._lock:
            if shown.id in self._shown:
                return shown.id
        shown.open()
        return self._add(shown)

    def _add(self, shown: Shown) -> str:
        with self._lock:
            self._shown.setdefault(shown.id, shown)
            sent = [other for other in self._shown.values() if other.sent]
            while sum(other.bytes for other in sent) > _KEPT_BYTES or len(sent) > _KEPT:
                oldest = sent.pop(0)
                del self._shown[oldest.id]
                self._records.pop(oldest.id, None)
        return shown.id

    def shown(self, id: str) -> Shown:
        """A picture by its id. Raises `UnknownPicture`."""
        with self._lock:
            found = self._shown.get(id)
        if found is None:
            raise UnknownPicture("this picture is not here any more: drop it again")
        return found

    def record(self, id: str) -> Record:
        """The recording of a picture: the kept one, or a new one if the model has changed or it had to go."""
        return self._recorded(id)[0]

    def seen(self, id: str) -> NDArray[np.uint8]:
        """The picture as the network sees it, (H, W, 3) uint8."""
        return self._recorded(id)[1]

    def _recorded(self, id: str) -> tuple[Record, NDArray[np.uint8]]:
        shown = self.shown(id)
        # One at a time: a picture that two questions are about is recorded once.
        with self._recording:
            with self._lock:
                kept = self._records.get(id)
                if kept is not None and kept[0].current:
                    self._records.move_to_end(id)
                    self._forget()
                    return kept
                self._records.pop(id, None)
            rec = self._make(shown.open())
            card = self._net.card
            made = rec, rgb(photograph(rec.image, card.mean, card.std))
            with self._lock:
                self._records[id] = made
                while len(self._records) > 1 and sum(r.nbytes for r, _ in self._records.values()) > _RECORDED_BYTES:
                    self._records.popitem(last=False)
                self._forget()
            return made

    def _forget(self) -> None:
        """Free what was made ready for pictures that are not looked at any more."""
        for rec, _ in list(self._records.values())[:-_READY]:
            rec.forget()

    def whole(self, id: str) -> tuple[Image.Image, tuple[int, int], tuple[float, ...] | None]:
        """All of a picture, small; its size (height, width); which part of it is used, None where that is not known."""
        shown = self.shown(id)
        if isinstance(shown.source, Tensor):
            picture = Image.fromarray(self.seen(id))
            size = (picture.height, picture.width)
            return picture, size, (0.0, 0.0, float(size[0]), float(size[1]))
        if shown.whole is None:
            shown.open()
        assert shown.whole is not None
        try:
            return shown.whole, shown.size, tuple(map(float, self._net.shown_region(shown.size)))
        except DeconvvizError:
            return shown.whole, shown.size, None


def _given(image: Any, number: int) -> Shown:
    """A picture that `explore` was given."""
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        if not path.is_file():
            read_image(path)  # which says what is wrong
        return Shown(_of_file(path), path.name, path, repr(str(path)))
    if isinstance(image, Tensor):
        content = image.detach().cpu().contiguous()
        digest = _digest(
            str((content.dtype, tuple(content.shape))).encode(), content.reshape(-1).view(torch.uint8).numpy().tobytes()
        )
        return Shown(digest, f"input {number}", image, "image")
    picture = read_image(image)
    return Shown(_digest(np.asarray(picture).tobytes()), f"picture {number}", picture, "image")


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def _of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def safe_name(name: str) -> str:
    """The name of a file as a page says it, for people and for code to copy: no folder, nothing that cannot be seen."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(letter for letter in last if letter.isprintable()).strip(". ")[:100]
    return kept or "picture"
