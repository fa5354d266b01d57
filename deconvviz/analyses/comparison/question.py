"""What several methods are asked alike: why one number of one recorded pass, a class score or a unit, is what it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from deconvviz.analyses.projection.compute import unit_numbers
from deconvviz.engine.geometry import boxes
from deconvviz.engine.layers import FoundLayer, layer_maps
from deconvviz.engine.readout import Readout
from deconvviz.engine.recorder import record
from deconvviz.engine.recording import Recording
from deconvviz.engine.windows import Patch, RecordedMap
from deconvviz.errors import DeconvvizValueError, UnsupportedOperatorError
from deconvviz.network.finite import check_value
from deconvviz.network.network import Network, Target

# What makes a map coarser, or cuts it so that it no longer lies over the whole picture.
_LOSES = ("max_pool2d_with_indices", "adaptive_max_pool2d", "avg_pool2d", "_adaptive_avg_pool2d", "slice")


@dataclass(frozen=True)
class Question:
    """One number of the pass `rec` of a picture, its **score**: the logit of class `number`, or the activation of unit
    `number` at its `place` in a layer's map.

    `value` is the recorded value that it is read from, `cam` the layer at which maps are weighted (Grad-CAM); None
    where there is none. What a method needs by chance comes from `seed`.
    """

    net: Network
    rec: Recording
    value: int
    number: int
    readout: Readout | None
    place: tuple[int, int] | None
    cam: FoundLayer | None
    seed: int = 0

    @property
    def image(self) -> Tensor:
        """The network's input, (1, C, H, W)."""
        return self.rec.values[0]

    @cached_property
    def derivative(self) -> Tensor:
        """The derivative of the score by the recorded value, in its shape: what methods send back."""
        like = self.rec.values[self.value]
        if self.readout is not None:
            return self.readout.seed(like, self.number)
        found = torch.zeros_like(like)
        at: tuple[int, ...] = self.place if self.place is not None and like.dim() == 4 else ()
        found[0, self.number][at] = 1
        return found

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """The pixels that can change the score: top, left, bottom, right, half-open."""
        height, width = self.image.shape[2:]
        if self.place is None or self.rec.values[self.value].dim() != 4:
            return 0, 0, height, width
        top, left, bottom, right = boxes(self.rec, self.value, [self.place])[0].tolist()
        return top, left, bottom, right

    @cached_property
    def _recorded(self) -> RecordedMap | None:
        """What of the recorded map the score is read from, as changes of it are laid upon."""
        value = self.rec.values[self.value]
        return RecordedMap(self._own(value)) if value.dim() == 4 else None

    def _own(self, data: Tensor) -> Tensor:
        return data if self.readout is not None else data[:, self.number : self.number + 1]

    def answers(self, patch: Patch) -> Tensor:
        """What K changed pictures make of it, float64 on the CPU: all class scores (K, classes), or the unit (K, 1)."""
        own = Patch(self._own(patch.data), patch.windows)
        data = own.data if self._recorded is None else self._recorded.changed(own)
        if self.readout is not None:
            found = self.readout.scores(data)
        else:
            found = data if self.place is None or data.dim() != 4 else data[:, :, self.place[0], self.place[1]]
        return found.double().cpu()

    def scores(self, answers: Tensor) -> Tensor:
        """The scores (K,) of `answers`: logits, or activations."""
        return answers[:, self.number if self.readout is not None else 0]

    def measured(self, answers: Tensor) -> Tensor:
        """What curves show of `answers`, (K,): the class's probability, or the activation."""
        return answers.softmax(1)[:, self.number] if self.readout is not None else answers[:, 0]

    def of(self, x: Tensor) -> Question:
        """The same question about another picture (1, C, H, W) of that size."""
        rec = record(self.net.plain, x)
        if [op.name for op in rec.ops] != [op.name for op in self.rec.ops]:
            raise DeconvvizValueError("the model does not run the same operators on a blurred picture")
        return replace(self, rec=rec)


def ask(
    net: Network, x: Tensor, target: Target = None, layer: Any = None, unit: int | None = None, mode: str = "class",
    output: str | None = None, seed: int = 0,
) -> Question:  # fmt: skip
    """The question why the input `x` (1, C, H, W) has the score that it has, ready for every method.

    In `mode` "class" it is the logit of `target` (a class or label, None: the top one; `output` says which of several
    outputs holds logits), and `layer` is the one whose maps Grad-CAM weighs, by default the last that has a map. In
    "unit" it is `unit` of `layer` (None: the strongest) at the place where it is strongest.
    """
    rec = record(net.plain, x)
    if rec.sized is not None:
        raise UnsupportedOperatorError(str(rec.sized)) from None
    if mode == "unit":
        return _unit(net, rec, layer, unit, seed)
    readout, number = net.read_out(rec, "compare", target, output)
    if not net.allow_nonfinite:
        check_value(rec, readout.value, "the output")
    cam = _last_map(rec, readout.value) if layer is None else net.find_layer(rec, layer)
    if cam is not None and layer is not None and rec.values[cam.value].dim() != 4:
        raise DeconvvizValueError(f"layer '{layer}' has no map; allowed: one of (N, C, H, W)")
    return Question(net, rec, readout.value, number, readout, None, cam, seed)


def _unit(net: Network, rec: Recording, layer: Any, unit: int | None, seed: int) -> Question:
    found = net.find_layer(rec, layer)
    maps = layer_maps(rec, found)
    if not net.allow_nonfinite:
        check_value(rec, found.value, f"'{found.alias or found.path}'")
    number = int(maps.flatten(1).amax(1).argmax()) if unit is None else int(unit_numbers(unit, maps)[0])
    place = divmod(int(maps[number].argmax()), maps.shape[2])
    cam = found if rec.values[found.value].dim() == 4 else None
    return Question(net, rec, found.value, number, None, place, cam, seed)


def _last_map(rec: Recording, value: int) -> FoundLayer | None:
    """The last map on the way to `value` that is larger than one place, as it is before it is pooled or cut."""
    for op in reversed(rec.ancestors((value,))):
        found = op.outputs[0]
        if found is None or found == value or not _is_map(rec, found):
            continue
        while op.name in _LOSES and op.inputs[0] in rec.producer:
            found = op.inputs[0]
            op = rec.producer[found]
        return FoundLayer(found, _path(rec, found))
    return None


def _is_map(rec: Recording, value: int) -> bool:
    shape = rec.values[value].shape
    return len(shape) == 4 and shape[0] == 1 and min(shape[2:]) > 1


def _path(rec: Recording, value: int) -> str:
    """The shortest path of a module that returns the value, or of the one in which it is made."""
    returned = [path for path, calls in rec.calls.items() if value in calls]
    return min(returned, key=len) if returned else rec.producer[value].module
