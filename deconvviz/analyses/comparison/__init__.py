"""Which method says where a network looks, and can be believed: maps side by side, curves, numbers."""

from deconvviz.analyses.comparison.compute import compare
from deconvviz.analyses.comparison.result import Comparison, Comparisons

__all__ = ["Comparison", "Comparisons", "compare"]
