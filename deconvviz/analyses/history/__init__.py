"""Who won the ILSVRC."""

from deconvviz.analyses.history.compute import history
from deconvviz.analyses.history.result import Entry, History

__all__ = ["Entry", "History", "history"]
