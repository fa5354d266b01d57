"""Arguments of operators, nested in lists, tuples and dicts; torch's own walk through them takes far longer."""

from __future__ import annotations

from collections.abc import Callable
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
