"""The DeconvNet: units of a layer sent back to pixels (paper, section 2.1)."""

from deconvviz.analyses.projection.compute import project
from deconvviz.analyses.projection.result import Projection

__all__ = ["Projection", "project"]
