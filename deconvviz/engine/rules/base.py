"""What a rule is, the table of rules, and the exact local derivative that any of them may fall back on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor

from deconvviz.engine.compact import parts
from deconvviz.engine.nested import leaves
from deconvviz.engine.recording import Op, Recording, Ref, spoken
from deconvviz.engine.rules.kernels import FilterBank, Kernel, Span
from deconvviz.engine.windows import Signal, Windows, from_whole
from deconvviz.errors import DeconvvizValueError, UnsupportedOperatorError

# Method, overlap and what is done with attention, as in `Walk`.
Policy = tuple[str, str, str]


@dataclass
class Walk:
    """One walk backwards through the recording `rec` under one policy: `method` and `overlap`, as in `project`.

    `attention` is "constant" where attention weights are recorded constants, "refused" where they are an error (for
    `gradient` it means nothing). `output` says on which result of the present operator the signal has arrived;
    `prepared` is `once`'s memory, besides what the recording has `condensed` for this policy.
    """

    rec: Recording
    method: str
    overlap: str
    attention: str = "refused"
    output: int = 0
    prepared: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rec.kept_for not in (None, self.policy):
            raise DeconvvizValueError(f"the recording keeps what {self.rec.kept_for} reads, not {self.policy}")

    @property
    def policy(self) -> Policy:
        """What decides which recorded values it reads."""
        return self.method, self.overlap, self.attention

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """Compute something once in this walk (flipped weights, a derivative map)."""
        if key in self.rec.condensed:
            return self.rec.condensed[key]
        if key not in self.prepared:
            self.prepared[key] = make()
        return self.prepared[key]

    def shape(self, value: int) -> tuple[int, ...]:
        """Shape of a recorded value."""
        return tuple(self.rec.values[value].shape)


class Rule:
    """All that is known of one operator: how a signal goes back through it, what its windows read, how it runs again.

    Only `project` must be written. A rule that says nothing else reads its whole input for every output (so the
    receptive field is the whole picture), and is run again on whole maps, one picture at a time: slow, but never wrong.
    Most rules begin from a class that knows more: `Pointwise`, `Activation` or `Windowed`.

    There is one instance for all operators of its names; each method is given the recorded operator `op`, whose
    arguments are read by name (`op.arg("stride")`), and mostly the recording `rec`, which holds the tensors
    (`rec.values[op.inputs[i]]`). `deconvviz.rules` shows a complete rule.
    """

    # "weights" (a convolution or matrix product), "norm", "activation", "linear" or "other".
    role = "other"
    # What stands around a map where a window reaches beyond its border (0 or -inf).
    padding = 0.0
    # Whether constant tensors among the arguments lie on the map as `torch.add` lays them, and are cut to windows.
    broadcast = False
    # Whether the output, used as a factor, is a gate: a constant, into which no signal goes (sigmoid, softmax).
    gate = False
    # Whether it only moves numbers about, changing none: a gate that has been moved is still a gate.
    moves = False
    # Whether it keeps switches: which of its inputs its output came from, chosen by the picture.
    switches = False
    # Whether what it makes of gates alone (and constants) is a gate: their sums and products, a gate resized.
    keeps_gates = False
    # Whether every number of the output depends on the one number at its place: `x * f(x)` of such is an activation.
    elementwise = False

    # Backwards ---------------------------------------------------------------------------------------------------

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """The signal on input number `i` for the signal `s` on the output; None where no signal goes."""
        raise NotImplementedError  # abstract: every rule says it

    def takes(self, walk: Walk, op: Op) -> tuple[int, ...]:
        """The values that signals go to, the `i` of `project`: the inputs, or those that they are all computed from."""
        return op.inputs

    # What is kept of a recording for a walk ----------------------------------------------------------------------

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        """The values, of the inputs and outputs, whose numbers `project` reads; it may ask for the shape of any.

        Asked before the operator runs, when it has no outputs yet, and again behind it. Where the inputs are written in
        place, those named the first time are copied. A class that has a `project` of its own says this with it, or
        reads all.
        """
        return (*op.inputs, *(v for v in op.outputs if v is not None))

    def condense(self, walk: Walk, op: Op) -> bool:
        """Make, while what `keeps` names is there, all that `project` needs of it, into `walk.rec.condensed`.

        False if it cannot; the values are kept then.
        """
        return False

    def __init_subclass__(cls) -> None:
        if "project" in cls.__dict__:
            for name in {"keeps", "condense"} - cls.__dict__.keys():
                setattr(cls, name, getattr(Rule, name))

    # As geometry -------------------------------------------------------------------------------------------------

    def aligned(self, rec: Recording, op: Op, i: int, axis: int) -> bool:
        """Whether an output row (axis 0) or column (axis 1) of a map (1, C, H, W) reads that of input `i` alone."""
        return False

    def needs(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """Rows (axis 0) or columns (axis 1) of input `i` that the output's `span` reads; None for all of them.

        Intervals are half-open and unclipped. A 3×3 convolution with stride 2 and padding 1 reads (-1, 4) for (0, 2).
        """
        return span if self.aligned(rec, op, i, axis) else None

    def reaches(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """Rows (axis 0) or columns (axis 1) of the output that change if `span` of input `i` does; None for all.

        Where this is not None, `needs` is not either, and `replay` is asked to run on windows.
        """
        return span if self.aligned(rec, op, i, axis) else None

    def row_dimension(self, rec: Recording, op: Op, i: int, outer: int, size: int) -> int | None:
        """Where input `i` has the dimension of rows (or columns) in values that are no maps (1, C, H, W).

        That dimension, of `size` rows, is given by the product `outer` of the dimensions in front of it, which says the
        same whether or not others have been flattened together. Example: a map (1, 64, 14, 14) becomes tokens
        (1, 196, 64) by `flatten(2).transpose(1, 2)`; their rows have `outer` 1, and `transpose` answers 64, as rows of
        (1, 64, 196) lie behind 64 maps. None if an output row reads more than the same row of the input.

        Asked where `needs` says nothing.
        """
        return None

    # Forwards again ----------------------------------------------------------------------------------------------

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], at: Windows) -> Any:
        """What the operator returns on K windows of its output, which lie `at`: (K, C, h, w).

        `windows` holds, for each input value (by number), what those need of it: (K, C, h', w'), padding filled in.
        """

        def filled(a: Any) -> Any:
            if isinstance(a, Ref):
                return windows[a.value]
            return at.cut(a) if self.broadcast and isinstance(a, Tensor) and a.dim() else a

        return op.run(filled)

    def alike(self, rec: Recording, op: Op) -> bool:
        """Whether it treats every picture of a batch alike, and runs on K as it was recorded with one."""
        return False

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """What the operator returns on K pictures at once; None: they must be run one by one.

        `values` (by number) are (K, …) where (1, …) was recorded, and (K, *shape) where the recorded shape begins
        otherwise; so is what it returns.
        """
        shapes = [rec.values[v].shape for v in (*op.inputs, op.output())]
        ranks = {len(rec.values[v].shape) for v in op.inputs}
        if not self.alike(rec, op) or any(len(s) < 2 or s[0] != 1 for s in shapes) or len(ranks) > 1:
            return None
        return rec.run(op, values)

    def follows(self, op: Op) -> bool:
        """Whether it can run behind another operator, on whatever windows come out of that: `follow` does so."""
        single = self.role == "activation" and len(op.inputs) == len(op.outputs) == 1
        return single and not any(isinstance(a, Tensor | list | tuple) for a in op.given.values())

    def follow(self, op: Op, data: Tensor, own: bool) -> Tensor:
        """The operator on `data` (K, C, h, w), in place only if that is no one else's (`own`)."""
        data = data.clone() if op.in_place and not own else data
        result: Tensor = op.run(lambda a: data if isinstance(a, Ref) else a)
        return result

    # Its arithmetic ----------------------------------------------------------------------------------------------

    def work(self, op: Op, channels: int) -> float:
        """Multiplications and additions for one place of its `channels` output maps; 0 for what costs next to none."""
        filters, matrix = self.filters(op), self.matrix(op)
        if filters is not None:
            return 2.0 * channels * filters.weight[0].numel()
        return 0.0 if matrix is None else 2.0 * matrix.numel()

    def filters(self, op: Op) -> FilterBank | None:
        """The filters of a convolution of maps; None for any other operator."""
        return None

    def with_filters(self, op: Op, filters: FilterBank) -> Op:
        """The same convolution with other weights and bias."""
        raise NotImplementedError  # asked only where `filters` says something

    def matrix(self, op: Op) -> Tensor | None:
        """The constant matrix (n, m) from n inputs to m outputs of a fully connected layer; None for anything else."""
        return None

    def affine(self, op: Op) -> tuple[Tensor, Tensor] | None:
        """Scale and shift (C,) of a norm with constant statistics, which filters before it may take in; else None."""
        return None

    def adds(self, op: Op) -> bool:
        """Whether it is the plain sum of its two operands."""
        return False

    def misfit(self, op: Op) -> str | None:
        """Why the shapes of the arguments do not fit, to follow "layer 'x' "; None if that cannot be said.

        `op` has failed while recording: its arguments are the tensors themselves.
        """
        return None


class Pointwise(Rule):
    """A rule whose output at a place reads its inputs at that place only (but of any map).

    In a subclass, `broadcast = False` says that constants hold a number for each map; as they are, constants lie on the
    map as `torch.add` lays them.
    """

    broadcast = True

    def aligned(self, rec: Recording, op: Op, i: int, axis: int) -> bool:
        """Maps of the same height or width."""
        a, b = rec.values[op.inputs[i]].shape, rec.values[op.output()].shape
        return self.alike(rec, op) and len(a) == len(b) == 4 and a[2 + axis] == b[2 + axis]

    def row_dimension(self, rec: Recording, op: Op, i: int, outer: int, size: int) -> int | None:
        """The same."""
        same = self.alike(rec, op) and rec.values[op.inputs[i]].shape == rec.values[op.output()].shape
        return outer if same else None

    def alike(self, rec: Recording, op: Op) -> bool:
        """A constant is broadcast over the pictures; False (statistics of the picture) stops all but `project`."""
        return True

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """As recorded; without other tensors whatever the shape."""
        alone = len(op.inputs) == len(op.outputs) == 1 and not any(isinstance(a, Tensor) for a in op.given.values())
        return rec.run(op, values) if alone else super().whole(rec, op, values, k)


class Windowed(Rule):
    """A rule whose output reads its input under a kernel that slides over the map: convolutions and pools."""

    def kernel(self, op: Op) -> Kernel:
        """Size, stride, padding and dilation."""
        raise NotImplementedError  # abstract: every such rule says it

    def needs(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """Rows under the kernel."""
        return self.kernel(op).needs(span, axis)

    def reaches(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """Rows whose kernel touches the given ones."""
        return self.kernel(op).reaches(span, axis)

    def alike(self, rec: Recording, op: Op) -> bool:
        """Always."""
        return True

    def misfit(self, op: Op) -> str | None:
        """The kernel does not fit on the map."""
        return too_small(op)


def too_small(op: Op) -> str:
    """That the map is too small, as `Rule.misfit` says it."""
    given = next(a for a in op.given.values() if isinstance(a, Tensor))
    return f"({op.name}) got a map of {'×'.join(str(n) for n in given.shape[2:])}, which is too small"


_RULES: dict[str, Rule] = {}


def register(*names: str) -> Callable[[type[Rule]], type[Rule]]:
    """Class decorator: use this rule for the operators of these names ("relu_", "convolution", …).

    Names are those of `torch.ops.aten` without the overload; those of other libraries carry theirs ("my.double"). A
    name that has a rule already is an error.
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


def registered_for(op: Op) -> Rule | None:
    """The rule registered for a recorded operator, if there is one."""
    return _RULES.get(op.name)


def refuse(op: Op, why: str) -> NoReturn:
    """Raise the error that names operator and layer."""
    raise UnsupportedOperatorError(f"operator '{op.name}' in {spoken(op.module)} {why}")


def refuse_method(walk: Walk, op: Op, why: str) -> NoReturn:
    """Raise the error for an operator that only `gradient` and occlusion can take, and say that they can."""
    refuse(op, f"{why}: no rule for method '{walk.method}' (method 'gradient' and occlude work)")


def axes(op: Op, rank: int) -> list[int]:
    """Dimensions that an operator goes over (its `dim`), ascending: all of them, if it names none."""
    given = op.arg("dim", None)
    given = [given] if isinstance(given, int) else given or []
    return sorted(d % rank for d in given) or list(range(rank))


def share(s: Signal, factor: Any, shape: tuple[int, ...]) -> Signal:
    """An operand's share of a signal: times `factor`, summed over the axes along which the operand was broadcast.

    `factor` is a number or a tensor that broadcasts over the signal's value, `shape` that of the operand.
    """
    if isinstance(factor, Tensor) and s.windows is not None:
        factor = s.windows.cut(factor)
    s = s.like(s.data * factor)
    if s.shape == shape:
        return s
    whole, extra = s.whole(), len(s.shape) - len(shape)
    over = [*range(1, 1 + extra)]
    over += [1 + extra + a for a, n in enumerate(shape) if n == 1 != s.shape[extra + a]]
    return from_whole(whole.sum(over).view(len(s), *shape) if over else whole)


# Derivatives by autograd ------------------------------------------------------------------------------------------


def laid_out(x: Tensor, like: Tensor) -> Tensor:
    """A copy of `x` with the strides of `like`, where they leave no gaps: some operators look at them."""
    copy = torch.empty_like(like, dtype=x.dtype, device=x.device, requires_grad=False)
    return copy.copy_(x.reshape(like.shape))


def differentiable(value: Tensor) -> bool:
    """Whether signals go into a value: real and complex numbers, not masks or places."""
    return value.is_floating_point() or value.is_complex()


def _rerun(rec: Recording, ops: Sequence[Op], source: int, given: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
    """The numbers `given` of the value `source` as a leaf of autograd's graph, and what the last of `ops` makes."""
    x = laid_out(given.detach(), given).requires_grad_(True)
    values: dict[Any, Any] = {source: x}
    outs: tuple[Any, ...] = ()
    for op in ops:
        args, kwargs = rec.fill(op, values)
        if op.in_place:  # neither a leaf nor a recorded value may be written to
            args = tuple(a.clone() if isinstance(a, Tensor) else a for a in args)
        out = op.func(*args, **kwargs)
        outs = tuple(out) if isinstance(out, tuple | list) else (out,)
        values.update(zip(op.outputs, outs, strict=False))
    return x, outs


def gradient(walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
    """Exact derivative of one operator by autograd on its recorded inputs, for K signals one by one.

    Every place of the input's value in the arguments counts (x * x), all of them with the first. None where autograd
    knows no way from the input to the output.
    """
    value = op.inputs[i]
    if i != op.inputs.index(value) or not differentiable(walk.rec.values[value]):
        return None
    try:
        with torch.enable_grad():
            x, outs = _rerun(walk.rec, [op], value, walk.rec.values[value])
            out = outs[walk.output]
            if not out.requires_grad:
                return None
            parts = [
                torch.autograd.grad(out, x, each.contiguous(), retain_graph=True, allow_unused=True)[0]
                for each in s.whole()
            ]
    except (NotImplementedError, RuntimeError) as error:
        if "not implemented" not in str(error):
            raise
        refuse(op, "cannot be differentiated by autograd (occlude works)")
    # Autograd says nothing, for all signals alike, where no way leads from this input to that output.
    return None if parts[0] is None else from_whole(torch.stack(parts))


def derivative(walk: Walk, ops: Sequence[Op], source: int) -> Tensor:
    """f'(x) at every place of the recorded value `source`, for pointwise operators run one after the other."""
    x = walk.rec.values[source]
    result: Tensor = walk.once(("derivative", ops[-1].index), lambda: slope(walk.rec, ops, source, x))
    return result


def slope(rec: Recording, ops: Sequence[Op], source: int, x: Tensor) -> Tensor:
    """The same at the numbers `x`, all or some of those of `source`."""
    with torch.enable_grad():
        x, outs = _rerun(rec, ops, source, x)
        (g,) = torch.autograd.grad(outs[0].sum(), x)
    return g


def alone(op: Op) -> bool:
    """Whether one value is all that an operator is given of tensors: a pointwise one can be run on parts of it."""
    return len(op.inputs) == 1 and not any(isinstance(a, Tensor) for a in leaves(op.given))


def condense_slope(walk: Walk, op: Op) -> bool:
    """Make the derivative of a pointwise operator, for `derivative`, part by part."""
    if not alone(op):
        return False
    value = walk.rec.values[op.inputs[0]]
    made = torch.empty_like(value)
    for part, into in zip(parts(value), parts(made), strict=True):
        into.copy_(slope(walk.rec, [op], op.inputs[0], part))
    walk.rec.condensed["derivative", op.index] = made
    return True
