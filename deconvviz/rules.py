"""One rule per operator: what users need to add one of their own.

See `register`; the rules themselves lie in `deconvviz.engine.rules`.
"""

from deconvviz.engine.rules import Rule, Walk, register, registered, rule_of

__all__ = ["Rule", "Walk", "register", "registered", "rule_of"]
