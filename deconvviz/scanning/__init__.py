"""Scanning a data set: the strongest places and the statistics of every unit of some layers."""

from deconvviz.scanning.run import scan
from deconvviz.scanning.store import Store

__all__ = ["Store", "scan"]
