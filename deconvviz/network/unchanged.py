"""Whether a module is still what it was: the same parts, parameters and buffers, none written to."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from deconvviz.errors import DeconvvizValueError


class Unchanged:
    """What a module consists of now; `check` raises an error once that is no longer so.

    Looked at are the tensors and how often they were written to, not their numbers: that takes no time. A write through
    `tensor.data` or from numpy, of which torch keeps no count, is not seen.
    """

    def __init__(self, module: nn.Module) -> None:
        named: list[tuple[str, Tensor]] = []
        # The dictionaries of the module's parts, parameters and buffers, and what stands in them.
        self._dicts: list[dict[str, Any]] = []
        for path, m in module.named_modules():
            self._dicts += [m._modules, m._parameters, m._buffers]
            own = (*m._parameters.items(), *m._buffers.items())
            named += [(f"{path}.{name}".lstrip("."), t) for name, t in own if t is not None]
        self._held = [value for entries in self._dicts for value in entries.values()]
        self._parts = [*map(id, self._held)]
        named = [(name, t) for name, t in named if not t.is_inference()]  # those keep no count
        self._names, self._tensors = [name for name, _ in named], [t for _, t in named]
        self._writes, self._places = self._state()

    def check(self) -> None:
        """Raise `DeconvvizValueError` that names what has changed since."""
        writes, places = self._state()
        if writes != self._writes or places != self._places:
            now, before = zip(writes, places, strict=True), zip(self._writes, self._places, strict=True)
            name = next(name for name, a, b in zip(self._names, now, before, strict=True) if a != b)
            raise _changed(f"'{name}' has been written to")
        if [id(value) for entries in self._dicts for value in entries.values()] != self._parts:
            raise _changed("a part, parameter or buffer is another")

    def _state(self) -> tuple[list[int], list[int]]:
        """How often each tensor has been written to, and where it lies."""
        return [t._version for t in self._tensors], [t.data_ptr() for t in self._tensors]


def _changed(what: str) -> DeconvvizValueError:
    return DeconvvizValueError(
        f"the model has changed since this recording was made ({what}); record the picture again"
    )
