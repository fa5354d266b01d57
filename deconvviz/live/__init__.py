"""A recording that can be kept: one forward pass, any number of questions."""

from deconvviz.live.kept import Record, record
from deconvviz.live.occluder import Occluded, OccludedGrid, Occluder

__all__ = ["Occluded", "OccludedGrid", "Occluder", "Record", "record"]
