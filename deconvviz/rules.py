"""Rules of one's own: what to write for an operator that has none.

A rule is a class with one instance, registered for operators by their names. `Rule` says all that may be told of one,
and what happens if it is not; `project`, how a signal goes back, is all that must be. Most rules begin from a class
that knows more:

- `Pointwise`: an output reads its inputs at its own place (sums, scales); windows, receptive fields and occlusion work;
- `Activation`: a `Pointwise` that rectifies the signal, and needs no line of its own;
- `Windowed`: an output reads its input under a sliding `Kernel` (pools, convolutions).

Example: an operator that doubles its input.

>>> import deconvviz, torch
>>> from deconvviz.rules import Pointwise, register
>>> @torch.library.custom_op("my::double", mutates_args=())
... def double(x: torch.Tensor) -> torch.Tensor:
...     return 2 * x
>>> @register("my.double")
... class Doubling(Pointwise):
...     role = "linear"
...
...     def project(self, walk, op, i, s):
...         return s.like(2 * s.data)

It is used wherever the operator runs. Its strongest place here has the value 6, and the signal 6 goes back through it:

>>> class Layer(torch.nn.Module):
...     def forward(self, x):
...         return double(x)
>>> image = torch.tensor([[[[-1.0, 3.0]]]])
>>> deconvviz.project(torch.nn.Sequential(Layer()), image, "0", units=[0]).pixels
tensor([[[[ 0., 12.]]]])

Arguments are read by name, `op.arg("stride")`; `walk.rec.values` holds the recorded tensors, by number. `share` gives
an operand that was broadcast its part of the signal, `s.windows.cut` the part of a map under a signal's windows;
`from_whole` makes a signal over a whole value; `gradient` is the exact derivative by autograd, `derivative` that of
pointwise operators; `refuse` raises the error that names operator and layer.
"""

from deconvviz.engine.recording import Op, Recording, Ref
from deconvviz.engine.rules import FilterBank, Kernel, Pointwise, Rule, Walk, Windowed, register, registered, rule_of
from deconvviz.engine.rules.base import derivative, gradient, refuse, share
from deconvviz.engine.rules.pointwise import Activation
from deconvviz.engine.windows import Signal, Windows, from_whole

__all__ = [
    "Activation", "FilterBank", "Kernel", "Op", "Pointwise", "Recording", "Ref", "Rule", "Signal", "Walk",
    "Windowed", "Windows", "derivative", "from_whole", "gradient", "refuse", "register", "registered", "rule_of",
    "share",
]  # fmt: skip
