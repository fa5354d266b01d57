"""The strongest places of a scan's units, projected (paper, Fig. 2)."""

from deconvviz.analyses.panels.compute import panels
from deconvviz.analyses.panels.result import Panels

__all__ = ["Panels", "panels"]
