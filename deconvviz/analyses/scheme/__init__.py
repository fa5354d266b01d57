"""A deconvnet beside its convnet (paper, Fig. 1)."""

from deconvviz.analyses.scheme.compute import scheme
from deconvviz.analyses.scheme.result import Scheme

__all__ = ["Scheme", "scheme"]
