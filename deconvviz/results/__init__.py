"""What all results share: comparing, saving, tables, the style of figures; knows no model and no analysis."""

from deconvviz.results.base import Result
from deconvviz.results.table import Table

__all__ = ["Result", "Table"]
