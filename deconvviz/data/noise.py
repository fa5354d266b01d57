"""What the libraries that decode pictures print by themselves: kept off stderr, for their errors are raised as well."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
from pathlib import Path

import PIL

# Beside the package in wheels of Linux, inside it in those of macOS.
_PLACES = ("../pillow.libs/libtiff*", "../Pillow.libs/libtiff*", ".dylibs/libtiff*")


@functools.cache
def quiet_decoders() -> None:
    """Have libtiff print nothing in this process: 29 damaged files made it write 372 lines.

    Its handlers are taken away in the library that Pillow has loaded; where that is not found (linked into Pillow), it
    goes on printing.
    """
    root = Path(PIL.__file__).parent
    found = [str(path) for place in _PLACES for path in root.glob(place)]
    system = ctypes.util.find_library("tiff") if not found else None
    for name in [*found, *([system] if system else [])]:
        try:
            library = ctypes.CDLL(name)
            library.TIFFSetErrorHandler(None)
            library.TIFFSetWarningHandler(None)
        except (OSError, AttributeError):
            continue
