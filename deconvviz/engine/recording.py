"""What one forward pass comes to: operators, values, module calls. How it is recorded is known in `recorder.py`.

Values are numbered as in static single assignment, so an in-place operator makes a new value.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from deconvviz.engine.nested import mapped
from deconvviz.errors import UnsupportedOperatorError

# How values of the image leave the recording unseen.
UNSEEN = "it was computed in another thread, or from values that went through Python or numpy"


@dataclass(frozen=True)
class Ref:
    """Stands in recorded arguments for the value with this number."""

    value: int


@functools.cache
def _parameters(func: Any) -> dict[str, Any]:
    """What an operator (or a plain function) takes: names in order, each with its default; None where it has none."""
    schema = getattr(func, "_schema", None)
    if schema is None:
        known = inspect.signature(func).parameters
        return {name: None if p.default is p.empty else p.default for name, p in known.items()}
    return {a.name: a.default_value if a.has_default_value() else None for a in schema.arguments}


@dataclass
class Op:
    """One operator that ran: its arguments hold a `Ref` where an image-dependent tensor stood.

    `inputs` are the numbers of those tensors, in the order of the arguments, `outputs` those of its results (None for
    what is no tensor). `position` is its place among all operators of the pass (`Recording.dispatched`), those without
    the image included.
    """

    index: int
    name: str
    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int | None, ...]
    module: str
    position: int

    @functools.cached_property
    def given(self) -> dict[str, Any]:
        """The arguments by the names of the operator's schema, without those left to their defaults."""
        return dict(zip(_parameters(self.func), self.args, strict=False)) | self.kwargs

    def arg(self, name: str, absent: Any = ...) -> Any:
        """The argument of this name, or its default: `op.arg("stride")`.

        `absent` is for a name that this overload does not have ("dim" of a mean over everything); else a KeyError.
        """
        if name in self.given:
            return self.given[name]
        known = _parameters(self.func)
        return known[name] if absent is ... else known.get(name, absent)

    def operand(self, i: int) -> str:
        """Name of the argument that input `i` is: "self" or "other" of a sum. Inputs in lists have none."""
        return [name for name, a in self.given.items() if isinstance(a, Ref)][i]

    def with_args(self, **changed: Any) -> Op:
        """The same operator with other arguments: `op.with_args(weight=w)`."""
        given = {**self.given, **changed}
        args = tuple(given.pop(name) for name in [*self.given][: len(self.args)])
        return replace(self, args=args, kwargs=given)

    def output(self, n: int = 0) -> int:
        """Number of the value that is its `n`-th result."""
        value = self.outputs[n]
        assert value is not None
        return value

    @property
    def in_place(self) -> bool:
        """Whether it writes to its first argument, as `relu_` does."""
        return self.name.endswith("_")

    @property
    def base(self) -> str:
        """Its name, that of an in-place operator without the underscore: "relu" for `relu_`."""
        return self.name.rstrip("_")

    def run(self, change: Callable[[Any], Any]) -> Any:
        """The operator again, with `change` of every argument (also inside lists) in its place."""
        return self.func(*mapped(change, self.args), **{key: mapped(change, a) for key, a in self.kwargs.items()})


@dataclass
class Recording:
    """The operators, values and module calls of one forward pass; value 0 is the image (1, C, H, W).

    `outputs` are the values that came out, by name: "" for a single tensor, the keys of a dictionary, the numbers in a
    tuple, with dots between ("0.scores"); `returned` says it in words. `dispatched` are the names of all operators in
    order, also of those that do not depend on the image. `beyond` says why autograd may know this pass otherwise than
    by its operators (a `detach`, a custom `Function`), if it does. `refused` is the error for an operator that ended
    the recording before the pass was over, if one did; `sized` is the one for running it on other pictures, where the
    size of a value depends on the picture.

    A recording keeps the numbers of all values, or what one walk backwards reads: `kept_for` says of which policy
    (method, overlap, attention), None is all. Other values are outlines then, of their shape, strides and type on the
    meta device, and `condensed` is what rules have made of them for that walk (`Rule.condense`).
    """

    ops: list[Op] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    producer: dict[int, Op] = field(default_factory=dict)
    calls: dict[str, list[int | None]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    returned: str = "nothing yet"
    complete: bool = True
    dispatched: list[str] = field(default_factory=list)
    beyond: str | None = None
    refused: UnsupportedOperatorError | None = None
    sized: UnsupportedOperatorError | None = None
    kept_for: tuple[str, str, str] | None = None
    condensed: dict[Any, Any] = field(default_factory=dict)

    @property
    def output(self) -> int | None:
        """The value that came out, if it is one."""
        values = set(self.outputs.values())
        return values.pop() if len(values) == 1 else None

    def consumers(self, value: int) -> list[Op]:
        """Operators that read `value`."""
        return [op for op in self.ops if value in op.inputs]

    def ancestors(self, values: Collection[int]) -> list[Op]:
        """The operators that lead to `values`, in the order they ran."""
        wanted = set(values)
        found: list[Op] = []
        for op in reversed(self.ops):
            if any(o in wanted for o in op.outputs if o is not None):
                found.append(op)
                wanted.update(op.inputs)
        return found[::-1]

    def fill(self, op: Op, swap: Mapping[int, Tensor] | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of `op` with the recorded tensors (or those of `swap`, by value number) put back."""

        def back(a: Any) -> Any:
            if isinstance(a, Ref):
                return swap[a.value] if swap is not None and a.value in swap else self.values[a.value]
            return a

        return mapped(back, op.args), {key: mapped(back, a) for key, a in op.kwargs.items()}

    def run(self, op: Op, swap: Mapping[int, Tensor]) -> Any:
        """`op` again, with the tensors of `swap` (by value number) in place of the recorded ones."""
        args, kwargs = self.fill(op, swap)
        return op.func(*args, **kwargs)


class OnCopy:
    """An operator that writes to its arguments, run on copies of those named: what it is given stays as it is."""

    def __init__(self, func: Any, written: tuple[str, ...]) -> None:
        self.func, self.written, self._schema = func, written, func._schema

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        names = list(_parameters(self.func))
        copied = [a.clone() if name in self.written else a for name, a in zip(names, args, strict=False)]
        kept = {name: a.clone() if name in self.written else a for name, a in kwargs.items()}
        return self.func(*copied, **kept)


def write_over(into: Tensor, part: Tensor, to: Tensor, source: Tensor) -> Tensor:
    """`into` with its places `to` (n,) replaced by the places `source` (n,) of `part`; places count in raster order."""
    flat = into.reshape(-1).clone()
    flat[to] = part.reshape(-1)[source]
    return flat.view(into.shape)


def spoken(path: str) -> str:
    """A module path as messages say it; "" is the model."""
    return f"layer '{path}'" if path else "the model itself"


def op_name(func: Any) -> str:
    """Short operator name: `aten.relu_.default` → `relu_`."""
    name = str(func)
    return name.split(".")[1] if name.startswith("aten.") else name.split(".default")[0]
