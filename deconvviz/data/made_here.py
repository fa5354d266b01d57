"""Which files of a folder are pictures to look at: no FIFO or device, and none that deconvviz has made."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from deconvviz.errors import DeconvvizWarning, ImageError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"iTXt")


def made_here(path: str | os.PathLike[str]) -> bool:
    """Whether a PNG says in its metadata that deconvviz has made it; False for all else, and what cannot be read."""
    try:
        if not is_regular(path):
            return False
        with open(path, "rb") as file:
            if file.read(8) != _SIGNATURE:
                return False
            while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
                length = int.from_bytes(head[:4], "big")
                start = file.read(min(length, 64)) if head[4:] in _TEXTS else b""
                key, _, text = start.partition(b"\0")
                if key == b"Software" and text.lstrip(b"\0").startswith(b"deconvviz"):
                    return True
                file.seek(length - len(start) + 4, os.SEEK_CUR)
    except OSError:
        return False
    return False


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Whether a path leads to a file with contents of its own, told without opening it."""
    return stat.S_ISREG(os.stat(path).st_mode)


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise `ImageError` for a FIFO, a socket or a device: reading it could wait for ever, or have effects."""
    mode = os.stat(path).st_mode if os.path.exists(path) else stat.S_IFREG
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ImageError(f"{path} is a FIFO, a socket or a device, not a picture")


def pictures_among(paths: Iterable[Path], where: str) -> list[Path]:
    """Those of some files that are pictures to look at, in their order; how many are left out is said once."""
    kept: list[Path] = []
    special: list[Path] = []
    ours: list[Path] = []
    for path in paths:
        try:
            regular = is_regular(path)
        except OSError:  # a link to nowhere: whoever reads it says so
            regular = True
        (kept if regular and not made_here(path) else ours if regular else special).append(path)
    _say(ours, where, "made by deconvviz", "give it by name to use it all the same")
    _say(special, where, "no file (a FIFO, a socket or a device)")
    return kept


def _say(left_out: Sequence[Path], where: str, why: str, advice: str = "") -> None:
    if left_out:
        count = f"{len(left_out)} pictures in {where} are" if len(left_out) > 1 else f"1 picture in {where} is"
        first = os.fsencode(left_out[0].name).decode("utf-8", "replace")
        more = f"; {advice}" if advice else ""
        message = f"{count} left out: {why} (the first: {first}){more}"
        warnings.warn(message, DeconvvizWarning, stacklevel=4)
