"""What the annotations of a result say of its fields, and whether what was loaded is so.

`units: Annotated[Tensor, "K"]` and `places: Annotated[Tensor, "K 2"]`: one letter stands for one number in all fields
of a result, a name of a tuple for its length, `_` for any number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from deconvviz.errors import ResultError


def shapes_of(kind: type) -> dict[str, tuple[str, ...]]:
    """The sides of each annotated tensor of a class, in words."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: tuple(get_args(hint)[1].split()) for name, hint in hints.items() if get_origin(hint) is Annotated}


def check_shapes(values: Mapping[str, Any], shapes: Mapping[str, Sequence[str]]) -> None:
    """Raise `ResultError` if the tensors among the fields are not of shapes that go together."""
    known: dict[str, tuple[int, str]] = {}
    for name, sides in shapes.items():
        if values.get(name) is None:
            continue
        shape = tuple(values[name].shape)
        if len(shape) != len(sides):
            raise ResultError(f"'{name}' has shape {shape}; allowed: ({', '.join(sides)})")
        for side, count in zip(sides, shape, strict=True):
            said, by = _said(side, values) or known.setdefault(side, (count, name))
            if side != "_" and count != said:
                raise ResultError(f"'{name}' has shape {shape}, but {side} is {said} by {by}")


def _said(side: str, values: Mapping[str, Any]) -> tuple[int, str] | None:
    if side.isdecimal():
        return int(side), "its kind"
    return (len(values[side]), f"'{side}'") if isinstance(values.get(side), tuple) else None


def fits(hint: Any, value: Any) -> bool:
    """Whether a value, as it came from JSON and was revived, is of an annotated type."""
    origin = get_origin(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(one, value) for one in get_args(hint))
    if hint in (None, NoneType):
        return value is None
    if hint is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is dict:
        key, held = get_args(hint)
        return isinstance(value, dict) and all(fits(key, k) and fits(held, v) for k, v in value.items())
    if origin is tuple:
        kinds = get_args(hint)
        if not isinstance(value, tuple):
            return False
        if kinds[-1] is Ellipsis:
            return all(fits(kinds[0], one) for one in value)
        return len(kinds) == len(value) and all(map(fits, kinds, value))
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        kinds = tuple(get_type_hints(hint).values())
        return isinstance(value, hint) and all(map(fits, kinds, value))
    return isinstance(value, hint) if isinstance(hint, type) else True
