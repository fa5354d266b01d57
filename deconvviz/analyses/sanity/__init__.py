"""Whether a projection can be believed: what it owes to the weights, to the picture, to the unit, to the switches."""

from deconvviz.analyses.sanity.compute import sanity
from deconvviz.analyses.sanity.result import Sanity

__all__ = ["Sanity", "sanity"]
