"""Who won the ILSVRC."""

from deconvviz.analyses.history.compute import history
from deconvviz.analyses.history.result import History

__all__ = ["History", "history"]
