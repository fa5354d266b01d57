"""What a rule is, the table of rules, and the exact local derivative that any of them may fall back on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor

from deconvviz.engine.recording import Op, Recording, Ref, put, spoken
from deconvviz.engine.windows import Frame, Signal, from_whole
from deconvviz.errors import DeconvvizValueError, UnsupportedOperatorError

# Half-open interval of rows or columns. The formulas of the rules are plain integer arithmetic (`//` rounds down), so
# that an interval may also be a pair of integer arrays: the intervals of K windows at once.
Span = tuple[Any, Any]


@dataclass
class Walk:
    """One walk backwards through a recording under one policy; holds what was prepared for it.

    `output` says on which output of the present operator the signal has arrived.
    """

    rec: Recording
    method: str
    overlap: str
    output: int = 0
    prepared: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """Compute something once in this walk (flipped weights, a derivative map)."""
        if key not in self.prepared:
            self.prepared[key] = make()
        return self.prepared[key]

    def shape(self, value: int) -> tuple[int, ...]:
        """Shape of a recorded value."""
        return tuple(self.rec.values[value].shape)


class Rule:
    """All that is known of one operator.

    `role` is "linear", "norm", "activation" or "other". `needs` gives the input rows (or columns) that output rows
    read, unclipped, or None for all of them; `reaches` the output rows that input rows touch. `project` sends a signal
    on the output back to input number `i`, and returns None where no signal goes. `replay` runs the operator on
    windows, `whole` on several pictures at once. A rule without `reaches` goes by whole maps.
    """

    role = "other"
    # What stands around a map where a window reaches beyond its border.
    padding = 0.0

    def needs(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """Rows (axis 0) or columns (axis 1) of input `i` under output rows `span`, half-open."""
        raise NotImplementedError  # abstract: every rule says it

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Signal on input `i` for the signal `s` on the output."""
        raise NotImplementedError  # abstract: every rule says it

    def reaches(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """Output rows (axis 0) or columns (axis 1) that rows `span` of input `i` touch, unclipped; None for all."""
        return None

    def carries(self, rec: Recording, op: Op, i: int, outer: int, size: int) -> int | None:
        """Where input `i` holds the rows that the output holds, wherever they lie in values of any rank.

        `outer` is the number of times that the `size` rows are gone through in the flattened value: in a map (1, C, H,
        W) C times for rows, C · H times for columns; with channels last once, and H times. Returns that of the input,
        or None if an output row reads more than its own input row. `needs` comes first where maps are (1, C, H, W).
        """
        return None

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], frame: Frame) -> Any:
        """The operator on K windows: `windows` holds for each input value (by number) what the output windows of
        `frame` need of it, (K, C, h, w), padding filled in. Returns what the operator returns, on the windows.
        """
        raise NotImplementedError  # asked only of rules whose `reaches` and `needs` are not None

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """The operator on K pictures at once: `values` (by number) are (K, …) where (1, …) was recorded, and
        (K, *shape) where the recorded shape begins otherwise; so is what it returns.

        None if it does not treat every picture of a batch alike: then it is run one by one.
        """
        return None


class PointwiseNeeds(Rule):
    """A rule whose output at a place reads its inputs at that place only.

    `broadcast`: constants lie on the map as `torch.add` lays them; otherwise they hold a number for each map.
    """

    broadcast = True

    def needs(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """The same rows."""
        a, b = rec.values[op.inputs[i]].shape, rec.values[_first(op)].shape
        if len(a) != 4 or len(b) != 4 or a[2 + axis] != b[2 + axis]:
            return None
        return span

    def reaches(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """The same rows."""
        return self.needs(rec, op, i, span, axis)

    def carries(self, rec: Recording, op: Op, i: int, outer: int, size: int) -> int | None:
        """Where they are."""
        return outer if rec.values[op.inputs[i]].shape == rec.values[_first(op)].shape else None

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], frame: Frame) -> Any:
        """The operator itself, constants cut to the windows."""

        def back(a: Any) -> Any:
            if isinstance(a, Ref):
                return windows[a.value]
            return frame.cut(a) if self.broadcast and isinstance(a, Tensor) and a.dim() else a

        return op.func(*put(back, op.args), **{key: put(back, a) for key, a in op.kwargs.items()})

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """As recorded: a constant is broadcast over the pictures."""
        alone = len(op.inputs) == 1 and not any(isinstance(a, Tensor) for a in (*op.args, *op.kwargs.values()))
        if alone and len(op.outputs) == 1:
            args, kwargs = rec.fill(op, values)
            return op.func(*args, **kwargs)
        return as_recorded(rec, op, values)


class GlobalNeeds(Rule):
    """A rule whose output may read the whole input."""

    def needs(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """All rows."""
        return None


def _first(op: Op) -> int:
    value = op.outputs[0]
    assert value is not None
    return value


def as_recorded(rec: Recording, op: Op, values: dict[int, Tensor]) -> Any:
    """`Rule.whole` for operators whose arguments say nothing of the batch: dimension 0 in every input and output."""
    shapes = [rec.values[v].shape for v in (*op.inputs, _first(op))]
    ranks = {len(rec.values[v].shape) for v in op.inputs}
    if any(len(s) < 2 or s[0] != 1 for s in shapes) or len(ranks) > 1:
        return None
    args, kwargs = rec.fill(op, values)
    return op.func(*args, **kwargs)


def touched(span: Span, kernel: int, stride: int, padding: int, dilation: int) -> Span:
    """Places of a kernel whose window touches the rows `span`: between the first and the last that do."""
    first = -((dilation * (kernel - 1) - padding - span[0]) // stride)
    last = (span[1] - 1 + padding) // stride
    return first, last + 1


_RULES: dict[str, Rule] = {}


def register(*names: str) -> Callable[[type[Rule]], type[Rule]]:
    """Class decorator: use this rule for the operators of these names ("relu_", "convolution", …).

    Names are those of `torch.ops.aten` without the overload. A name that has a rule already is an error.
    """

    def add(cls: type[Rule]) -> type[Rule]:
        rule = cls()
        for name in names:
            if name in _RULES:
                raise DeconvvizValueError(f"operator '{name}' has a rule already: {type(_RULES[name]).__name__}")
            _RULES[name] = rule
        return cls

    return add


def registered() -> dict[str, Rule]:
    """Operator name → rule, a copy."""
    return dict(_RULES)


def rule_of(op: Op, missing_ok: bool = False) -> Rule:
    """The rule of a recorded operator; without one, an error that names operator and layer."""
    rule = _RULES.get(op.name)
    if rule is None:
        if missing_ok:
            return GlobalNeeds()
        attention = "scaled_dot_product" in op.name
        refuse(op, "is attention; it has no rule" if attention else "has no rule (see deconvviz.rules.register)")
    return rule


def refuse(op: Op, why: str) -> NoReturn:
    """Raise the error that names operator and layer."""
    raise UnsupportedOperatorError(f"operator '{op.name}' in {spoken(op.module)} {why}")


def local_gradient(walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
    """Exact derivative of one operator by autograd on its recorded inputs, for K signals one by one."""
    value = op.inputs[i]
    if not walk.rec.values[value].is_floating_point():
        return None  # a mask: no signal goes into it
    # Every place of this value in the arguments counts: x * x.
    with torch.enable_grad():
        x = walk.rec.values[value].detach().clone().requires_grad_(True)
        args, kwargs = walk.rec.fill(op, {value: x})
        # An in-place operator may not write into a leaf.
        args = tuple(a.clone() if a is x and op.name.endswith("_") else a for a in args)
        out = op.func(*args, **kwargs)
        out = out[walk.output] if isinstance(out, (tuple, list)) else out
    whole = s.whole()
    grads: list[Tensor] = []
    for k in range(len(s)):
        (g,) = torch.autograd.grad(out, x, whole[k], retain_graph=True)
        grads.append(g)
    return from_whole(torch.stack(grads), walk.shape(value))


def elementwise_derivative(walk: Walk, op: Op) -> Tensor:
    """f'(x) of a pointwise operator at its recorded input."""

    def make() -> Tensor:
        value = op.inputs[0]
        with torch.enable_grad():
            x = walk.rec.values[value].detach().clone().requires_grad_(True)
            args, kwargs = walk.rec.fill(op, {value: x})
            args = tuple(a.clone() if a is x and op.name.endswith("_") else a for a in args)
            out = op.func(*args, **kwargs)
            out = out[0] if isinstance(out, (tuple, list)) else out
            (g,) = torch.autograd.grad(out.sum(), x)
        return g

    result: Tensor = walk.once(("derivative", op.index), make)
    return result
