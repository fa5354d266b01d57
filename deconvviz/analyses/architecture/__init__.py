"""The layers of a network (paper, Fig. 3)."""

from deconvviz.analyses.architecture.result import Architecture, Block

__all__ = ["Architecture", "Block"]
