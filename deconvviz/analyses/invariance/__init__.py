"""Features as a picture is moved, scaled, turned (paper, Fig. 5)."""

from deconvviz.analyses.invariance.compute import invariance
from deconvviz.analyses.invariance.result import Invariance

__all__ = ["Invariance", "invariance"]
