"""Errors: one base class, one clear line each, with the nearest match for names."""

from __future__ import annotations

import contextlib
import difflib
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar

__all__ = [
    "AtlasError",
    "DeconvvizError",
    "DeconvvizTypeError",
    "DeconvvizValueError",
    "DeconvvizWarning",
    "ImageError",
    "OutOfMemoryError",
    "ResultError",
    "StoreError",
    "UnknownNameError",
    "UnsupportedOperatorError",
    "WeightsError",
]


class DeconvvizError(Exception):
    """Base of every error that deconvviz raises on purpose."""


class DeconvvizWarning(UserWarning):
    """A result that is right and may not mean what it seems to, or pictures of a folder that are left out."""


class DeconvvizValueError(DeconvvizError, ValueError):
    """An argument has the right type but a value that is not allowed."""


class DeconvvizTypeError(DeconvvizError, TypeError):
    """An argument has a type that is not allowed."""


class UnknownNameError(DeconvvizValueError):
    """A model, layer, unit or option name that does not exist."""


class UnsupportedOperatorError(DeconvvizValueError):
    """The network uses an operator without a rule, or in a way that no rule covers."""


class ImageError(DeconvvizValueError):
    """A picture that cannot be read, or is too large to read safely."""


class OutOfMemoryError(DeconvvizError, MemoryError):
    """A picture that takes more memory than there is."""


class StoreError(DeconvvizValueError):
    """A scan's store that is something else, belongs to another scan, or cannot be read or written."""


class ResultError(DeconvvizValueError):
    """A saved result that cannot be one: damaged, of another kind, of impossible shapes or sizes."""


class AtlasError(DeconvvizValueError):
    """A folder that holds something else than the atlas to be built, or that cannot be written."""


class WeightsError(DeconvvizValueError):
    """Weights that are missing, do not match the network, or fail their checksum."""


def suggest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return `"; did you mean 'a' or 'b'?"` for the names nearest to `name`, or an empty string."""
    near = difflib.get_close_matches(str(name), list(dict.fromkeys(known)), n=count, cutoff=0.5)
    return "; did you mean " + " or ".join(f"'{n}'" for n in near) + "?" if near else ""


def in_one_line(error: BaseException) -> str:
    """Return what an error says as one line, or its kind if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def said(error: BaseException) -> str:
    """What a user is told of an error, as one line: of the system's own, the file and what is wrong with it."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return in_one_line(error)


def check_choice(name: str, value: object, allowed: Sequence[object]) -> None:
    """Raise `UnknownNameError` if the argument `name` is not one of `allowed`."""
    if value not in allowed:
        hint = suggest(str(value), map(str, allowed))
        raise UnknownNameError(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}{hint}")


def check_counts(**numbers: object) -> None:
    """Raise `DeconvvizValueError` if one of these arguments, given by name, is not a whole number from 1."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise DeconvvizValueError(f"{name} is {number!r}; allowed: a whole number from 1")


_HEARD: ContextVar[list[str] | None] = ContextVar("heard", default=None)


def warn(message: str, stacklevel: int = 2) -> None:
    """Warn with a `DeconvvizWarning`, or tell whoever listens by `warnings_heard`; `stacklevel` as Python's."""
    heard = _HEARD.get()
    if heard is None:
        warnings.warn(message, DeconvvizWarning, stacklevel=stacklevel + 1)
    else:
        heard.append(message)


@contextlib.contextmanager
def warnings_heard() -> Iterator[list[str]]:
    """What is warned of inside, as a list; Python's own way to catch warnings is for one thread alone."""
    heard: list[str] = []
    before = _HEARD.set(heard)
    try:
        yield heard
    finally:
        _HEARD.reset(before)
