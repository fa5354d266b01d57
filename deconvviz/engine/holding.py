"""Who works with which modules: passes of one model, or of two that share parts, one after another."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from torch import nn

# The thread that holds each module, by the module's id.
_holders: dict[int, int] = {}
_freed = threading.Condition()


@contextlib.contextmanager
def held(module: nn.Module) -> Iterator[None]:
    """Hold a module and all its parts, when no other thread holds any of them; others hold modules meanwhile.

    All are taken at once, so that no two threads wait for each other. A thread that holds some already (a hook that
    asks something of another model) never waits, for the same reason: it goes on with what is free.
    """
    parts = {id(m): m for m in module.modules()}  # which keeps them alive, and so the ids
    me = threading.get_ident()
    mine: list[int] = []
    try:
        with _freed:
            if me not in _holders.values():
                _freed.wait_for(lambda: _holders.keys().isdisjoint(parts))
            mine.extend(part for part in parts if part not in _holders)
            _holders.update(dict.fromkeys(mine, me))
        yield
    finally:
        with _freed:
            for part in mine:
                _holders.pop(part, None)
            _freed.notify_all()
