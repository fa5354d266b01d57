"""Which pictures a network has learned from: kept as perceptual hashes inside its file of weights."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvviz.data import likeness
from deconvviz.errors import WeightsError


@dataclass(frozen=True)
class Seen:
    """Perceptual hashes (N, 32) uint8 of the pictures that a network was `trained` on, and of those that choices (which
    epoch, which rate) were made on, `chosen`."""

    trained: Tensor
    chosen: Tensor

    @classmethod
    def nothing(cls) -> Seen:
        """Of weights that have learned from no picture."""
        return cls(likeness.stack(()), likeness.stack(()))

    def untouched(self, hashes: Tensor) -> Tensor:
        """Which pictures (M,) bool, given as `hashes` (M, 32), had no part in it: neither they nor one like them."""
        return ~likeness.known(hashes, torch.cat([self.trained, self.chosen]))

    def __len__(self) -> int:
        return len(self.trained) + len(self.chosen)


def seen_text(seen: Seen) -> dict[str, str]:
    """`seen` as text, for the metadata of a file of weights."""
    return {name: base64.b64encode(getattr(seen, name).numpy().tobytes()).decode() for name in ("trained", "chosen")}


def seen_from(facts: Mapping[str, Any], source: str) -> Seen | None:
    """What `seen_text` has written into the metadata `facts` of the file `source`; None if it says nothing.

    Raises `WeightsError` if it is damaged.
    """
    text = facts.get("pictures")
    if text is None:
        return None
    try:
        parts = [np.frombuffer(base64.b64decode(text[name], validate=True), np.uint8) for name in ("trained", "chosen")]
        trained, chosen = (torch.from_numpy(part.copy()).view(-1, likeness.BYTES) for part in parts)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{source} is damaged: what it says of its training pictures cannot be read") from error
    return Seen(trained, chosen)
