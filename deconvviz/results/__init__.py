"""Results: numbers, the pictures made of them, saving and loading. They know no model; one file each."""

from deconvviz.results.accuracy import Accuracy, Series
from deconvviz.results.architecture import Architecture, Block
from deconvviz.results.base import SUFFIXES, Result
from deconvviz.results.correspondence import Correspondence
from deconvviz.results.curves import LearningCurves
from deconvviz.results.evolution import Evolution, EvolutionLayer
from deconvviz.results.filters import Filters
from deconvviz.results.history import Entry, History
from deconvviz.results.invariance import Invariance
from deconvviz.results.occlusion import Occlusion
from deconvviz.results.panels import Page, Panels
from deconvviz.results.probes import Probes
from deconvviz.results.projection import Projection
from deconvviz.results.scheme import Scheme

__all__ = [
    "SUFFIXES",
    "Accuracy",
    "Architecture",
    "Block",
    "Correspondence",
    "Entry",
    "Evolution",
    "EvolutionLayer",
    "Filters",
    "History",
    "Invariance",
    "LearningCurves",
    "Occlusion",
    "Page",
    "Panels",
    "Probes",
    "Projection",
    "Result",
    "Scheme",
    "Series",
]
