"""All networks by name. Listing names is free of torch; a family is imported when it is first asked for.

A new network is one file here (docs/guides/add-a-network.md): its family's module, with `NAMES` (a tuple of plain
strings), `build(name, **options) -> nn.Module` and `card(name) -> Card`. Optional in a family: `card_for(name, weights)
-> Card`, `adapt(name, state) -> state`, for files with extra entries, and `fetch(name, weights) -> state`, for weights
that do not ship, with `file(name, weights) -> path` where their file belongs.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from deconvviz.card import Card

if TYPE_CHECKING:
    from torch import Tensor, nn


@lru_cache(maxsize=1)
def _families() -> dict[str, str]:
    """Name of a network → its family's module, read from the sources: no family is imported for it.

    Raises ValueError if two families have a network of one name.
    """
    found: dict[str, str] = {}
    folders = [Path(folder) for folder in sys.modules[__name__.rpartition(".")[0]].__path__]
    files = [path for folder in folders for path in folder.glob("[!_]*.py")]
    # The paper's own network first.
    for path in sorted(files, key=lambda path: (not path.stem.startswith("zfnet"), path.stem)):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "NAMES":
                for name in ast.literal_eval(node.value):
                    if name in found:
                        raise ValueError(f"the network '{name}' is in models/{found[name]}.py and in {path.name}")
                    found[name] = path.stem
    return found


def names() -> list[str]:
    """Names of all networks, family by family."""
    return list(_families())


def _family(name: str) -> ModuleType:
    return importlib.import_module(f".{_families()[name]}", __package__)


def card(name: str, weights: str | None = None) -> Card:
    """Facts about the network `name`, with these weights. Raises KeyError for an unknown name."""
    family = _family(name)
    if weights is not None and hasattr(family, "card_for"):
        return cast(Card, family.card_for(name, weights))
    return cast(Card, family.card(name))


def build(name: str, **options: object) -> nn.Module:
    """The network `name`, freshly initialised. Options are the family's own (`classes`, `fc`, …).

    Raises KeyError for an unknown name, TypeError for an option that the network does not have.
    """
    return cast("nn.Module", _family(name).build(name, **options))


def weights_path(name: str, weights: str = "bundled") -> Path | None:
    """Where the file of the weights that ship lies, or None if the card names none."""
    for entry in card(name).available:
        if entry.name == weights and entry.name == "bundled" and entry.location:
            return Path(__file__).parent / "weights" / entry.location
    return None


def weights_file(name: str, weights: str) -> Path | None:
    """Where the file of these weights belongs, whether it is there or not; None if that is not known."""
    where: Callable[[str, str], Path | None] | None = getattr(_family(name), "file", None)
    return weights_path(name, weights) or (where(name, weights) if where is not None else None)


def adapter(name: str) -> Callable[[str, dict[str, Tensor]], dict[str, Tensor]] | None:
    """The family's `adapt`, if it has one."""
    return getattr(_family(name), "adapt", None)


def fetcher(name: str) -> Callable[[str, str], dict[str, Tensor]] | None:
    """The family's `fetch`, if its weights do not ship."""
    return getattr(_family(name), "fetch", None)
