"""Fig. 1: a convolutional layer and the deconvolutional layer attached to it, with the switches, on real numbers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deconvviz.analyses.given import answer_of
from deconvviz.analyses.scheme.result import Scheme
from deconvviz.engine.backward import walk_back
from deconvviz.engine.layers import follow
from deconvviz.engine.passes import plain_mode
from deconvviz.engine.recorder import record
from deconvviz.engine.recording import Op, Recording
from deconvviz.engine.rules import Walk, Windowed, rule_of
from deconvviz.engine.windows import Signal, Windows
from deconvviz.errors import UnsupportedOperatorError
from deconvviz.network.network import Network

if TYPE_CHECKING:
    from PIL import Image

PIECE = 3  # rows and columns of pool outputs that are shown as numbers


def scheme(net: Network, image: str | os.PathLike[str] | Image.Image | Tensor) -> Scheme:
    """Return what the first max-pooled convolution of `net` does with `image`, and the DeconvNet on the way back.

    The signal is the strongest activation of the convolution above the pool. Of the layer the one map is kept that
    takes the most of it where it is active.

    Raises `UnsupportedOperatorError` for a network without a convolution, a max pooling and a convolution above it.

    >>> s = deconvviz.scheme(deconvviz.load("zfnet"), "image.jpg")
    >>> s.layer, s.window
    ('conv1', (3, 2, 0))
    """
    x = net.preprocess(image)
    rec = record(net.module, x)
    pool, conv, act, above = _layer(rec)
    with plain_mode(x.device.type):
        start, unit_above, seed = _seed(rec, above)
        walk = Walk(rec, "deconvnet", "add")
        sent = {v: _sent(walk, start, seed, v) for v in (pool.outputs[0], act, conv, 0) if v is not None}
    pooled_value = pool.outputs[0]
    assert pooled_value is not None
    unit = _most(sent[act], rec.values[act][0])
    signal = sent[pooled_value][unit]
    return Scheme(
        layer=_convolution(rec, conv),
        unit=unit,
        above=(rec.producer[start].module, unit_above),
        corner=_corner(signal, rec.values[pooled_value][0, unit]),
        window=_window(pool),
        image=x[0],
        convolved=rec.values[conv][0, unit],
        rectified=rec.values[act][0, unit],
        pooled=rec.values[pooled_value][0, unit],
        switches=_switches(rec, pool)[unit],
        signal=signal,
        unpooled=sent[act][unit],
        passed=sent[conv][unit],
        pixels=sent[0],
        policy={"method": "deconvnet", "overlap": "add", "lrn": "identity", "bias": "dropped"},
        mean=net.card.mean,
        std=net.card.std,
        labels=net.card.labels,
        answer=answer_of(net, x),
        model=net.facts(),
    )


def _layer(rec: Recording) -> tuple[Op, int, int, int]:
    """The first max pool, the values before it (convolved, rectified), and the value of the convolution above."""
    pool = next((op for op in rec.ops if op.name.startswith("max_pool2d")), None)
    below = rec.producer.get(pool.inputs[0]) if pool is not None else None
    above = next(
        (op for op in rec.ops if pool is not None and op.index > pool.index and op.name == "convolution"), None
    )
    if pool is None or below is None or above is None or above.outputs[0] is None:
        raise UnsupportedOperatorError(
            "Fig. 1 needs a convolution, a max pooling of it and a convolution above; this network has no such layers"
        )
    act = pool.inputs[0]
    conv = below.inputs[0] if rule_of(below).role == "activation" else act
    return pool, conv, act, above.outputs[0]


def _seed(rec: Recording, value: int) -> tuple[int, int, Signal]:
    """The value after its activation, the unit of its strongest activation, and that activation as a signal."""
    start = follow(rec, value)
    maps = rec.values[start]
    flat = int(maps.flatten().argmax())
    unit, row, column = (int(n) for n in torch.unravel_index(torch.tensor(flat), maps.shape)[1:])
    data = maps.new_zeros(1, maps.shape[1], 1, 1)
    data[0, unit] = maps[0, unit, row, column]
    at = Windows(np.array([row]), np.array([column]), 1, 1, (maps.shape[2], maps.shape[3]))
    return start, unit, Signal(data, at)


def _sent(walk: Walk, start: int, seed: Signal, end: int) -> Tensor:
    """The signal (C, h, w) as it arrives at the value `end`."""
    out = torch.zeros_like(walk.rec.values[end])
    walk_back(walk, start, seed, end, out)
    return out[0]


def _window(pool: Op) -> tuple[int, int, int]:
    """Kernel, stride and padding of a pool, one number for both axes."""
    rule = rule_of(pool)
    assert isinstance(rule, Windowed)
    kernel = rule.kernel(pool)
    return kernel.size[0], kernel.stride[0], kernel.padding[0]


def _switches(rec: Recording, pool: Op) -> Tensor:
    """Where each maximum of the pool is: row and column in the map, (C, h', w', 2)."""
    args, kwargs = rec.fill(pool)
    indices: Tensor = pool.func(*args, **kwargs)[1][0]
    width = rec.values[pool.inputs[0]].shape[3]
    return torch.stack([indices // width, indices % width], -1)


def _convolution(rec: Recording, value: int) -> str:
    """The module of the convolution that a value comes from, through a normalisation."""
    first = rec.producer[value].index
    found = [op.module for op in rec.ops[: first + 1] if op.name == "convolution"]
    return found[-1] if found else rec.producer[value].module


def _most(signal: Tensor, maps: Tensor) -> int:
    """The map (of C, h, w) where most of the signal meets activations; of none, where there is most signal."""
    shared = (signal.abs() * maps.abs()).sum((1, 2))
    return int((shared if bool(shared.any()) else signal.abs().sum((1, 2))).argmax())


def _corner(signal: Tensor, pooled: Tensor) -> tuple[int, int]:
    """Where a piece of `PIECE` outputs on a side has most of the signal, at places that are active if there are any;
    a row away from the border if it can be."""
    height, width = signal.shape
    weight = signal.abs() * pooled.abs()
    weight = weight if bool(weight.any()) else signal.abs()
    sums = weight.unfold(0, min(PIECE, height), 1).unfold(1, min(PIECE, width), 1).sum((2, 3))
    inner = torch.zeros_like(sums)
    if min(sums.shape) > 2:
        inner[1:-1, 1:-1] = sums[1:-1, 1:-1]
        sums = inner if bool(inner.any()) else sums
    row, column = divmod(int(sums.flatten().argmax()), sums.shape[1])
    return row, column
