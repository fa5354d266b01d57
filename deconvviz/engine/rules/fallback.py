"""Operators without a rule: their derivative, whole maps, and for linear ones the exact adjoint. Nothing is guessed."""

from __future__ import annotations

from deconvviz.engine.nested import leaves
from deconvviz.engine.recording import Op, Recording, Ref
from deconvviz.engine.rules.base import Rule, Walk, differentiable, gradient, refuse_method, registered_for
from deconvviz.engine.windows import Signal

# By their definitions: operators that are linear in these operands together, whatever the others are.
LINEAR: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("_fft_r2c", "_fft_c2c", "_fft_c2r", "_conj", "_conj_physical", "conj_physical", "resolve_conj", "real", "imag",
         "view_as_real", "view_as_complex", "cumsum", "tril", "triu", "trace", "diag_embed", "unfold_copy",
         "expand_copy", "permute_copy", "transpose_copy", "view_copy", "select_copy", "slice_copy", "squeeze_copy",
         "unsqueeze_copy", "t_copy", "diagonal_copy", "split_copy", "unbind_copy"),
        ("self",),
    ),
    "complex": ("real", "imag"),
    "scatter": ("self", "src"),
    "scatter_add": ("self", "src"),
    "index_add": ("self", "source"),
    "index_copy": ("self", "source"),
    "index_put": ("self", "values"),
    "masked_scatter": ("self", "source"),
    "slice_scatter": ("self", "src"),
    "select_scatter": ("self", "src"),
    "diagonal_scatter": ("self", "src"),
}  # fmt: skip
# Linear in each operand as long as the others are constant: these are the operands.
BILINEAR = {"mv": ("self", "vec"), "dot": ("self", "tensor"), "vdot": ("self", "other"), "outer": ("self", "vec2")}


def linear_in(rec: Recording, op: Op) -> set[int]:
    """The image-dependent values in which an operator without a rule is known to be linear, taken together."""
    if op.arg("reduce", None) is not None:
        return set()
    of: dict[int, set[str]] = {}
    for name, given in op.given.items():
        for a in leaves(given):
            if isinstance(a, Ref) and differentiable(rec.values[a.value]):
                of.setdefault(a.value, set()).add(name)
    linear = {value for value, names in of.items() if names <= {*LINEAR.get(op.base, ())}}
    if op.base in BILINEAR and len(of) == 1 and all(len(names) == 1 for names in of.values()):
        linear |= {*of}
    return linear


class Fallback(Rule):
    """What can be said of any operator, without knowing it.

    `gradient` is autograd's own answer; a linear operator's adjoint is the same in every method; occlusion runs the
    operator again on whole maps, picture by picture. Anything else is refused by name.
    """

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return op.inputs

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """The derivative, where that is also the adjoint of a linear operator or asked for."""
        value = op.inputs[i]
        if not differentiable(walk.rec.values[value]):
            return None
        if walk.method != "gradient" and value not in linear_in(walk.rec, op):
            refuse_method(walk, op, "has no rule (see deconvviz.rules.register)")
        return gradient(walk, op, i, s)


_FALLBACK = Fallback()


def rule_of(op: Op) -> Rule:
    """The rule of a recorded operator; without one what can be said of any (`Fallback`)."""
    return registered_for(op) or _FALLBACK
