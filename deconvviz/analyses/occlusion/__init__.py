"""Occlusion sensitivity (paper, section 4.2, Fig. 7)."""

from deconvviz.analyses.occlusion.compute import occlude
from deconvviz.analyses.occlusion.result import Occlusion

__all__ = ["Occlusion", "occlude"]
