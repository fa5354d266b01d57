"""What a page may ask, read from an address as strictly as the command line reads its options."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deconvviz.analyses.projection.compute import METHODS, OVERLAPS
from deconvviz.errors import DeconvvizValueError

Query = Mapping[str, str]
# Numbers of a page are places, sizes and units: none is longer.
_WHOLE = re.compile(r"\d{1,9}")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
FILLS = ("grey", "mean", "blur", "noise")


class BadQuestion(DeconvvizValueError):
    """A request that no page of this version makes."""


@dataclass(frozen=True)
class Projected:
    """One unit of a layer sent back: at `place` (row, column), None for its strongest.

    `contrast` is the percentile that becomes full contrast, unless `scale` says which value does.
    """

    layer: str
    unit: int
    place: tuple[int, int] | None = None
    method: str = METHODS[0]
    overlap: str = OVERLAPS[0]
    contrast: float = 99.5
    scale: float | None = None

    @classmethod
    def of(cls, query: Query) -> Projected:
        """What the parameters of a page say."""
        return cls(
            text(query, "layer"), whole(query, "unit"), _place(query), choice(query, "method", METHODS),
            choice(query, "overlap", OVERLAPS), number(query, "contrast", 99.5, 1, 100),
            number(query, "scale", None, 1e-30, 1e30),
        )  # fmt: skip


@dataclass(frozen=True)
class Covered:
    """A picture with a window covered: of this size (rows, columns), None for the network's own default.

    `fill` is one of `FILLS` or a colour `#rrggbb`; `target` a class, None for the network's own; `unit` the map of
    `layer` that is watched, None for the strongest; `place` the window's left upper corner, `stride` the steps of the
    whole map of them.
    """

    window: tuple[int, int] | None = None
    fill: str = FILLS[0]
    target: int | None = None
    layer: str | None = None
    unit: int | None = None
    place: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None

    @classmethod
    def of(cls, query: Query) -> Covered:
        """What the parameters of a page say."""
        fill = query.get("fill", FILLS[0])
        if not _COLOUR.fullmatch(fill):
            fill = choice(query, "fill", FILLS)
        layer = query.get("layer") or None
        unit = whole(query, "unit", None)
        if unit is not None and layer is None:
            raise BadQuestion("unit goes with a layer")
        return cls(
            pair(query, "window"), fill.lower(), whole(query, "target", None), layer, unit, _place(query),
            pair(query, "stride"),
        )  # fmt: skip


def text(query: Query, name: str) -> str:
    """A parameter that must be there."""
    value = query.get(name, "")
    if not value or len(value) > 500:
        raise BadQuestion(f"{name} is {'missing' if not value else 'too long'}")
    return value


def whole(query: Query, name: str, absent: Any = ...) -> Any:
    """A whole number from 0; `absent` where the parameter is not there."""
    value = query.get(name)
    if value is None or value == "":
        if absent is ...:
            raise BadQuestion(f"{name} is missing")
        return absent
    if not _WHOLE.fullmatch(value):
        raise BadQuestion(f"{name} is {value[:40]!r}; allowed: a whole number from 0")
    return int(value)


def number(query: Query, name: str, absent: Any, low: float, high: float) -> Any:
    """A number from `low` to `high`."""
    value = query.get(name)
    if value is None or value == "":
        return absent
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not low <= found <= high:
        raise BadQuestion(f"{name} is {value[:40]!r}; allowed: {low:g} to {high:g}")
    return found


def choice(query: Query, name: str, allowed: Sequence[str]) -> str:
    """One of several words, the first where the parameter is not there."""
    value = query.get(name) or allowed[0]
    if value not in allowed:
        raise BadQuestion(f"{name} is {value[:40]!r}; allowed: {', '.join(allowed)}")
    return value


def pair(query: Query, name: str) -> tuple[int, int] | None:
    """`32` or `32,48` (rows, columns), positive."""
    value = query.get(name)
    if value is None or value == "":
        return None
    parts = value.split(",")
    if len(parts) > 2 or not all(_WHOLE.fullmatch(part) and int(part) for part in parts):
        raise BadQuestion(f"{name} is {value[:40]!r}; allowed: 32, or 32,48 (rows, columns)")
    return int(parts[0]), int(parts[-1])


def name_of(query: Query, name: str) -> str | None:
    """A name that a page has given itself."""
    value = query.get(name)
    if value is not None and not _ID.fullmatch(value):
        raise BadQuestion(f"{name} is {value[:40]!r}; allowed: at most 64 letters, digits, _ . -")
    return value


def _place(query: Query) -> tuple[int, int] | None:
    row, col = whole(query, "row", None), whole(query, "col", None)
    if (row is None) != (col is None):
        raise BadQuestion("row and col go together")
    return None if row is None else (row, col)
