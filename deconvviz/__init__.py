"""See what a convolutional network has learned: the DeconvNet of Zeiler & Fergus (2014) for any CNN in PyTorch."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from deconvviz.card import Card, Weights
    from deconvviz.checkpoints import EvolutionCheckpoints
    from deconvviz.correspondence import correspondence
    from deconvviz.errors import (
        DeconvvizError,
        DeconvvizTypeError,
        DeconvvizValueError,
        ImageError,
        StoreError,
        UnknownNameError,
        UnsupportedOperatorError,
        WeightsError,
    )
    from deconvviz.evolution import evolve
    from deconvviz.filters import filters
    from deconvviz.geometry import Layer, receptive_field
    from deconvviz.ilsvrc import history
    from deconvviz.invariance import invariance
    from deconvviz.network import Network, load
    from deconvviz.occlusion import occlude
    from deconvviz.probes import probe
    from deconvviz.projection import project
    from deconvviz.results import Correspondence, Evolution, Filters, History, Invariance, Occlusion, Probes, Projection
    from deconvviz.scanning import scan
    from deconvviz.store import Store

# Where each public name lives; importing it only when asked keeps `deconvviz --help` free of torch.
_HOME = {
    "Card": "card",
    "Weights": "card",
    "EvolutionCheckpoints": "checkpoints",
    "correspondence": "correspondence",
    "Correspondence": "results",
    "DeconvvizError": "errors",
    "DeconvvizTypeError": "errors",
    "DeconvvizValueError": "errors",
    "ImageError": "errors",
    "StoreError": "errors",
    "UnknownNameError": "errors",
    "UnsupportedOperatorError": "errors",
    "WeightsError": "errors",
    "Layer": "geometry",
    "receptive_field": "geometry",
    "invariance": "invariance",
    "filters": "filters",
    "Filters": "results",
    "evolve": "evolution",
    "Evolution": "results",
    "probe": "probes",
    "Probes": "results",
    "Network": "network",
    "load": "network",
    "history": "ilsvrc",
    "History": "results",
    "occlude": "occlusion",
    "Occlusion": "results",
    "project": "projection",
    "Invariance": "results",
    "Projection": "results",
    "Store": "store",
    "scan": "scanning",
}

__all__ = [
    "Card",
    "Correspondence",
    "DeconvvizError",
    "DeconvvizTypeError",
    "DeconvvizValueError",
    "Evolution",
    "EvolutionCheckpoints",
    "Filters",
    "History",
    "ImageError",
    "Invariance",
    "Layer",
    "Network",
    "Occlusion",
    "Probes",
    "Projection",
    "Store",
    "StoreError",
    "UnknownNameError",
    "UnsupportedOperatorError",
    "Weights",
    "WeightsError",
    "correspondence",
    "evolve",
    "filters",
    "history",
    "invariance",
    "load",
    "occlude",
    "probe",
    "project",
    "receptive_field",
    "scan",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'deconvviz' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"deconvviz.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Importing a module of the name of a public function must not put it in the function's place."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
