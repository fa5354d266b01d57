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
        # The module's dictionaries, what stands in each under which names, and how often its tensors were written to.
        self._parts: list[tuple[dict[str, Any], list[str], list[Any], list[int]]] = []
        self._tensors: list[tuple[str, Tensor, int, int]] = []
        for path, m in module.named_modules():
            for named in (m._modules, m._parameters, m._buffers):
                values = list(named.values())
                self._parts.append((named, list(named), values, [*map(id, values)]))
            for name, t in (*m._parameters.items(), *m._buffers.items()):
                if t is not None and not t.is_inference():  # those of inference mode keep no count
                    self._tensors.append((f"{path}.{name}".lstrip("."), t, t.data_ptr(), t._version))

    def check(self) -> None:
        """Raise `DeconvvizValueError` that names what has changed since."""
        for name, t, place, writes in self._tensors:
            if t._version != writes or t.data_ptr() != place:
                raise _changed(f"'{name}' has been written to")
        for named, names, _, own in self._parts:
            if [*map(id, named.values())] != own or [*named] != names:
                raise _changed("a part, parameter or buffer is another")


def _changed(what: str) -> DeconvvizValueError:
    return DeconvvizValueError(
        f"the model has changed since this recording was made ({what}); record the picture again"
    )
