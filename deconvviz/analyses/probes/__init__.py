"""A linear classifier on each layer (paper, Table 7)."""

from deconvviz.analyses.probes.compute import probe
from deconvviz.analyses.probes.result import Probes

__all__ = ["Probes", "probe"]
