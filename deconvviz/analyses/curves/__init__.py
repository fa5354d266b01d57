"""Learning curves of a run."""

from deconvviz.analyses.curves.result import LearningCurves

__all__ = ["LearningCurves"]
