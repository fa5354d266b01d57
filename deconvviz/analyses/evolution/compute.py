"""Evolution: what units respond to as training goes on, and when each layer settles (Zeiler & Fergus 2014, Fig. 4)."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from deconvviz.analyses.evolution.result import Evolution, EvolutionLayer
from deconvviz.analyses.evolution.statistics import Centred, Correlation, Peaks
from deconvviz.analyses.features import features
from deconvviz.analyses.projection.compute import METHODS, OVERLAPS, project_one
from deconvviz.analyses.projection.result import Projection
from deconvviz.data.listing import Listing
from deconvviz.engine.geometry import field_of
from deconvviz.engine.layers import check_maps
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, ImageError, check_choice, check_counts
from deconvviz.network.checkpoints import checkpoints as of_run
from deconvviz.network.checkpoints import run_facts
from deconvviz.network.load import load
from deconvviz.network.network import Network, check_sizes
from deconvviz.network.preprocessing import Picture, listed
from deconvviz.network.weights import load_state, read_weights
from deconvviz.progress import Progress, Report, heard

Checkpoint = str | os.PathLike[str] | Network | nn.Module | Mapping[str, Tensor]


def evolve(
    checkpoints: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[int, Checkpoint],
    images: str | os.PathLike[str] | Picture | Sequence[Picture] | None = None,
    layer: str | Sequence[str] | None = None,
    units: int | Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    *,
    model: str | Network | nn.Module | None = None,
    count: int = 6,
    seed: int = 0,
    most: int | None = None,
    method: str = "deconvnet",
    overlap: str = "add",
    batch: int = 16,
    device: str | None = None,
    progress: Progress = None,
) -> Evolution:
    """Project each unit's strongest activation over `images` at every checkpoint, and measure how layers settle.

    `checkpoints` is the folder of a run (`deconvviz train`, `EvolutionCheckpoints`), a list of files with the epoch in
    their names, or a mapping of epochs to files, state dicts or networks. `model` is the architecture: a name in the
    zoo or a network, which is copied; not needed for what `deconvviz train` wrote, nor if a network is among the
    checkpoints. `images` is a folder (of pictures, of one folder a category, or of MNIST, CIFAR), of whose pictures at
    most `most` are taken, evenly spread; or a picture or pictures as for `project`; None is what the run was trained
    on. `layer` is one layer or several, as aliases or module paths; None is all with a number for an alias that have
    maps (ZFNet: 1 to 5). `units` are feature maps: numbers, for each layer by name, or None for `count` drawn with
    `seed` from those that fire at the last checkpoint, as the paper took a random subset.

    The pictures are read once; each batch passes every checkpoint, up to the deepest layer. Memory is bounded by
    `batch`, besides the result; `device` is where to compute. `progress` is True for a bar, or called with the steps
    done and in all. A file that cannot be read as a picture is left out and named in the result.

    Raises `DeconvvizValueError`, `DeconvvizTypeError`, `UnknownNameError`, `ImageError`, `WeightsError`, and
    `UnsupportedOperatorError`. A network that is given is left exactly as it was.

    >>> net = deconvviz.load("lenet")
    >>> later = {1: deconvviz.load("lenet", "random").module.state_dict(), 2: net}
    >>> e = deconvviz.evolve(later, torch.rand(4, 1, 28, 28), layer="1", count=2, model=net)
    >>> e.epochs, len(e.layers)
    ((1, 2), 1)
    """
    check_choice("method", method, METHODS)
    check_choice("overlap", overlap, OVERLAPS)
    check_counts(count=count, batch=batch, **({} if most is None else {"most": most}))
    sources = _sources(checkpoints)
    net = _architecture(model, list(sources.values()))
    _to(net, device)
    layers = _layer_names(layer, net)
    unknown = set(units) - set(layers) if isinstance(units, Mapping) else set()
    if unknown:
        raise DeconvvizValueError(f"units are given for layer '{min(unknown)}'; allowed: {', '.join(layers)}")
    pictures = _Inputs(net, _data_of(checkpoints) if images is None else images, most)
    with heard(progress, "steps") as report:
        run = _Passes(net, sources, layers, pictures, batch, report)
        run.look()
        # A seed of its own for each layer: layers of one size would all show the same numbers.
        chosen = [_units(units, name, run.fires(n), count, seed + n) for n, name in enumerate(layers)]
        found = run.project(chosen, method, overlap)
    policy: dict[str, object] = {
        **run.policy, "units": "given" if units is not None else f"{count} drawn with seed {seed}",
        "unreadable": pictures.unreadable,
    }  # fmt: skip
    card = net.card
    return Evolution(
        tuple(sources), found, pictures.names, policy=policy, mean=card.mean, std=card.std, model=run.model
    )


# What is given --------------------------------------------------------------------------------------------------------


def _sources(given: Any) -> dict[int, Checkpoint]:
    """Epoch → what holds its weights, first epoch first."""
    if isinstance(given, str | os.PathLike):
        return dict(of_run(given))
    if isinstance(given, Mapping):
        wrong = [e for e in given if isinstance(e, bool) or not isinstance(e, int)]
        if wrong:
            raise DeconvvizTypeError(f"checkpoints has the key {wrong[0]!r}; allowed: epochs, whole numbers")
        pairs = list(given.items())
    elif isinstance(given, Sequence):
        pairs = [(_epoch_of(path), path) for path in given]
    else:
        raise DeconvvizTypeError(
            f"checkpoints is a {type(given).__name__}; allowed: a folder, a list of files, a mapping of epochs"
        )
    epochs = [e for e, _ in pairs]
    if not pairs or len(set(epochs)) < len(epochs):
        raise DeconvvizValueError(
            "checkpoints is empty, or has an epoch twice; allowed: one for each epoch, one or more"
        )
    return dict(sorted(pairs, key=lambda pair: pair[0]))


def _epoch_of(path: object) -> int:
    """The last number in a file's name."""
    if not isinstance(path, str | os.PathLike):
        raise DeconvvizTypeError(f"checkpoints holds a {type(path).__name__}; give a mapping of epochs to networks")
    found = re.findall(r"\d+", Path(path).stem)
    if not found:
        raise DeconvvizValueError(f"no epoch in the name {Path(path).name!r}; give a mapping of epochs to files")
    return int(found[-1])


def _architecture(model: object, sources: Sequence[Checkpoint]) -> Network:
    """A network of our own, to put one checkpoint's weights after the other into."""
    if model is None:
        model = next((s for s in sources if not isinstance(s, str | os.PathLike | Mapping)), None)
    if model is None:
        first = sources[0]
        named = read_weights(Path(first))[1].get("model") if isinstance(first, str | os.PathLike) else None
        if named is None:
            what = Path(first).name if isinstance(first, str | os.PathLike) else "a state dict"
            raise DeconvvizValueError(f"{what} does not say of which model it is; give model, a name or a network")
        model = str(named)
    if isinstance(model, str):
        first = sources[0]
        return load(model, first if isinstance(first, str | os.PathLike) else "random")
    net = Network.of(model)
    return net.carried(copy.deepcopy(net.module).eval())


def _to(net: Network, device: str | None) -> None:
    try:
        net.module.to(device)
    except (RuntimeError, AssertionError) as error:
        raise DeconvvizValueError(f"cannot use the device {device!r}: {str(error).splitlines()[0]}") from error


def _state(source: Checkpoint) -> tuple[Mapping[str, Tensor], str]:
    """The weights of a checkpoint, and its name for errors."""
    if isinstance(source, str | os.PathLike):
        return read_weights(Path(source))[0], Path(source).name
    if isinstance(source, Mapping):
        return source, "the state dict"
    return Network.of(source).module.state_dict(), "the network"


def _data_of(checkpoints: object) -> str:
    """The folder of pictures that a run was trained on."""
    data = run_facts(checkpoints).get("data") if isinstance(checkpoints, str | os.PathLike) else None
    if data is None:
        raise DeconvvizValueError("the checkpoints do not say on which pictures they were trained; give images")
    return data


def _layer_names(layer: Any, net: Network) -> list[str]:
    if layer is None:
        give = "layer, one or several"
        modules = {alias: net.module.get_submodule(net.card.aliases[alias]) for alias in net.numbered(give)}
        found = [alias for alias, module in modules.items() if not isinstance(module, nn.Linear)]
        if not found:
            raise DeconvvizValueError(f"this model has no numbered aliases of maps: give {give}")
        return found
    names = [layer] if isinstance(layer, str) else list(layer) if isinstance(layer, Sequence) else [layer]
    wrong = [n for n in names if not isinstance(n, str)]
    if wrong or not names:
        what = f"a {type(wrong[0]).__name__}" if wrong else "empty"
        raise DeconvvizTypeError(f"layer is {what}; allowed: an alias or a module path, or several")
    return list(dict.fromkeys(names))


def _units(units: Any, layer: str, fires: Tensor, count: int, seed: int) -> Tensor:
    """The units (K,) of a layer: those given, or a random subset of those that fire at the end."""
    units = units.get(layer) if isinstance(units, Mapping) else units
    if units is None:
        alive = fires.nonzero()[:, 0]
        alive = alive if len(alive) else torch.arange(len(fires))
        order = torch.randperm(len(alive), generator=torch.Generator().manual_seed(seed))
        return alive[order[:count]].sort().values
    units = units.tolist() if isinstance(units, Tensor) else units
    given = [units] if isinstance(units, int) else list(units)
    wrong = [u for u in given if isinstance(u, bool) or not isinstance(u, int) or not 0 <= u < len(fires)]
    if wrong or not given:
        what = f"unit {wrong[0]!r} does not exist in layer {layer}" if wrong else "units is empty"
        raise DeconvvizValueError(f"{what}; allowed: 0 to {len(fires) - 1}")
    return torch.tensor(given)


class _Inputs:
    """The pictures by number, as inputs (1, C, H, W); those that cannot be read are known after a first pass."""

    def __init__(self, net: Network, images: Any, most: int | None) -> None:
        self._given, self.names = listed(images, net.card.channels or 3)
        if isinstance(images, str | os.PathLike | Dataset | DataLoader):
            found = Listing(self._given, self.names).spread(most)
            self._given, self.names = found.pictures, found.names
        if not len(self._given):
            raise DeconvvizValueError("images is empty; allowed: a folder, one picture or more")
        self.unreadable: list[str] = []
        self._net = net
        # The strongest pictures of several units and checkpoints are often the same.
        self.input = lru_cache(64)(lambda k: net.preprocess(self._given[k]))

    def __len__(self) -> int:
        return len(self._given)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(numbers, inputs) of the readable pictures, `size` files at a time."""
        first: Tensor | None = None
        for start in range(0, len(self), size):
            numbers, inputs = [], []
            for k in range(start, min(start + size, len(self))):
                try:
                    inputs.append(self._net.preprocess(self._given[k]))
                except ImageError:
                    self.unreadable.append(self.names[k])
                    continue
                numbers.append(k)
                first = inputs[-1] if first is None else first
                check_sizes([first, inputs[-1]])
            if numbers:
                yield torch.tensor(numbers), torch.cat(inputs)
        if len(self.unreadable) == len(self):
            raise ImageError(f"none of the {len(self)} pictures can be read, the first is {self.names[0]}")


# The run --------------------------------------------------------------------------------------------------------------


@dataclass
class _LayerRecord:
    """What is known of one layer: for each checkpoint its peaks, and its correlation with the last."""

    name: str
    peaks: list[Peaks]
    likeness: list[Correlation]


class _Passes:
    """Passes over the pictures and projections, checkpoint by checkpoint, with one network."""

    def __init__(
        self, net: Network, sources: dict[int, Checkpoint], layers: Sequence[str], pictures: _Inputs, batch: int,
        progress: Report | None,
    ) -> None:  # fmt: skip
        self.net, self.sources, self.pictures, self.batch = net, list(sources.values()), pictures, batch
        self.layers = [_LayerRecord(x, [Peaks() for _ in sources], [Correlation() for _ in sources]) for x in layers]
        self.order = range(len(self.sources) - 1, -1, -1)  # the last is what the others are compared with
        self.progress, self.done = progress, 0
        self.steps = len(sources) * (-(-len(pictures) // batch) + len(layers))
        self.loaded: int | None = None
        self.policy: dict[str, object] = {}
        self.model: dict[str, str] = {}

    def put(self, number: int) -> None:
        """Put the weights of a checkpoint into the network."""
        if self.loaded != number:
            state, name = _state(self.sources[number])
            load_state(self.net.module, state, name)
            self.loaded = number

    def step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(min(self.done, self.steps), self.steps)

    def look(self) -> None:
        """All pictures through all checkpoints: the strongest activations, and the features' likeness."""
        names = [layer.name for layer in self.layers]
        for numbers, inputs in self.pictures.batches(self.batch):
            last: dict[str, Centred] = {}
            for e in self.order:
                self.put(e)
                found = features(self.net, inputs, names, self.batch)
                for layer in self.layers:
                    values = found.pop(layer.name)
                    check_maps(layer.name, values.shape)
                    layer.peaks[e].add(values, numbers)
                    centred = Centred(values)
                    layer.likeness[e].add(centred, last.setdefault(layer.name, centred))
                self.step()

    def fires(self, layer: int) -> Tensor:
        """(M,) True for the units that some picture lifts above zero at the last checkpoint."""
        value = self.layers[layer].peaks[-1].value
        assert value is not None
        return (value > 0).cpu()

    def project(self, chosen: Sequence[Tensor], method: str, overlap: str) -> tuple[EvolutionLayer, ...]:
        """The chosen units of each layer projected at every checkpoint."""
        parts = [_Part(self, layer, units, method, overlap) for layer, units in zip(self.layers, chosen, strict=True)]
        for e in self.order:
            self.put(e)
            for part in parts:
                part.at(e)
                self.step()
        return tuple(part.result() for part in parts)


class _Part:
    """Projections of the chosen units of one layer, checkpoint by checkpoint, the last first."""

    def __init__(self, run: _Passes, layer: _LayerRecord, units: Tensor, method: str, overlap: str) -> None:
        self.run, self.layer, self.units, self.how = run, layer, units, {"method": method, "overlap": overlap}
        rows = range(len(run.sources))
        peaks = layer.peaks
        self.pictures = torch.stack([peaks[e].picture[units].cpu() for e in rows])
        flat = torch.stack([peaks[e].place[units].cpu() for e in rows])
        self.places = torch.stack([flat // peaks[0].width, flat % peaks[0].width], 2)
        self.boxes = torch.zeros(*flat.shape, 4, dtype=torch.long)
        self.activations = torch.zeros(flat.shape)
        self.alike = torch.zeros(flat.shape)
        image = run.pictures.input(int(self.pictures[0, 0]))
        self.window = self._window(image)
        shape = (*flat.shape, image.shape[1], *self.window)
        self.pixels, self.photos = torch.zeros(shape), torch.zeros(shape)
        self.said: Projection | None = None

    def _window(self, image: Tensor) -> tuple[int, int]:
        """Rows and columns of the receptive field, no larger than the picture."""
        rec, found = self.run.net.record_to(image, self.layer.name)
        _, field = field_of(rec, found.value)
        return min(field[0], image.shape[2]), min(field[1], image.shape[3])

    def at(self, e: int) -> None:
        """Project at checkpoint `e`, whose weights are in the network: its own strongest, and the last's."""
        last = len(self.pictures) - 1
        for found, rows in self._project(e, list(range(len(self.units)))):
            self.activations[e, rows], self.boxes[e, rows] = found.activations.cpu().float(), found.boxes
            self.pixels[e, rows] = torch.stack([self._cut(found, found.pixels[n], n) for n in range(len(rows))])
            self.photos[e, rows] = torch.stack([self._cut(found, found.image, n) for n in range(len(rows))])
            if e == last:
                self.said = found
        same = (self.pictures[e] == self.pictures[last]) & (self.places[e] == self.places[last]).all(1)
        for k in same.nonzero()[:, 0].tolist():
            self.alike[e, k] = _cosine(self.pixels[e, k], self.pixels[last, k])
        for found, rows in self._project(last, (~same).nonzero()[:, 0].tolist()):
            for n, k in enumerate(rows):
                self.alike[e, k] = _cosine(self._cut(found, found.pixels[n], n), self.pixels[last, k])

    def _project(self, which: int, units: list[int]) -> Iterator[tuple[Projection, list[int]]]:
        """Projections, from where they were strongest at checkpoint `which`, and their rows: one for each picture."""
        rows: dict[int, list[int]] = {}
        for k in units:
            rows.setdefault(int(self.pictures[which, k]), []).append(k)
        for picture, chosen in rows.items():
            image, places = self.run.pictures.input(picture), self.places[which, chosen]
            numbers = self.units[chosen]
            yield project_one(self.run.net, image, self.layer.name, numbers, place=places, **self.how), chosen  # type: ignore[arg-type]

    def _cut(self, found: Projection, pixels: Tensor, n: int) -> Tensor:
        top, left = (int(found.boxes[n, k]) for k in (0, 1))
        height, width = self.window
        top, left = min(top, pixels.shape[1] - height), min(left, pixels.shape[2] - width)
        return pixels[:, top : top + height, left : left + width].cpu().float()

    def result(self) -> EvolutionLayer:
        """All that was found of the layer."""
        assert self.said is not None
        last = _state(self.run.sources[-1])[1]
        self.run.policy = dict(self.said.policy)
        self.run.model = {**self.said.model, "weights": f"{len(self.run.sources)} checkpoints, the last of them {last}"}
        likeness = torch.stack([x.result() for x in self.layer.likeness])
        return EvolutionLayer(
            self.said.layer, self.said.alias, self.units, self.activations, self.pictures, self.places, self.boxes,
            self.pixels, self.photos, likeness, self.alike,
        )  # fmt: skip


def _cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of two projections; 0 where one is empty: nothing there is like the other yet."""
    product = float(a.norm() * b.norm())
    return float((a * b).sum()) / product if product > 0 else 0.0
