"""A stand-in for a model: a copy of its modules that shares the parameters, to run, hook and write to in its place.

So a pass in another mode, with hooks of its own, is nothing that another thread could see of the model itself.
"""

from __future__ import annotations

import copy
import functools
import weakref
from collections.abc import Iterable
from types import CellType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

# What holds no module: nearly every attribute.
_PLAIN = frozenset({type(None), bool, int, float, str, bytes, type, torch.dtype, torch.device, Tensor, nn.Parameter})
# A longer list is data, such as labels: nobody keeps modules in one.
_LONGEST = 4096
# Dictionaries and sets of every module, which a pass may write to: hooks, buffers, parts.
_OWN = frozenset(name for name, value in vars(nn.Module()).items() if isinstance(value, dict | set))
# How `torch.compile` makes a module's call its own.
_COMPILED = frozenset({"_compiled_call_impl", "dynamo_ctx", "_torchdynamo_orig_callable"})


class _CannotCopyError(Exception):
    """Something holds a part of the model and cannot be copied with it."""


class StandIn:
    """The stand-in for a module, in eval mode, as `module`; None if there can be none.

    Every module has a copy of the same class with the same parameters, and copies of its buffers. A list of parts, a
    method, a function that closes over one holds the copies, too; all else is shared, so that only one pass at a time
    may use it. With `frozen` parameters, which share the memory and want no gradient, a pass adds to no `grad`.
    """

    def __init__(self, module: nn.Module, frozen: bool = False) -> None:
        self._copies: dict[int, Any] = {}
        self._kept: list[Any] = []  # what `_copies` knows by its id lives as long
        # Whether functions close over parts of the model, which `copy.deepcopy` would overlook.
        self.closed_over = False
        self.module: nn.Module | None
        try:
            with torch.no_grad():
                self.module = self._copied(module, frozen)
        except Exception:  # whatever a user's own classes raise
            self.module = None
        self._copies, self._kept = {}, []

    def _copied(self, module: nn.Module, frozen: bool) -> nn.Module:
        parts = list(module.modules())
        for part in parts:
            kind = type(part)
            # Whose end does something, or whose state lies elsewhere, is more than its attributes.
            if hasattr(kind, "__del__") or any(base.__dict__.get("__slots__") for base in kind.__mro__):
                raise _CannotCopyError(kind.__name__)
            self._put(part, object.__new__(kind))
            for b in part._buffers.values():
                if b is not None and id(b) not in self._copies:
                    self._put(b, b.clone())
            for p in part._parameters.values() if frozen else ():
                if p is not None and id(p) not in self._copies:
                    self._put(p, nn.Parameter(p.detach(), requires_grad=False))
        for part in parts:
            own = vars(self._copies[id(part)])
            compiled = "_orig_mod" in part._modules and "dynamo_ctx" in vars(part)
            skipped = _COMPILED | {"forward"} if compiled else _COMPILED
            for name, value in vars(part).copy().items():
                if name not in skipped:
                    # What a module in train mode remembers in eval mode (a bias by device) would be old when it asks.
                    own[name] = self._attribute(value, name in _OWN or (part.training and type(value) is dict))
            if compiled:
                own["forward"] = own["_modules"]["_orig_mod"]
            own["training"] = False
        found: nn.Module = self._copies[id(module)]
        return found

    def _put(self, value: Any, copied: Any) -> None:
        self._copies[id(value)] = copied
        self._kept.append(value)

    def _attribute(self, value: Any, copied: bool) -> Any:
        if copied and not value:
            return type(value)()
        made = self._of(value)
        return copy.copy(value) if made is value and copied else made

    def _of(self, value: Any) -> Any:
        """`value`, or a copy of it if it holds modules or buffers of the model."""
        known = self._copies.get(id(value))
        if known is not None:
            return known
        if type(value) in _PLAIN or isinstance(value, Tensor | type):
            return value
        self._put(value, value)  # what holds itself is met again
        made = self._copies[id(value)] = self._made(value)
        return made

    def _made(self, value: Any) -> Any:
        if isinstance(value, list | tuple | set | dict):
            return self._container(value) if len(value) <= _LONGEST else value
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            owner, function = self._of(value.__self__), self._of(value.__func__)
            same = owner is value.__self__ and function is value.__func__
            return value if same else MethodType(function, owner)
        if isinstance(value, functools.partial):
            old = value.func, value.args, value.keywords
            function, given, named = map(self._of, old)
            same = function is old[0] and given is old[1] and named is old[2]
            return value if same else functools.partial(function, *given, **named)
        if isinstance(value, weakref.ref):
            copied = self._copies.get(id(value()))
            return value if copied is None else weakref.ref(copied)
        if not isinstance(value, nn.Module) and self._reaches(getattr(value, "__dict__", {}).copy().values()):
            raise _CannotCopyError(type(value).__name__)
        return value

    def _container(self, value: Any) -> Any:
        """A list, tuple, set or dictionary with the copies of what is in it; itself if all is as it was."""
        if isinstance(value, dict):
            old = [part for pair in list(value.items()) for part in pair]
        else:
            old = list(value)
        new = [self._of(part) for part in old]
        if all(a is b for a, b in zip(old, new, strict=True)):
            return value
        if isinstance(value, dict):
            made = copy.copy(value)
            made.clear()
            made.update(zip(new[::2], new[1::2], strict=True))
            return made
        return type(value)._make(new) if hasattr(value, "_make") else type(value)(new)

    def _function(self, value: FunctionType) -> FunctionType:
        """A function that sees the copies where it closes over parts of the model, or has them as defaults."""
        if self._reaches(value.__globals__.get(name) for name in value.__code__.co_names):
            raise _CannotCopyError(value.__name__)  # its globals are everybody's
        old = value.__closure__ or ()
        cells = tuple(self._cell(cell) for cell in old)
        defaults, named = self._of(value.__defaults__), self._of(value.__kwdefaults__)
        same = all(a is b for a, b in zip(old, cells, strict=True))
        if same and defaults is value.__defaults__ and named is value.__kwdefaults__:
            return value
        self.closed_over = True
        made = FunctionType(value.__code__, value.__globals__, value.__name__, defaults, cells)
        made.__kwdefaults__ = named
        vars(made).update(vars(value))
        return made

    def _cell(self, cell: CellType) -> CellType:
        try:
            content = cell.cell_contents
        except ValueError:  # nothing in it yet
            return cell
        made = self._of(content)
        return cell if made is content else CellType(made)

    def _reaches(self, values: Iterable[Any]) -> bool:
        """Whether a module of the model, or a list or dictionary of some, is among these."""
        for value in values:
            near = [value]
            if isinstance(value, list | tuple | set | dict) and len(value) <= _LONGEST:
                near = [*value, *value.values()] if isinstance(value, dict) else list(value)
            if any(isinstance(v, nn.Module) and id(v) in self._copies for v in near):
                return True
            if any(isinstance(v, MethodType) and id(v.__self__) in self._copies for v in near):
                return True
        return False
