"""Facts about a network as data: labels, preprocessing, aliases, weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Card", "Weights"]


@dataclass(frozen=True)
class Weights:
    """Where one set of weights comes from.

    `name` is what `weights=` takes ("bundled", "imagenet"); `location` says where the file is (a
    file name under `models/weights`, or a URL or hub name for the user to fetch); `sha256` is of that file. `note` is
    what one should know of how it was loaded.

    >>> weights = deconvviz.load("lenet").card.weights
    >>> weights.name, weights.licence, len(weights.sha256)
    ('bundled', 'MIT; data MIT', 64)
    """

    name: str
    source: str
    licence: str
    accuracy: str | None = None
    location: str | None = None
    sha256: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Card:
    """What one has to know of a network to use it.

    A picture is resized, then fitted to `input_size` (height, width) as `crop` says:

    - "center": cut out at the centre. `resize` is the length of the shorter side before, or a (height, width).
    - "letterbox": the whole picture, brought inside `resize` (a side or (height, width)), framed in the mean colour.
    - None: nothing is cut off. `resize` is the length of the shorter side, and the input as long as the picture, or a
      (height, width).

    `resize` None is `input_size` itself, whatever the picture's proportions. `interpolation`: "bilinear" or another of
    Pillow's. `mean` and `std` (one value per channel) normalise pixels already scaled to `value_range`.
    `aliases` map short names ("5", "conv5") to module paths; `spec` is the name by which `load` finds the network.

    >>> card = deconvviz.load("lenet").card
    >>> card.input_size, card.channels, card.labels[1], card.alias_of("features.conv1")
    ((28, 28), 1, 'Trouser', 'conv1')
    """

    name: str
    labels: tuple[str, ...]
    input_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    weights: Weights | None = None
    available: tuple[Weights, ...] = ()
    resize: int | tuple[int, int] | None = None
    value_range: tuple[float, float] = (0.0, 1.0)
    crop: str | None = "center"
    interpolation: str = "bilinear"
    spec: str | None = None

    def alias_of(self, path: str) -> str | None:
        """The longest alias of a module path ("conv5" before "5"), or None."""
        return max((a for a, p in self.aliases.items() if p == path), key=len, default=None)

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return len(self.mean)
