"""One rule per operator: what users need to add one of their own.

See `register`; the rules themselves lie in `deconvviz.engine.rules`. `PointwiseNeeds`, `GlobalNeeds` and `Activation`
are bases that bring the windows of an operator of their kind.
"""

from deconvviz.engine.rules import Rule, Walk, register, registered, rule_of
from deconvviz.engine.rules.base import GlobalNeeds, PointwiseNeeds
from deconvviz.engine.rules.pointwise import Activation

__all__ = ["Activation", "GlobalNeeds", "PointwiseNeeds", "Rule", "Walk", "register", "registered", "rule_of"]
