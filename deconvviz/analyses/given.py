"""What results keep of a picture as it was given: all of it, small, which part was used, and the network's answer;
and the classes that are asked of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvviz.analyses.features import OUTPUT, features
from deconvviz.data.images import read_image
from deconvviz.engine.readout import output_of
from deconvviz.engine.recording import Recording
from deconvviz.errors import DeconvvizError, DeconvvizValueError
from deconvviz.network.network import Network
from deconvviz.network.preprocessing import Picture, shown_region

_SIDE = 360  # pixels of the longer side of the whole picture, as it is kept
_ALL = 0.01  # what may be left out of a side before that is worth a word


def whole_of(net: Network, image: Picture) -> dict[str, Any]:
    """`whole` and `region` of a `OnePictureResult`, as its arguments; nothing where the input shows the whole picture.

    Nothing for a preprocessed tensor either: nobody knows its picture.
    """
    if isinstance(image, Tensor):
        return {}
    picture = read_image(image)
    found = shown_region((picture.height, picture.width), net.card)
    if found is None:  # a transform of the user's own
        return {}
    region = tuple(float(at) / side for at, side in zip(found, (picture.height, picture.width) * 2, strict=True))
    if max(region[0], region[1], 1 - region[2], 1 - region[3]) <= _ALL:
        return {}
    picture.thumbnail((_SIDE, _SIDE))
    return {"whole": torch.from_numpy(np.asarray(picture.convert("RGB")).copy()), "region": region}


def answer_of(net: Network, x: Tensor) -> tuple[int, float] | None:
    """The most probable class of the input `x` and its probability; None without labels or class scores."""
    found = _answers(net, logits_of(net, x))
    return found[0] if found else None


def answers_of(net: Network, logits: Tensor | None) -> dict[str, Any]:
    """`answers` and `certainties` of a `SeveralPicturesResult`, as its arguments, from its `logits_of`."""
    found, labels = _answers(net, logits), net.card.labels
    return {
        "answers": tuple(labels[n] if n < len(labels) else f"class {n}" for n, _ in found),
        "certainties": tuple(share for _, share in found),
    }


def logits_of(net: Network, inputs: Tensor, batch: int = 32) -> Tensor | None:
    """Logits (N, classes) of inputs; None for a network without, or without labels."""
    if not net.card.labels:
        return None
    try:
        found = features(net, inputs, [OUTPUT], batch)[OUTPUT]
    except DeconvvizError:  # it returns something else
        return None
    return found if found.dim() == 2 else None


def answer_in(net: Network, rec: Recording) -> tuple[int, float] | None:
    """As `answer_of`, of a picture whose pass was recorded."""
    if rec.refused is not None:
        return None
    try:
        logits = rec.values[output_of(rec, "this", net.output)]
    except DeconvvizError:
        return None
    found = _answers(net, logits if logits.dim() == 2 else None)
    return found[0] if found else None


def _answers(net: Network, logits: Tensor | None) -> list[tuple[int, float]]:
    """The most probable class of each picture and its probability; none without labels."""
    if logits is None or not net.card.labels:
        return []
    shares, classes = logits.double().softmax(1).max(1)
    return list(zip(classes.tolist(), shares.tolist(), strict=True))


def targets_of(target: Any, count: int) -> list[Any]:
    """The class in question of each of `count` pictures."""
    several = isinstance(target, Sequence) and not isinstance(target, str) and not _has_places(target)
    targets = list(target) if several else [target] * count
    if len(targets) != count:
        raise DeconvvizValueError(f"target has {len(targets)} classes for {count} pictures")
    return targets


def _has_places(target: Sequence[Any]) -> bool:
    """Whether this is (class, where) and not one class for each of two pictures."""
    return isinstance(target, tuple) and len(target) == 2 and not isinstance(target[1], int | str | None)
