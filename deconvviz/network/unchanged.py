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
        # Each of the module's dictionaries with what stands in it under which name.
        self._parts: list[tuple[dict[str, Any], tuple[tuple[str, Any], ...]]] = []
        self._tensors: list[tuple[str, Tensor, int, int]] = []
        for path, m in module.named_modules():
            for named in (m._modules, m._parameters, m._buffers):
                self._parts.append((named, tuple(named.items())))
            for name, t in (*m._parameters.items(), *m._buffers.items()):
                if t is not None:
                    self._tensors.append((f"{path}.{name}".lstrip("."), t, t.data_ptr(), _writes(t)))

    def check(self) -> None:
        """Raise `DeconvvizValueError` that names what has changed since the recording."""
        for name, t, place, writes in self._tensors:
            if t.data_ptr() != place or _writes(t) != writes:
                raise _changed(f"'{name}' has been written to")
        for named, before in self._parts:
            if len(named) != len(before) or any(named.get(name) is not value for name, value in before):
                raise _changed("a part, parameter or buffer is another")


def _writes(t: Tensor) -> int:
    """How often a tensor has been written to; those of inference mode do not count."""
    return 0 if t.is_inference() else t._version


def _changed(what: str) -> DeconvvizValueError:
    return DeconvvizValueError(
        f"the model has changed since this recording was made ({what}); record the picture again"
    )
