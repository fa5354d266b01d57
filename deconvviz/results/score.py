"""Accuracy as the paper counts it, the mean over categories, with what chance may have had in it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Score(NamedTuple):
    """Mean per-category accuracy, 0..1, and its standard error, from the spread within each category."""

    mean: float
    error: float


def score_of(right: Tensor, truth: Tensor) -> Score:
    """The score of answers: `right` (N,) 0 or 1, `truth` (N,) their categories.

    The variance of a category with a single picture, which shows none, is that of all answers.
    """
    parts = [right[truth == c].double() for c in torch.unique(truth)]
    means = torch.stack([part.mean() for part in parts])
    pooled = float(right.double().var(correction=0))
    spread = sum((float(part.var()) if len(part) > 1 else pooled) / len(part) for part in parts)
    return Score(float(means.mean()), math.sqrt(spread) / len(parts))
