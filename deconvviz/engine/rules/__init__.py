"""One rule per operator; `register` adds a user's own."""

from deconvviz.engine.rules.base import Rule, Walk, register, registered, rule_of

__all__ = ["Rule", "Walk", "register", "registered", "rule_of"]

from deconvviz.engine.rules import combine, linear, norm, pointwise, pool, select, shape  # noqa: F401 (they register themselves)
