"""The layers of a network: maps, sizes, strides and receptive fields."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.card import Card
from deconvviz.engine.geometry import field_of
from deconvviz.engine.passes import EndOfPass, fitting, plain_mode, untouched
from deconvviz.engine.recorder import record
from deconvviz.engine.recording import Recording
from deconvviz.results.table import Table


@dataclass(frozen=True)
class Layer:
    """One row of `Network.layers()`.

    `maps` is the number of feature maps (units), `size` their (height, width) or None for (N, C) outputs, `stride` and
    `receptive_field` (rows, columns) in input pixels; a layer that reads everything has the input's own size.

    >>> for layer in deconvviz.load("lenet").layers()[:3]:
    ...     print(layer.name, layer.aliases, layer.operator, layer.maps, layer.size)
    features.conv1 ('conv1', '1') Conv2d 6 (24, 24)
    features.relu1 () ReLU 6 (24, 24)
    features.pool1 () MaxPool2d 6 (12, 12)
    """

    name: str
    aliases: tuple[str, ...]
    operator: str
    maps: int
    size: tuple[int, int] | None
    stride: tuple[int, int]
    receptive_field: tuple[int, int]


class Layers(list[Layer]):
    """What `Network.layers()` returns: a list, which a notebook shows as a table."""

    def table(self) -> Table:
        """The layers as a table: sizes as `27`, or `27x14` (rows x columns)."""
        columns = ("layer", "aliases", "operator", "maps", "size", "receptive field", "stride")
        rows = (
            (x.name, ", ".join(x.aliases), x.operator, x.maps, *map(_sides, (x.size, x.receptive_field, x.stride)))
            for x in self
        )
        return Table(columns, tuple(rows))

    def _repr_html_(self) -> str:
        return self.table().html()


def _sides(value: tuple[int, int] | None) -> str:
    if value is None:
        return "-"
    return str(value[0]) if value[0] == value[1] else f"{value[0]}x{value[1]}"


def example_input(module: nn.Module, channels: int, size: tuple[int, int]) -> Tensor:
    """A picture of zeros (1, C, H, W) on the module's device and in its dtype.

    `channels` 0 (a card without mean and std) stands for as many as the first convolution that runs takes, or as become
    so many maps before it (by a PixelUnshuffle, by slices side by side).
    """
    return fitting(module, torch.zeros(1, channels or own_channels(module, size), *size))


def own_channels(module: nn.Module, size: tuple[int, int]) -> int:
    """How many channels a network takes, told by its first convolution; 3 where there is none."""
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)), None)
    return 3 if first is None else _channels(module, first.in_channels, size)


def _channels(module: nn.Module, likely: int, size: tuple[int, int]) -> int:
    """How many channels a network takes, of which a convolution takes the `likely` number of maps."""
    for number in dict.fromkeys((likely, 3, 1)):
        found = _at_first_convolution(module, fitting(module, torch.zeros(1, number, *size)))
        if found is not None and found[0] * number % found[1] == 0:
            return found[0] * number // found[1]
    return likely


def _at_first_convolution(module: nn.Module, x: Tensor) -> tuple[int, int] | None:
    """How many maps the first convolution that runs takes, and how many it is given for the picture `x`."""
    found: list[tuple[int, int]] = []

    def hook(convolution: nn.Module, inputs: tuple[Any, ...]) -> None:
        given = inputs[0].shape[1] if inputs and isinstance(inputs[0], Tensor) and inputs[0].dim() == 4 else 0
        found.append((int(convolution.in_channels), int(given)))  # type: ignore[arg-type]  # only convolutions have it
        raise EndOfPass

    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    handles = [m.register_forward_pre_hook(hook, prepend=True) for m in convolutions]
    try:
        # Whatever a model says of a picture that it cannot take, it takes another or none.
        with plain_mode(x.device.type), untouched(module), contextlib.suppress(EndOfPass, Exception):
            module(x)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found and found[0][1] else None


def layers(module: nn.Module, card: Card, size: tuple[int, int]) -> Layers:
    """Every leaf module that runs for a picture of this size, in the order of running; see `Layer`."""
    return layers_of(record(module, example_input(module, card.channels, size)), card)


def layers_of(rec: Recording, card: Card) -> Layers:
    """Every leaf module that ran in a recorded pass, in that order.

    A module called twice stands once for each call, as `path#0`, `path#1`.
    """
    inner = {p.rpartition(".")[0] for p in rec.kinds if p}
    short: dict[str, list[str]] = {}
    for alias, path in card.aliases.items():
        short.setdefault(path, []).append(alias)
    rows: list[tuple[int, Layer]] = []
    for path, calls in rec.calls.items():
        if not path or (path in inner and path not in short):
            continue
        for n, value in enumerate(calls):
            if value is None or value not in rec.producer or len(rec.values[value].shape) not in (2, 4):
                continue
            name = path if len(calls) == 1 else f"{path}#{n}"
            rows.append((value, _row(rec, name, tuple(short.get(path, ())), rec.kinds[path], value)))
    return Layers(row for _, row in sorted(rows, key=lambda r: r[0]))


def _row(rec: Recording, name: str, aliases: tuple[str, ...], kind: str, value: int) -> Layer:
    shape = rec.values[value].shape
    stride, field = field_of(rec, value)
    size = (int(shape[2]), int(shape[3])) if len(shape) == 4 else None
    return Layer(name, aliases, kind, int(shape[1]), size, stride, field)
