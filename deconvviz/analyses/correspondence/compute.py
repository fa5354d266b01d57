"""Correspondence: does covering the same part of several pictures change features alike? (paper, Fig. 8, Table 1)"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from deconvviz.analyses.correspondence.parts import draw_boxes, read_parts
from deconvviz.analyses.correspondence.result import Correspondence
from deconvviz.analyses.features import features, listed_layers, name_of
from deconvviz.analyses.given import answers_of, logits_of
from deconvviz.data.images import PictureFile, read_image
from deconvviz.data.transforms import Fill, fill_colour
from deconvviz.engine.passes import plain_mode
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnknownNameError, suggest
from deconvviz.network.network import Network
from deconvviz.network.preprocessing import Picture
from deconvviz.progress import Progress, Report, heard

if TYPE_CHECKING:
    from deconvviz.analyses.correspondence.parts import Pictured

# What signs are counted over: all features of a layer, or those that change in one of the two pictures.
SHARES = {"features": "all features", "active": "the features that change in either picture"}
# A change below this share of the layer's largest feature is rounding: batches are not summed in one order.
ROUNDING = 1e-5


def correspondence(
    model: Network | nn.Module,
    parts: str | os.PathLike[str] | Mapping[str, Any] | Sequence[Pictured],
    layers: Sequence[str | nn.Module] | None = None,
    folder: str | os.PathLike[str] | None = None,
    fill: Fill = "grey",
    normalise: str = "features",
    random: int = 10,
    seed: int = 0,
    batch: int = 32,
    progress: Progress = None,
) -> Correspondence:
    """Cover the same part in several pictures and compare the signs of what that changes (paper, section 4.3).

    `parts` is a JSON file, its content {"images": [{"file": …, "parts": {name: [top, left, bottom, right]}}, …]}, or a
    sequence of pairs (picture, {name: box}); every picture has the same parts, and there are two pictures or more. File
    names are relative to `folder`, by default the JSON's own (the current folder for a content). Boxes are half-open,
    in pixels of the upright picture, and follow it through resizing and crop; for a preprocessed tensor, of the input.
    `layers` are as for `project`; None takes 5 and 7 if these are aliases, else the two highest numbered ones. The
    part is filled with `fill`: "grey" (the mean colour), a number or a colour (C,) in input scale.

    With ε_i = x_i − x̃_i, picture i's features less those of the covered picture, the distance of two pictures is the
    share of features at which sign ε_i and sign ε_j differ. A sign is −1, 0 or 1, zero being a sign of its own, and a
    change of less than 1e-5 of the layer's largest feature counts as zero. `normalise`: "features" counts over all
    features of the layer, "active" over those whose sign is not zero in both pictures. `random` is the number of draws,
    from `seed`, of random boxes of each part's own sizes, anywhere in the input: once at a place of its own in each
    picture, once at one place for all. At most `batch` covered pictures run at once; `progress` is True for a
    bar, or called with the passes done and in all.

    Raises `UnknownNameError`, `DeconvvizValueError`, `DeconvvizTypeError`, `ImageError`, and `UnsupportedOperatorError`
    for a model that cannot be recorded. The model is left exactly as it was.

    >>> eye = {"eye": [4, 4, 12, 12]}
    >>> pairs = [(torch.rand(1, 28, 28), eye) for _ in range(3)]
    >>> c = deconvviz.correspondence(deconvviz.load("lenet"), pairs, layers=["2", "4"], random=2)
    >>> c.distances.shape  # parts, layers, pairs of pictures
    torch.Size([1, 2, 3])
    """
    if normalise not in SHARES:
        allowed = ", ".join(map(repr, SHARES))
        raise UnknownNameError(f"normalise is {normalise!r}; allowed: {allowed}{suggest(str(normalise), SHARES)}")
    if isinstance(random, bool) or not isinstance(random, int) or random < 0:
        raise DeconvvizValueError(f"random is {random!r}; allowed: a number of draws from 0")
    net = Network.of(model)
    given = read_parts(parts, folder)
    inputs, names = net.inputs([picture for picture, _ in given])
    colour = fill_colour(fill, inputs)
    if colour is None:
        raise DeconvvizValueError(f"fill is {fill!r}; allowed: 'grey', a number, a colour")
    boxes = _boxes(net, given, names, inputs)
    drawn = draw_boxes(boxes, inputs.shape[2:], random, seed)
    chosen = _layers(net, layers)
    keys = tuple(name_of(net, layer) for layer in chosen)
    with plain_mode(inputs.device.type), heard(progress, "passes") as report:
        compare = _Comparison(net, inputs, chosen, colour, normalise == "active", batch, report)
        found = compare.run(torch.cat([boxes[:, None], drawn], 1))
    policy = {
        "fill": fill if isinstance(fill, str) else colour.tolist(), "share of": SHARES[normalise],
        "sign 0": f"below {ROUNDING:g} of the largest feature", "draws": random, "seed": seed,
    }  # fmt: skip
    return Correspondence(
        images=inputs, names=names, parts=tuple(given[0][1]), boxes=boxes, layers=keys, distances=found[:, 0],
        random=found[:, 1 : 1 + random], one_place=found[:, 1 + random :], random_boxes=drawn[:, :random],
        policy=policy, **net.provenance(), **answers_of(net, logits_of(net, inputs, batch)),
    )  # fmt: skip


# Pictures and boxes ---------------------------------------------------------------------------------------------------


def _boxes(net: Network, given: list[Pictured], names: tuple[str, ...], inputs: Tensor) -> Tensor:
    """Boxes in input pixels, (P, N, 4) whole numbers, clipped to the input."""
    size = (inputs.shape[2], inputs.shape[3])
    found = []
    for (picture, boxes), name in zip(given, names, strict=True):
        frame = _shown(net, picture, size)
        found.append([_mapped(box, frame, size, f"{name}: box of '{part}'") for part, box in boxes.items()])
    return torch.tensor(found, dtype=torch.long).transpose(0, 1).contiguous()


@dataclass(frozen=True)
class _ShownRegion:
    """A picture's own (height, width), and the region of it that the input shows."""

    size: tuple[int, int]
    region: tuple[float, float, float, float]


def _shown(net: Network, picture: Picture, size: tuple[int, int]) -> _ShownRegion:
    if isinstance(picture, Tensor):
        return _ShownRegion(size, (0.0, 0.0, float(size[0]), float(size[1])))
    seen = read_image(picture)  # upright, and smaller if it is very large
    own = _own_size(picture)
    top, left, bottom, right = net.shown_region((seen.height, seen.width))
    down, across = own[0] / seen.height, own[1] / seen.width
    return _ShownRegion(own, (top * down, left * across, bottom * down, right * across))


def _own_size(given: PictureFile) -> tuple[int, int]:
    if isinstance(given, np.ndarray):
        return given.shape[0], given.shape[1]
    if isinstance(given, Image.Image):
        return _upright(given)
    with Image.open(given) as picture:
        return _upright(picture)


def _upright(picture: Image.Image) -> tuple[int, int]:
    """(height, width) with the EXIF orientation applied."""
    turned = picture.getexif().get(0x0112) in (5, 6, 7, 8)
    return (picture.width, picture.height) if turned else (picture.height, picture.width)


def _mapped(box: Any, frame: _ShownRegion, size: tuple[int, int], what: str) -> list[int]:
    """A box of the picture as rows and columns of the input."""
    try:
        top, left, bottom, right = (float(v) for v in box)
    except (TypeError, ValueError):
        raise DeconvvizTypeError(f"{what} is {box!r}; allowed: [top, left, bottom, right]") from None
    height, width = frame.size
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise DeconvvizValueError(
            f"{what} is {[top, left, bottom, right]}; allowed: top < bottom within 0 to {height} and left < right "
            f"within 0 to {width}, the picture's own pixels"
        )
    rows = _through(top, bottom, frame.region[0], frame.region[2], size[0])
    columns = _through(left, right, frame.region[1], frame.region[3], size[1])
    shown = [(min(b, s) - max(a, 0)) / (b - a) for (a, b), s in ((rows, size[0]), (columns, size[1]))]
    if min(shown) <= 0 or shown[0] * shown[1] < 0.5:
        raise DeconvvizValueError(f"{what} lies outside what the network sees of the picture, by half of it or more")
    clipped = [max(rows[0], 0), max(columns[0], 0), min(rows[1], size[0]), min(columns[1], size[1])]
    return clipped


def _through(start: float, stop: float, low: float, high: float, size: int) -> tuple[int, int]:
    """An interval of the picture in pixels of the input, where [low, high) of the picture has become `size` pixels."""
    first = round((start - low) * size / (high - low))
    return first, max(round((stop - low) * size / (high - low)), first + 1)


# Comparing ------------------------------------------------------------------------------------------------------------


def _layers(net: Network, layers: Sequence[str | nn.Module] | None) -> list[str | nn.Module]:
    if layers is not None:
        return listed_layers(layers)
    numbered = net.numbered()
    return ["5", "7"] if {"5", "7"} <= set(numbered) else list(numbered[-2:])


class _Comparison:
    """Covers boxes in all pictures, a batch at a time, and compares what changes between every two pictures."""

    def __init__(
        self, net: Network, inputs: Tensor, layers: list[str | nn.Module], colour: Tensor, active: bool,
        batch: int, progress: Report | None,
    ) -> None:  # fmt: skip
        self.net, self.inputs, self.layers, self.colour = net, inputs, layers, colour
        self.active, self.batch, self.progress = active, batch, progress

    def run(self, boxes: Tensor) -> Tensor:
        """Distances (P, K, L, M) float64 for boxes (P, K, N, 4)."""
        parts, kinds, count, _ = boxes.shape
        flat = boxes.reshape(parts * kinds, count, 4)
        plain = features(self.net, self.inputs, self.layers, self.batch)
        pieces, done, passes = [], 0, count * -(-len(flat) // self.batch)
        for part in torch.split(flat, self.batch):
            signs = []
            for n in range(count):
                signs.append(self.signs(n, part[:, n], {k: v[n] for k, v in plain.items()}))
                done += 1
                if self.progress is not None:
                    self.progress(done, passes)
            pieces.append(torch.stack([self.pairs([s[k] for s in signs]) for k in range(len(self.layers))], 1))
        return torch.cat(pieces).view(parts, kinds, len(self.layers), -1)

    def signs(self, n: int, boxes: Tensor, plain: dict[str, Tensor]) -> list[Tensor]:
        """sign ε (K, F) int8 of picture `n` for K boxes, in each layer."""
        covered = self.inputs[n].repeat(len(boxes), 1, 1, 1)
        for k, (top, left, bottom, right) in enumerate(boxes.tolist()):
            covered[k, :, top:bottom, left:right] = self.colour[:, None, None]
        found = features(self.net, covered, self.layers, self.batch)
        signs = []
        for layer in self.layers:
            name = name_of(self.net, layer)
            change = (plain[name] - found[name]).flatten(1)
            change[change.abs() <= ROUNDING * plain[name].abs().max()] = 0
            signs.append(change.sign().to(torch.int8))
        return signs

    def pairs(self, signs: list[Tensor]) -> Tensor:
        """The distance of every two pictures, (K, M), of their signs (K, F) each."""
        return torch.stack([self.distance(signs[i], signs[j]) for i, j in _pairs(len(signs))], 1)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        differ = (a != b).sum(1).double()
        counted = ((a != 0) | (b != 0)).sum(1).clamp(min=1).double() if self.active else float(a.shape[1])
        return (differ / counted).cpu()


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(count) for j in range(i + 1, count))
