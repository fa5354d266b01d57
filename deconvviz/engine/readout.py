"""What a network says of a picture: class scores read from what its forward pass returned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deconvviz.engine.recording import UNSEEN, Recording
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnknownNameError, suggest


@dataclass(frozen=True)
class Readout:
    """Class scores (K, classes) of what came out, the recorded value with the number `value`.

    Logits (N, classes), or (N, classes, 1, 1), are the scores. Of a dense output (N, classes, H, W), the scores of
    every place, `weights` (H, W), which sum to 1, say how much each place counts.
    """

    value: int
    weights: Tensor | None = None

    def scores(self, data: Tensor) -> Tensor:
        """The class scores (K, classes) of outputs (K, classes) or (K, classes, H, W)."""
        if data.dim() == 2:
            return data
        if self.weights is None:
            return data[:, :, 0, 0]
        # A place that does not count may hold anything.
        places = self.weights.flatten().nonzero()[:, 0]
        return data.flatten(2)[:, :, places] @ self.weights.flatten()[places].to(data)

    def seed(self, like: Tensor, number: int) -> Tensor:
        """The derivative of the score of class `number` by the output `like`, in its shape."""
        seed = torch.zeros_like(like)
        seed[0, number] = 1 if self.weights is None else self.weights.to(like)
        return seed


def read_out(rec: Recording, what: str, output: str | None = None, where: Any = None) -> Readout:
    """How class scores are read from the pass `rec`; `what` needs them, in words.

    `output` names one of several values that came out ("logits", "0"); None takes the only one that can be logits.
    `where` says which places of a dense output count: (row, column), a boolean mask (H, W), or None for their mean.

    Raises `UnknownNameError` and `DeconvvizValueError` that say what came out.
    """
    value = output_of(rec, what, output)
    shape = tuple(rec.values[value].shape)
    if _flat(shape):
        if where is not None:
            raise DeconvvizValueError(f"target names a place, but the output has none: it is {shape}")
        return Readout(value)
    if len(shape) != 4 or shape[0] != 1:
        raise DeconvvizValueError(
            f"{what} needs a model whose output is logits (N, classes) or maps of them (N, classes, H, W); "
            f"this one returns {shape if output else rec.returned}"
        )
    return Readout(value, _weights(where, shape[2], shape[3]))


def _flat(shape: Sequence[int]) -> bool:
    """Whether a value of this shape is the logits of one picture."""
    return len(shape) in (2, 4) and shape[0] == 1 and all(n == 1 for n in shape[2:])


def output_of(rec: Recording, what: str, output: str | None = None) -> int:
    """The value that came out, of several the one named `output`, or the only one that can be logits."""
    if output is not None:
        if output not in rec.outputs:
            known = ", ".join(rec.outputs) or "nothing that depends on the picture"
            raise UnknownNameError(f"output is '{output}'; the model returns {known}{suggest(output, rec.outputs)}")
        return rec.outputs[output]
    values = list(dict.fromkeys(rec.outputs.values()))
    if len(values) > 1:  # the only one that can be logits
        values = [v for v in values if _flat(rec.values[v].shape)]
    if not values and rec.returned.startswith("("):
        raise DeconvvizValueError(
            f"{what} needs an output made from the image by operators that can be recorded; this model returns a "
            f"tensor {rec.returned} of which none is known to depend on the image: {UNSEEN}"
        )
    if len(values) != 1:
        names = f"; say which is meant, output={' or '.join(map(repr, rec.outputs))}" if len(rec.outputs) > 1 else ""
        raise DeconvvizValueError(f"{what} needs logits (N, classes); this model returns {rec.returned}{names}")
    return values[0]


def _weights(where: Any, height: int, width: int) -> Tensor:
    weights = torch.zeros(height, width, dtype=torch.float64)
    if where is None:
        return weights.fill_(1 / (height * width))
    try:
        given = torch.as_tensor(where).cpu()
    except (TypeError, ValueError, RuntimeError):
        raise DeconvvizTypeError(f"target's place is {where!r}; allowed: (row, column), or a mask (H, W)") from None
    if given.dtype == torch.bool:
        if tuple(given.shape) != (height, width) or not bool(given.any()):
            raise DeconvvizValueError(
                f"target's mask is {tuple(given.shape)} with {int(given.sum())} places; the output has {height}×{width}"
            )
        return given / given.sum().double()
    if tuple(given.shape) != (2,) or given.is_floating_point():
        raise DeconvvizValueError(f"target's place is {where!r}; allowed: (row, column), or a boolean mask (H, W)")
    row, column = given.tolist()
    if not (0 <= row < height and 0 <= column < width):
        raise DeconvvizValueError(f"target's place ({row}, {column}) is outside the {height}×{width} output")
    weights[row, column] = 1
    return weights
