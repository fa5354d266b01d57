"""One page about one picture: what the network thinks, what drives it, through which units, and how sure that is."""

from deconvviz.analyses.explanation.compute import explain
from deconvviz.analyses.explanation.result import Explanation, Stage

__all__ = ["Explanation", "Stage", "explain"]
