"""The layers of a network (paper, Fig. 3)."""

from deconvviz.analyses.architecture.compute import architecture
from deconvviz.analyses.architecture.result import Architecture

__all__ = ["Architecture", "architecture"]
