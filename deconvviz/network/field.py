"""The receptive field of one place of a layer of a network."""

from __future__ import annotations

import operator
from typing import Any

from torch import nn

from deconvviz.engine.geometry import boxes
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError
from deconvviz.network.layers import example_input
from deconvviz.network.network import Network


def receptive_field(model: Network, layer: str | nn.Module, place: tuple[int, int]) -> tuple[int, int, int, int]:
    """Receptive field (top, left, bottom, right), half-open, clipped to the image, of `place` (row, column) of a layer.

    `model` is a Network (its card gives the input size). Raises for an unknown layer or a place outside the map.

    >>> deconvviz.receptive_field(deconvviz.load("zfnet"), "conv5", (6, 6))
    (47, 47, 186, 186)
    """
    if not isinstance(model, Network):
        raise DeconvvizTypeError(
            "receptive_field needs a Network, which knows its input size; wrap the module in Network"
        )
    rec, found = model.record_to(example_input(model.module, model.card.channels, model.card.input_size), layer)
    shape = rec.values[found.value].shape
    height, width = (shape[2], shape[3]) if len(shape) == 4 else (1, 1)
    row, col = _place(place)
    if not (0 <= row < height and 0 <= col < width):
        raise DeconvvizValueError(f"place {(row, col)} is outside the {height}×{width} map of layer '{found.path}'")
    box = boxes(rec, found.value, [(row, col)])[0].tolist()
    return box[0], box[1], box[2], box[3]


def _place(place: Any) -> tuple[int, int]:
    try:
        row, col = (operator.index(number) for number in place)
    except (TypeError, ValueError):
        raise DeconvvizTypeError(f"place is {place!r}; allowed: two whole numbers (row, column)") from None
    return row, col
