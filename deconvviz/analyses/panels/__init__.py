"""The strongest places of a scan's units, projected (paper, Fig. 2)."""

from deconvviz.analyses.panels.compute import PanelSource, panels, panels_page
from deconvviz.analyses.panels.result import Panels, PanelsPage

__all__ = ["PanelSource", "Panels", "PanelsPage", "panels", "panels_page"]
