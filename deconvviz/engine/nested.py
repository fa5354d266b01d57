"""Arguments of operators and results of models, nested in lists, tuples and dicts; torch's own is slow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def leaves(nested: Any) -> list[Any]:
    """What an operator's arguments, nested in lists, tuples and dicts, come to."""
    if isinstance(nested, dict):
        nested = nested.values()
    elif not isinstance(nested, list | tuple):
        return [nested]
    return [leaf for part in nested for leaf in leaves(part)]


def mapped(change: Callable[[Any], Any], nested: Any) -> Any:
    """The same nest with every leaf changed."""
    if isinstance(nested, dict):
        return {key: mapped(change, part) for key, part in nested.items()}
    if isinstance(nested, list | tuple):
        return type(nested)(mapped(change, part) for part in nested)
    return change(nested)


def named(nested: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf with its name: keys of dictionaries, fields of named tuples, numbers in lists, with dots between."""
    if isinstance(nested, Mapping):
        parts = nested.items()
    elif isinstance(nested, list | tuple):
        parts = dict(zip(getattr(nested, "_fields", range(len(nested))), nested, strict=False)).items()
    else:
        yield name, nested
        return
    for key, part in parts:
        yield from named(part, f"{name}.{key}" if name else f"{key}")
