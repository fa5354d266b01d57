"""What the units of a layer do to the scores of the classes: exactly where only linear operators lie between, else to
first order, picture by picture."""

from __future__ import annotations

import torch
from torch import Tensor

from deconvviz.analyses.projection.compute import class_shares
from deconvviz.engine.backward import walk_back
from deconvviz.engine.passes import plain_mode
from deconvviz.engine.readout import Readout, read_out
from deconvviz.engine.recorder import record
from deconvviz.engine.recording import Op, Recording
from deconvviz.engine.rules import Walk, rule_of
from deconvviz.engine.windows import from_whole
from deconvviz.errors import DeconvvizValueError
from deconvviz.network.network import Network

_WHAT = "what units do to the classes"
_CLASSES = 64  # sent back together: a thousand at once would be a thousand maps of every unit


def scores(net: Network, x: Tensor) -> tuple[Recording, Readout] | None:
    """A whole pass on the input `x` and how its class scores are read; None for a network without class scores."""
    try:
        rec = record(net.plain, x)
        readout = read_out(rec, _WHAT, net.output)
    except DeconvvizValueError:
        return None
    return (rec, readout) if readout.scores(rec.values[readout.value]).shape[1] > 1 else None


def direct_weights(net: Network, rec: Recording, readout: Readout, layer: str) -> Tensor | None:
    """The derivative of each logit by the mean activation of each unit of a layer, (classes, maps).

    None where it depends on the picture (something that is not linear lies between) or on the place in the map, and for
    the logits themselves.
    """
    value = net.find_layer(rec, layer).value
    if value == readout.value or rec.beyond is not None or not _linear(rec, value, readout.value):
        return None
    like, data = rec.values[readout.value], rec.values[value]
    classes = readout.scores(like).shape[1]
    parts = []
    with plain_mode(data.device.type):
        for start in range(0, classes, _CLASSES):
            numbers = range(start, min(start + _CLASSES, classes))
            seeds = torch.stack([readout.seed(like, number) for number in numbers])
            found = data.new_zeros(len(numbers), *data.shape[1:])
            walk_back(Walk(rec, "gradient", "add"), readout.value, from_whole(seeds), value, found)
            weights = found.flatten(2) if found.dim() == 4 else found[:, :, None]
            if not torch.allclose(weights, weights[:, :, :1].expand_as(weights), 1e-4, 1e-7):
                return None
            parts.append(weights.sum(2))
    return torch.cat(parts)


def shares(net: Network, rec: Recording, readout: Readout, layers: list[str]) -> tuple[int, list[Tensor]]:
    """The top class of a recorded picture, and for each layer what its units add to that class's logit, (maps,).

    As `project(…, units="class")`: Σ activation × ∂logit/∂activation over the map.
    """
    number = int(readout.scores(rec.values[readout.value]).argmax())
    with plain_mode(rec.values[0].device.type):
        values = [net.find_layer(rec, name).value for name in layers]
        return number, class_shares(net, rec, readout, number, values)


def _linear(rec: Recording, start: int, end: int) -> bool:
    """Whether `end` is an affine function of the value `start`, and of nothing else that depends on the picture."""
    reached, way = {start}, False
    for op in rec.ancestors([end]):
        if reached.isdisjoint(op.inputs):
            continue
        if not _affine(op) or not reached.issuperset(op.inputs):
            return False
        reached.update(value for value in op.outputs if value is not None)
        way = way or end in op.outputs
    return way


def _affine(op: Op) -> bool:
    """Whether an operator is linear in its one input that depends on the picture, up to a constant."""
    return rule_of(op).role in ("weights", "linear") and len(op.inputs) == 1
