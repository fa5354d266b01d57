"""The one way to get a network by a name: of the zoo, of torchvision, timm or the hub, or a callable of one's own."""

from __future__ import annotations

import enum
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deconvviz.card import Weights
from deconvviz.errors import DeconvvizTypeError, UnknownNameError
from deconvviz.network.labels import Labels
from deconvviz.network.network import Network
from deconvviz.network.origins.base import Found, Wanted, looks_like_a_path

__all__ = ["is_own", "load", "looks_like_a_path", "stored_weights"]

# What stands before the colon of a name, and the module of `origins` that knows such networks.
_ORIGINS = {"torchvision": "torchvision", "timm": "timm", "hf-hub": "hub"}


def load(
    name: str,
    weights: str | os.PathLike[str] | enum.Enum | None = None,
    *,
    seed: int = 0,
    input_size: int | Sequence[int] | None = None,
    resize: int | Sequence[int] | None = None,
    crop: str | None = "own",
    interpolation: str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    labels: Labels | None = None,
    transform: Callable[[Any], Any] | None = None,
    allow_nonfinite: bool = False,
    **options: Any,
) -> Network:
    """The network of this name, in eval mode, with its own preprocessing and class names.

    | `name` | `weights` (besides "random", from `seed`, and a file) | None is |
    |---|---|---|
    | of the zoo | "bundled" (ships), "imagenet" (fetched once, hash checked) | the first there is |
    | `torchvision:NAME` | a name of torchvision's enum, such as "IMAGENET1K_V2" | "DEFAULT" |
    | `timm:NAME` or `timm:NAME.TAG` | a tag | the tag, or timm's default |
    | `hf-hub:ORG/NAME` (`@REVISION`): timm's, and image classifiers of transformers | | the repository's |
    | `package.module:callable`, `file.py:callable`: a module or a Network | | as it comes |

    A file is safetensors or a torch state dict, which is read without unpickling; a prefix of its keys that the network
    does not have ("module.", "model.") is taken away, and said in `card.weights`. Nothing of a hub is run as code.
    `options` go to the network (`classes`, `num_classes`, …).

    Pictures are prepared as the makers of the weights do. What differs is given, as for `Network`: `input_size`,
    `resize`, `crop` ("own" leaves it), `interpolation`, `mean`, `std`, `labels`, or a `transform`. A callable's module
    has no mean and std unless they are given; ImageNet's are not assumed.

    Raises `UnknownNameError` (a model, or a name of weights), `WeightsError` (missing, damaged, not finite or not
    matching, with the keys), `DeconvvizValueError`, `DeconvvizTypeError`.

    >>> net = deconvviz.load("zfnet")
    >>> net.card.weights.name, len(net.card.labels)
    ('bundled', 101)
    >>> deconvviz.load("resnet18_32", "random", seed=1, classes=10).module.training
    False
    >>> net = deconvviz.load("torchvision:resnet18", "random")
    >>> net.card.labels[281], net.card.resize, net.preprocess("image.jpg").shape
    ('tabby', 256, torch.Size([1, 3, 224, 224]))
    """
    if not isinstance(name, str):
        raise DeconvvizTypeError(f"name is a {type(name).__name__}; allowed: the name of a network")
    kind, rest = _kind(name)
    wanted = Wanted(name, rest, _named(weights), seed, options, allow_nonfinite)
    given = {
        "input_size": input_size, "resize": resize, "interpolation": interpolation, "mean": mean, "std": std,
        "labels": labels, "transform": transform, **({"crop": crop} if crop != "own" else {}),
    }  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None or key == "crop"}
    found = _origin(kind).find(wanted)
    net = _network(found, given, allow_nonfinite)
    net.module.eval()
    return net


def stored_weights(name: str) -> list[tuple[Weights, Path | None]]:
    """The weights that are known for a name, each with where its file is or belongs; `load` says which names."""
    kind, rest = _kind(name)
    stored = getattr(_origin(kind), "stored", None)
    if stored is None:
        raise UnknownNameError(f"no list of weights for '{name}'; allowed: of the zoo, torchvision:NAME, timm:NAME, "
                               "hf-hub:ORG/NAME")  # fmt: skip
    found: list[tuple[Weights, Path | None]] = stored(rest)
    return found


def is_own(name: str) -> bool:
    """Whether a name leads to a callable of the user's, which may make trained weights."""
    return _kind(name)[0] == "own"


def _kind(name: str) -> tuple[str, str]:
    """The module of `origins` that knows a name, and the name as it is known there."""
    prefix, colon, rest = name.partition(":")
    if prefix in _ORIGINS and colon:
        return _ORIGINS[prefix], rest
    return ("own" if colon or name.endswith(".py") else "zoo"), name


def _origin(kind: str) -> Any:
    return importlib.import_module(f"deconvviz.network.origins.{kind}")


def _named(weights: object) -> str | None:
    """What `weights` are as text: a path, a name, or the member of an enum such as torchvision's."""
    if isinstance(weights, enum.Enum):
        return f"{type(weights).__name__}.{weights.name}"  # another network's has the same names
    if weights is None or isinstance(weights, str):
        return weights
    if isinstance(weights, os.PathLike):
        path = os.fspath(weights)
        return path if isinstance(path, str) else os.fsdecode(path)
    raise DeconvvizTypeError(f"weights is a {type(weights).__name__}; allowed: a name, or the path of a file")


def _network(found: Network | Found, given: Mapping[str, Any], allow_nonfinite: bool) -> Network:
    """The Network of what an origin found, but for what is `given` otherwise."""
    net = found
    if isinstance(found, Found):
        net = Network(found.module, card=found.card, transform=found.transform, allow_nonfinite=allow_nonfinite)
        net.seen = found.seen
    assert isinstance(net, Network)
    return net.adjusted(**given) if given else net
