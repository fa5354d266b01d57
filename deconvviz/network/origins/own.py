"""`package.module:callable` and `file.py:callable`: networks of one's own."""

from __future__ import annotations

import copy
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.card import Card
from deconvviz.errors import (
    DeconvvizError,
    DeconvvizTypeError,
    DeconvvizValueError,
    UnknownNameError,
    in_one_line,
    suggest,
)
from deconvviz.network.network import Network
from deconvviz.network.origins.base import Found, Wanted, from_file, random_weights, seeded
from deconvviz.network.origins.meant import meant
from deconvviz.network.seen import Seen


def find(wanted: Wanted) -> Network | Found:
    """What the callable returns, a module or a Network; it is called with the options.

    `weights`: None (as it comes), "random" (none that are the same for two seeds), or a file.
    """
    if wanted.weights is not None and not wanted.random and wanted.file is None:
        raise UnknownNameError(
            f"no weights '{wanted.weights}' for {wanted.spec}; allowed: none (as it comes), random, or a file's path"
        )
    get = _callable(wanted)
    made = _at_random(wanted, get) if wanted.random else seeded(wanted.seed, lambda: _called(wanted, get))
    net = made if isinstance(made, Network) else None
    module = net.module if net is not None else made
    assert isinstance(module, nn.Module)
    weights, seen = net.card.weights if net is not None else None, net.seen if net is not None else None
    facts: dict[str, Any] = {}
    if wanted.random:
        weights, seen = random_weights(wanted.seed), Seen.nothing()
    elif wanted.file is not None:
        weights, seen, facts = from_file(module, wanted.file, wanted.allow_nonfinite)
    labels: dict[str, Any] = {"labels": tuple(facts["labels"])} if "labels" in facts else {}
    if net is None:
        card = Card(type(module).__name__, (), (224, 224), (), (), {}, weights, resize=224, spec=wanted.spec)
        return Found(module, replace(card, **labels), seen=seen)
    net = net.carried(module, weights=weights, spec=wanted.spec, **labels)
    net.seen = seen
    return net


def _callable(wanted: Wanted) -> Callable[..., Any]:
    """What the name leads to. A module or Network that is there already is given as it is."""
    place, _, attribute = wanted.spec.rpartition(":")
    if not place or not attribute:
        raise UnknownNameError(
            f"model is '{wanted.spec}'; allowed: a name of the zoo, torchvision:NAME, timm:NAME, hf-hub:ORG/NAME, "
            "package.module:callable, file.py:callable"
        )
    found: Any = _imported(place, wanted.spec)
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise UnknownNameError(f"cannot get '{attribute}' from '{place}'{suggest(name, dir(found))}")
        found = getattr(found, name)
    if isinstance(found, nn.Module | Network):
        ready = found
        return lambda: copy.deepcopy(ready)
    if not callable(found):
        raise DeconvvizTypeError(
            f"{wanted.spec} is a {type(found).__name__}; allowed: a callable, or a torch.nn.Module"
        )
    made: Callable[..., Any] = found
    return made


def _imported(place: str, spec: str) -> ModuleType:
    try:
        with _own_folder(), _no_exit(f"importing '{place}'"):
            return _of_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except DeconvvizError:
        raise
    except Exception as error:
        near = meant(spec) if isinstance(error, ModuleNotFoundError) and error.name == place.partition(".")[0] else ""
        raise UnknownNameError(f"cannot import '{place}': {in_one_line(error)}{near}") from error


def _of_file(path: Path) -> ModuleType:
    """The module in a file, which may import what lies beside it; it is run anew every time."""
    path = path.expanduser().resolve()
    if not path.is_file():
        raise UnknownNameError(f"no such file: {path}")
    # What it defines can be pickled only if the module is known by its name; another's is not taken.
    name, before = path.stem, sys.modules.get(path.stem)
    if before is not None and getattr(before, "__file__", None) != str(path):
        name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
        before = sys.modules.get(name)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UnknownNameError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module


@contextmanager
def _own_folder() -> Iterator[None]:
    """The current folder on the path, where an installed command does not have it."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)


@contextmanager
def _no_exit(what: str) -> Iterator[None]:
    """Code that ends the program, such as a script or `exit` itself, is an error: it made no network."""
    try:
        yield
    except SystemExit as error:
        raise DeconvvizValueError(f"{what} ended the program (exit code {error.code}) and made no network") from error


def _called(wanted: Wanted, get: Callable[..., Any]) -> Network | nn.Module:
    try:
        with _own_folder(), _no_exit(wanted.spec):
            made = get(**wanted.options)
    except DeconvvizError:
        raise
    except Exception as error:
        raise DeconvvizValueError(f"{wanted.spec} failed: {type(error).__name__}: {in_one_line(error)}") from error
    if not isinstance(made, Network | nn.Module):
        raise DeconvvizTypeError(
            f"{wanted.spec} returned a {type(made).__name__}; allowed: a torch.nn.Module or a Network"
        )
    return made


def _at_random(wanted: Wanted, get: Callable[..., Any]) -> Network | nn.Module:
    """The network with weights that nothing was learned with: those that two seeds make differently stay as they are,
    others are drawn anew, for they were read from somewhere."""
    made, other = (seeded(seed, lambda: _called(wanted, get)) for seed in (wanted.seed, wanted.seed + 1))
    if made is other:
        made = copy.deepcopy(made)
    module, twin = (x.module if isinstance(x, Network) else x for x in (made, other))
    same = dict(twin.named_parameters())
    learned = {k for k, p in module.named_parameters() if k in same and _learned(p, same[k])}
    if learned:
        seeded(wanted.seed, lambda: _drawn_anew(module, learned))
    return made


def _learned(parameter: Tensor, other: Tensor) -> bool:
    """Whether it holds numbers that no seed has made: equal for two, and not all alike, as initial biases are."""
    if parameter.is_meta or parameter.shape != other.shape or not torch.equal(parameter, other):
        return False
    return parameter.numel() > 1 and bool((parameter != parameter.flatten()[0]).any())


def _drawn_anew(module: nn.Module, learned: set[str]) -> None:
    """Reset the modules that hold `learned` parameters, by their own rule, or by a normal of the same spread."""
    for path, part in module.named_modules():
        own = [name for name, _ in part.named_parameters(prefix=path, recurse=False) if name in learned]
        reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
        if own and callable(reset):
            reset()
        elif own:
            with torch.no_grad():
                for p in (p for n, p in part.named_parameters(prefix=path, recurse=False) if n in learned):
                    p.normal_(0.0, float(p.std()) or 1.0)
