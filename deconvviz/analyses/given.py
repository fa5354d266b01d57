"""What results keep of a picture as it was given: all of it, small, which part was used, and the network's answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvviz.analyses.features import OUTPUT, features
from deconvviz.data.images import read_image
from deconvviz.engine.readout import output_of
from deconvviz.engine.recording import Recording
from deconvviz.errors import DeconvvizError
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
    if not net.card.labels:
        return None
    try:
        logits = features(net, x, [OUTPUT])[OUTPUT]
    except DeconvvizError:  # it returns something else
        return None
    return _answer(logits)


def answer_in(net: Network, rec: Recording) -> tuple[int, float] | None:
    """The same of a picture whose pass was recorded."""
    if not net.card.labels or rec.refused is not None:
        return None
    try:
        return _answer(rec.values[output_of(rec, "this", net.output)])
    except DeconvvizError:
        return None


def _answer(logits: Tensor) -> tuple[int, float] | None:
    if logits.dim() != 2:
        return None
    probability = logits[0].double().softmax(0)
    return int(probability.argmax()), float(probability.max())
