"""One rule per operator; `register` adds a user's own.

What the methods of a rule do and return is said once, at `Rule`.
"""

from deconvviz.engine.rules.base import Pointwise, Rule, Walk, Windowed, register, registered
from deconvviz.engine.rules.fallback import rule_of
from deconvviz.engine.rules.kernels import FilterBank, Kernel

__all__ = ["FilterBank", "Kernel", "Pointwise", "Rule", "Walk", "Windowed", "register", "registered", "rule_of"]

from deconvviz.engine.rules import combine, linear, norm, pointwise, pool, select, shape  # noqa: F401 (they register themselves)
