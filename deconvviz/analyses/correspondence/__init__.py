"""Do features change alike when the same part is covered? (paper, section 4.3)."""

from deconvviz.analyses.correspondence.compute import correspondence
from deconvviz.analyses.correspondence.result import Correspondence

__all__ = ["Correspondence", "correspondence"]
