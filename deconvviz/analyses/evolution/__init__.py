"""What units respond to as training goes on (paper, Fig. 4)."""

from deconvviz.analyses.evolution.compute import evolve
from deconvviz.analyses.evolution.result import Evolution

__all__ = ["Evolution", "evolve"]
