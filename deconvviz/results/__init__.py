"""What all results share: comparing, saving, tables, the style of figures; knows no model and no analysis."""

from deconvviz.results.base import SUFFIXES, Result

__all__ = ["SUFFIXES", "Result"]
