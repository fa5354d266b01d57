"""Class names as people have them: a list, a mapping from or to the classes' numbers, a file of either."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, in_one_line

# What is taken for class names, in output order; see `class_names`.
Labels: TypeAlias = Iterable[str] | Mapping[Any, Any] | str | os.PathLike[str]

_ALLOWED = "names in output order, {0: name, …}, {name: 0, …}, or a file of them: one a line, or JSON"


def class_names(labels: Labels | None) -> tuple[str, ...]:
    """Class names in output order.

    `labels` are names, a mapping of numbers to names (transformers' `id2label`) or of names to numbers (torchvision's
    `class_to_idx`), or the path of a text file with a name a line or of a JSON file with a list or mapping. None is no
    names. Raises `DeconvvizTypeError` and `DeconvvizValueError`.
    """
    if labels is None:
        return ()
    if isinstance(labels, str | os.PathLike):
        return _of_file(Path(labels))
    if isinstance(labels, Mapping):
        return _of_mapping(labels)
    if isinstance(labels, set | frozenset) or not isinstance(labels, Iterable):
        raise DeconvvizTypeError(f"labels is a {type(labels).__name__}; allowed: {_ALLOWED}")
    return tuple(map(_name, labels))


def _of_file(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = json.loads(text) if path.suffix.lower() == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise DeconvvizValueError(f"cannot read class names from {path}: {in_one_line(error)}") from error
    if not isinstance(found, list | dict) or not found:
        raise DeconvvizValueError(f"{path} holds no class names; allowed: one a line, or a list or mapping as JSON")
    return tuple(name.strip() for name in class_names(found))


def _of_mapping(labels: Mapping[Any, Any]) -> tuple[str, ...]:
    """Of numbers to names (as text in JSON), or of names to numbers; every number from 0 once."""
    numbers = [_number(key) for key in labels]
    names = list(labels.values())
    if None in numbers:
        numbers, names = [_number(value) for value in labels.values()], list(labels)
    by_number = dict(zip(numbers, names, strict=True))
    if set(by_number) != set(range(len(labels))):
        raise DeconvvizValueError(f"labels does not number its names from 0 to {len(labels) - 1}; allowed: {_ALLOWED}")
    return tuple(_name(by_number[n]) for n in range(len(labels)))


def _number(value: Any) -> int | None:
    text = str(value)
    return int(text) if not isinstance(value, bool | float) and text.isdecimal() else None


def _name(value: Any) -> str:
    if isinstance(value, Mapping) or (isinstance(value, Iterable) and not isinstance(value, str)):
        raise DeconvvizTypeError(f"labels has a {type(value).__name__} for a name; allowed: {_ALLOWED}")
    return str(value)
