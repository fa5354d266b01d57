"""See what a convolutional network has learned: the DeconvNet of Zeiler & Fergus (2014) for any CNN in PyTorch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from deconvviz.analyses.correspondence.compute import correspondence
    from deconvviz.analyses.correspondence.result import Correspondence
    from deconvviz.analyses.evolution.compute import evolve
    from deconvviz.analyses.evolution.result import Evolution
    from deconvviz.analyses.filters.compute import filters
    from deconvviz.analyses.filters.result import Filters
    from deconvviz.analyses.history.compute import history
    from deconvviz.analyses.history.result import History
    from deconvviz.analyses.invariance.compute import invariance
    from deconvviz.analyses.invariance.result import Invariance
    from deconvviz.analyses.occlusion.compute import occlude
    from deconvviz.analyses.occlusion.result import Occlusion
    from deconvviz.analyses.probes.compute import probe
    from deconvviz.analyses.probes.result import Probes
    from deconvviz.analyses.projection.compute import project
    from deconvviz.analyses.projection.result import Projection
    from deconvviz.card import Card, Weights
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
    from deconvviz.network.checkpoints import EvolutionCheckpoints
    from deconvviz.network.layers import Layer
    from deconvviz.network.load import load
    from deconvviz.network.network import Network
    from deconvviz.network.receptive_field import receptive_field
    from deconvviz.scanning import scan
    from deconvviz.scanning.store import Store

# Where each public name lives; importing it only when asked keeps `deconvviz --help` free of torch.
_HOME = {
    "Card": "card",
    "Weights": "card",
    "EvolutionCheckpoints": "network.checkpoints",
    "correspondence": "analyses.correspondence",
    "Correspondence": "analyses.correspondence",
    "DeconvvizError": "errors",
    "DeconvvizTypeError": "errors",
    "DeconvvizValueError": "errors",
    "ImageError": "errors",
    "StoreError": "errors",
    "UnknownNameError": "errors",
    "UnsupportedOperatorError": "errors",
    "WeightsError": "errors",
    "Layer": "network.layers",
    "receptive_field": "network.receptive_field",
    "invariance": "analyses.invariance",
    "filters": "analyses.filters",
    "Filters": "analyses.filters",
    "evolve": "analyses.evolution",
    "Evolution": "analyses.evolution",
    "probe": "analyses.probes",
    "Probes": "analyses.probes",
    "Network": "network.network",
    "load": "network.load",
    "history": "analyses.history",
    "History": "analyses.history",
    "occlude": "analyses.occlusion",
    "Occlusion": "analyses.occlusion",
    "project": "analyses.projection",
    "Invariance": "analyses.invariance",
    "Projection": "analyses.projection",
    "Store": "scanning.store",
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
