"""What is known of a module, for as long as it lives."""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from typing import Generic, TypeVar

from torch import nn

Known = TypeVar("Known")


class PerModule(weakref.WeakKeyDictionary[nn.Module, dict[Hashable, Known]], Generic[Known]):
    """What is known of modules, under keys, as long as each module lives."""

    def of(self, module: nn.Module) -> dict[Hashable, Known]:
        """What is known of `module`, to read and to write."""
        return self.setdefault(module, {})
