"""What is asked of an origin, what it finds, and what several do: seeds, files of weights, errors of a builder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from deconvviz.card import Card, Weights
from deconvviz.errors import DeconvvizError, DeconvvizValueError, UnknownNameError, WeightsError, in_one_line, suggest
from deconvviz.network.seen import Seen, seen_from
from deconvviz.network.weights import load_state, read_weights

T = TypeVar("T")
RANDOM = "random"


@dataclass(frozen=True)
class Wanted:
    """A network by its name: `spec` as it was given, `name` without what says its kind; see `load` for the rest."""

    spec: str
    name: str
    weights: str | None = None
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    allow_nonfinite: bool = False

    @property
    def random(self) -> bool:
        return self.weights == RANDOM

    @property
    def file(self) -> Path | None:
        """The file that the weights are; None if they are a name."""
        if self.weights is None or self.random or not is_file(self.weights):
            return None
        return Path(self.weights)

    def unknown_weights(self, known: list[str]) -> UnknownNameError:
        """The error for a name of weights that is none of `known`."""
        allowed = [*known, RANDOM]
        near = suggest(str(self.weights), allowed)
        return UnknownNameError(
            f"no weights '{self.weights}' for {self.name}; allowed: {', '.join(allowed)}, or the path of a file{near}"
        )


@dataclass(frozen=True)
class Found:
    """A network: its module, what is known of it, the transform that makes its inputs, and what it learned from.

    Without a transform the card says how inputs are made.
    """

    module: nn.Module
    card: Card
    transform: Callable[[Any], Any] | None = None
    seen: Seen | None = None


def is_file(source: str) -> bool:
    """Whether weights are a file, or meant as one: they look like a path, and not like a name."""
    return Path(source).is_file() or looks_like_a_path(source)


def looks_like_a_path(source: str) -> bool:
    """Whether weights that are no file are meant as one, and not as a name, such as torchvision's X_Weights.DEFAULT."""
    named = re.fullmatch(r"\w+_Weights\.\w+", source) is not None
    return (bool(Path(source).suffix) and not named) or len(Path(source).parts) > 1


def seeded(seed: int, build: Callable[[], T]) -> T:
    """What `build` makes with torch's generator at `seed`, which is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def random_weights(seed: int) -> Weights:
    """The facts of weights that nothing was learned with."""
    return Weights(RANDOM, f"random, seed {seed}", "none")


def built(wanted: Wanted, build: Callable[[], T]) -> T:
    """What a foreign `build` makes; what it raises becomes one line."""
    try:
        return build()
    except DeconvvizError:
        raise
    except ImportError as error:
        raise DeconvvizValueError(f"{wanted.name} needs a package that is not installed: {error}") from error
    except Exception as error:
        given = f" with {dict(wanted.options)}" if wanted.options else ""
        raise DeconvvizValueError(f"{wanted.spec} cannot be built{given}: {in_one_line(error)}") from error


def needs(package: str, extra: str, error: ImportError) -> DeconvvizValueError:
    """The error for a package that is not installed."""
    return DeconvvizValueError(f"this network needs the package {package}: pip install 'deconvviz[{extra}]' ({error})")


def from_file(module: nn.Module, path: Path, allow_nonfinite: bool) -> tuple[Weights, Seen | None, dict[str, Any]]:
    """Load the weights of a file into `module`; returns the facts of the weights, and those stored in the file."""
    state, facts = read_weights(path)
    note = load_state(module, state, str(path), allow_nonfinite)
    return file_weights(path, note), seen_from(facts, str(path)), facts


def file_weights(path: Path, note: str | None = None) -> Weights:
    """The facts of the weights of a file; `note` is what was done to its keys."""
    said = f"{path.name}, its keys {note}" if note else path.name
    return Weights("file", said, "unknown", location=str(path), note=note and said)


def foreign_state(path: Path) -> dict[str, Tensor]:
    """The weights of a file that a library's own loader puts into its network."""
    return read_weights(path)[0]


def labels_for(labels: list[str] | tuple[str, ...] | None, classes: int | None) -> tuple[str, ...]:
    """`labels` if there is one for each of the classes."""
    found = tuple(map(str, labels or ()))
    return found if classes is None or len(found) == classes else ()


def classes_of(module: nn.Module) -> int | None:
    """How many classes a classifier tells apart: the outputs of its last linear layer; None if it has none."""
    last = [m for m in module.modules() if isinstance(m, nn.Linear)]
    return last[-1].out_features if last else None


def loading(wanted: Wanted, where: object, load: Callable[[], T]) -> T:
    """What a foreign loader makes of weights; what it raises becomes a `WeightsError` in one line."""
    try:
        return load()
    except DeconvvizError:
        raise
    except Exception as error:
        raise WeightsError(f"{where} does not match {wanted.spec}: {in_one_line(error)}") from error
