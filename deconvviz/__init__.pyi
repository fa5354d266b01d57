# Written by `python -m deconvviz._public` from the `__all__` of the parts: change those.
from deconvviz import atlas as atlas
from deconvviz import captum as captum
from deconvviz import rules as rules
from deconvviz.analyses.accuracy import Accuracy
from deconvviz.analyses.architecture import Architecture, architecture
from deconvviz.analyses.comparison import Comparison, Comparisons, compare
from deconvviz.analyses.correspondence import Correspondence, correspondence
from deconvviz.analyses.curves import LearningCurves, learning_curves
from deconvviz.analyses.evolution import Evolution, evolve
from deconvviz.analyses.explanation import Explanation, Stage, explain
from deconvviz.analyses.filters import Filters, filters
from deconvviz.analyses.history import History, history
from deconvviz.analyses.invariance import Invariance, invariance
from deconvviz.analyses.occlusion import Occlusion, occlude
from deconvviz.analyses.panels import Panels, PanelSource, PanelsPage, panels, panels_page
from deconvviz.analyses.probes import Probes, probe
from deconvviz.analyses.projection import Projection, project
from deconvviz.analyses.sanity import Sanity, sanity
from deconvviz.analyses.scheme import Scheme, scheme
from deconvviz.card import Card, Weights
from deconvviz.errors import (
    AtlasError,
    DeconvvizError,
    DeconvvizTypeError,
    DeconvvizValueError,
    DeconvvizWarning,
    ImageError,
    MissingPackageError,
    OutOfMemoryError,
    ResultError,
    StoreError,
    UnknownNameError,
    UnsupportedOperatorError,
    WeightsError,
)
from deconvviz.explorer import Explorer, explore
from deconvviz.live import Occluded, OccludedGrid, Occluder, Record, record
from deconvviz.network import EvolutionCheckpoints, Layer, Network, load, receptive_field
from deconvviz.results import Result, Table
from deconvviz.scanning import Store, scan

__version__: str
__all__ = [
    "Accuracy",
    "Architecture",
    "AtlasError",
    "Card",
    "Comparison",
    "Comparisons",
    "Correspondence",
    "DeconvvizError",
    "DeconvvizTypeError",
    "DeconvvizValueError",
    "DeconvvizWarning",
    "Evolution",
    "EvolutionCheckpoints",
    "Explanation",
    "Explorer",
    "Filters",
    "History",
    "ImageError",
    "Invariance",
    "Layer",
    "LearningCurves",
    "MissingPackageError",
    "Network",
    "Occluded",
    "OccludedGrid",
    "Occluder",
    "Occlusion",
    "OutOfMemoryError",
    "PanelSource",
    "Panels",
    "PanelsPage",
    "Probes",
    "Projection",
    "Record",
    "Result",
    "ResultError",
    "Sanity",
    "Scheme",
    "Stage",
    "Store",
    "StoreError",
    "Table",
    "UnknownNameError",
    "UnsupportedOperatorError",
    "Weights",
    "WeightsError",
    "architecture",
    "compare",
    "correspondence",
    "evolve",
    "explain",
    "explore",
    "filters",
    "history",
    "invariance",
    "learning_curves",
    "load",
    "occlude",
    "panels",
    "panels_page",
    "probe",
    "project",
    "receptive_field",
    "record",
    "sanity",
    "scan",
    "scheme",
]
