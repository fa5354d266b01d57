"""Learning curves of a run."""

from deconvviz.analyses.curves.compute import learning_curves
from deconvviz.analyses.curves.result import LearningCurves

__all__ = ["LearningCurves", "learning_curves"]
