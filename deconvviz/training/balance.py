"""Class scores freed of how frequent the categories were in training: logit adjustment.

After Menon et al., "Long-tail learning via logit adjustment" (2021). A network learns that some categories have ten
times as many pictures as others; the mean over categories, which the paper measures, asks each alike.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from deconvviz.results.score import score_of
from deconvviz.training.evaluation import probabilities
from deconvviz.training.plan import Course
from deconvviz.training.scaffold import ends_of
from deconvviz.training.state import Run

# How much of the logarithm of a category's share is taken from its score; the validation pictures choose.
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0)


def balanced(run: Run, course: Course, weights: Mapping[str, Tensor], size: int) -> tuple[dict[str, Tensor], float]:
    """`weights` with the biases of the last linear layer lowered by how frequent its categories are, and how strongly.

    The strength is the best of `STRENGTHS` on the validation pictures at input size `size`, the least of equals.
    Without validation pictures, or a last linear layer with a bias, nothing is changed.
    """
    module, data, validation = run.with_weights(weights), course.data, course.parts.validation
    last = ends_of(module, torch.zeros(1, run.card.channels, size, size)).linear
    if not validation or last is None or last.bias is None:
        return dict(weights), 0.0
    counts = torch.bincount(data.classes[course.parts.train], minlength=len(data.labels)).clamp(min=1)
    prior = (counts / counts.sum()).log()
    found = probabilities(module, run.card, data, validation, size, team=course.team).log()
    scores = [score_of_answers(found - s * prior, data.classes[validation]) for s in STRENGTHS]
    strength = STRENGTHS[scores.index(max(scores))]
    key = next(name for name, m in module.named_modules() if m is last) + ".bias"
    bias = weights[key].float() - strength * prior
    return {**weights, key: bias.to(weights[key].dtype)}, strength


def score_of_answers(scores: Tensor, truth: Tensor) -> float:
    """Mean per-category accuracy of the most probable classes of `scores` (N, classes)."""
    return score_of((scores.argmax(1) == truth).double(), truth).mean
