"""Scanning a data set: the strongest places and the statistics of every unit of some layers."""

from deconvviz.scanning.run import scan

__all__ = ["scan"]
