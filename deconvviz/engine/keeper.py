"""What a recording keeps if it is made for one walk backwards: what the rules of that walk read, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from deconvviz.engine.compact import outline
from deconvviz.engine.recording import Op
from deconvviz.engine.rules import Walk, rule_of


class Keeper:
    """Asks, operator by operator, what of the values around it the `walk` will read.

    A value is an outline in the recording but while an operator that reads or makes it is asked for, and from then on
    if that says so.
    """

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        walk.rec.kept_for = walk.policy
        self.kept: set[int] = {0}  # to the end
        self.shown: set[int] = {0}  # at present
        self.read: dict[int, int] = {}  # how often a value is read by operators that go number by number

    def before(self, op: Op, given: Sequence[Tensor]) -> None:
        """An operator is about to run on the tensors `given`, its inputs: what is written in place is still there."""
        self.fork(op)
        wanted = {*rule_of(op).keeps(self.walk, op)}
        for value, tensor in zip(op.inputs, given, strict=True):
            if value in wanted | self.kept:
                self.show(value, tensor)

    def after(self, op: Op, outs: Sequence[object], all_of_it: bool) -> None:
        """It has run; `all_of_it`: what came out is kept."""
        rule = rule_of(op)
        made = [(value, o) for value, o in zip(op.outputs, outs, strict=False) if value is not None]
        for value, tensor in made:
            if isinstance(tensor, Tensor):
                self.show(value, tensor)
        with _autograd():
            condensed = rule.condense(self.walk, op)
        if not condensed:
            self.kept.update(rule.keeps(self.walk, op))
        if all_of_it:
            self.kept.update(value for value, _ in made)
        values = self.walk.rec.values
        for value in self.shown - self.kept:
            values[value] = outline(values[value])
        self.shown &= self.kept

    def show(self, value: int, tensor: Tensor) -> None:
        """Put a tensor for its outline."""
        if value not in self.shown:
            self.walk.rec.values[value] = tensor
            self.shown.add(value)

    def fork(self, op: Op) -> None:
        """Keep what may be the beginning of an activation spelt in several operators: `guided` reads it.

        From there at least two ways lead to the product that is one, both number by number.
        """
        if self.walk.method != "guided" or not (rule_of(op).elementwise or op.base in ("where", "masked_fill")):
            return
        for value in op.inputs:
            self.read[value] = self.read.get(value, 0) + 1
            if self.read[value] > 1:
                self.kept.add(value)


@contextlib.contextmanager
def _autograd() -> Iterator[None]:
    """Autograd works inside, also while an operator is dispatched: there it has been left behind."""
    guard, key = torch._C._SetExcludeDispatchKeyGuard, torch._C.DispatchKey
    with guard(key.AutogradFunctionality, False), guard(key.ADInplaceOrView, False):
        yield
