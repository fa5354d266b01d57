"""Accuracy against pictures a category (paper, Fig. 9)."""

from deconvviz.analyses.accuracy.result import Accuracy

__all__ = ["Accuracy"]
