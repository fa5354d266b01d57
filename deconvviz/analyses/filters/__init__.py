"""The first filters and what is wrong with them (paper, Fig. 6)."""

from deconvviz.analyses.filters.compute import filters
from deconvviz.analyses.filters.result import Filters

__all__ = ["Filters", "filters"]
