"""See what a convolutional network has learned: the DeconvNet of Zeiler & Fergus (2014) for any CNN in PyTorch."""

from __future__ import annotations

import importlib

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # A public name is found in its module once it is asked for, so that `deconvviz --help` needs no torch.
    from deconvviz._public import MODULES, homes

    if name in MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "__all__":
        return sorted(homes())
    if name not in homes():
        raise AttributeError(f"module 'deconvviz' has no attribute '{name}'")
    value = getattr(importlib.import_module(homes()[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    from deconvviz._public import homes

    return sorted({*globals(), "__all__", *homes()})
