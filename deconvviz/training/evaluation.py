"""How well a network names pictures: mean per-category accuracy, on one crop or ten."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deconvviz.card import Card
from deconvviz.data.pictures import Pictures
from deconvviz.engine.passes import untouched
from deconvviz.errors import DeconvvizValueError
from deconvviz.processes import Team
from deconvviz.results.score import Score, score_of
from deconvviz.training.views import centre, normalise, resized_side, ten_crops

_BATCH = 128


def logits_of(module: nn.Module, x: Tensor) -> Tensor:
    """Logits (N, classes) of inputs `x`; some networks return further heads while training."""
    y = module(x)
    return y if isinstance(y, Tensor) else y[0]


def accuracy(
    module: nn.Module,
    card: Card,
    data: Pictures,
    indices: Sequence[int],
    size: int,
    crops: int = 1,
    team: Team | None = None,
) -> float:
    """Mean per-category accuracy, 0..1: the mean of `score`."""
    return score(module, card, data, indices, size, crops, team).mean


def score(
    module: nn.Module,
    card: Card,
    data: Pictures,
    indices: Sequence[int],
    size: int,
    crops: int = 1,
    team: Team | None = None,
) -> Score:
    """Accuracy on the pictures `indices` at input size `size`, on one centre crop or the mean of ten.

    `module` is left as it is. The processes of `team` share the pictures among them. Raises
    `DeconvvizValueError` for other `crops`.
    """
    found = probabilities(module, card, data, indices, size, crops, team)
    truth = data.classes[torch.tensor(indices)]
    return score_of((found.argmax(1) == truth).double(), truth)


@torch.no_grad()
def probabilities(
    module: nn.Module,
    card: Card,
    data: Pictures,
    indices: Sequence[int],
    size: int,
    crops: int = 1,
    team: Team | None = None,
) -> Tensor:
    """Class probabilities (N, classes), float64, of the pictures `indices`; as `score`."""
    if crops not in (1, 10):
        raise DeconvvizValueError(f"crops is {crops}; allowed: 1, 10")
    team = team or Team()
    found = torch.zeros(len(indices), len(data.labels), dtype=torch.float64)
    with untouched(module) as run:
        for part in torch.split(torch.arange(team.rank, len(indices), team.size), max(_BATCH // crops, 1)):
            pictures = [data.pixels[indices[k]] for k in part.tolist()]
            found[part] = _probabilities(run, card, pictures, size, crops)
    team.add_([found])
    return found


def _probabilities(module: nn.Module, card: Card, pictures: Sequence[Tensor], size: int, crops: int) -> Tensor:
    """Class probabilities (N, classes) of each picture, averaged over its crops."""
    resize = resized_side(card, size)
    if crops == 1:
        x = torch.stack([centre(p, resize, size) for p in pictures])
    else:
        x = torch.cat([ten_crops(p, resize, size) for p in pictures])
    like = next(module.parameters())
    scores = logits_of(module, normalise(x.to(like.device).float() / 255, card).to(like.dtype)).double().softmax(1)
    return scores.view(len(pictures), crops, -1).mean(1).cpu()
