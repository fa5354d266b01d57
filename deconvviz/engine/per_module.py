"""What is known of a module, for as long as it lives."""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from typing import Generic, TypeVar

from torch import nn

Known = TypeVar("Known")


class PerModule(Generic[Known]):
    """What is known of modules, under keys, as long as each module lives."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[nn.Module, dict[Hashable, Known]] = weakref.WeakKeyDictionary()

    def __contains__(self, module: nn.Module) -> bool:
        return module in self._known

    def of(self, module: nn.Module) -> dict[Hashable, Known]:
        """What is known of `module`, to read and to write."""
        return self._known.setdefault(module, {})
