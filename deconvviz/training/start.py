"""The start of a run: the network, initialised, with what exists only while training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.card import Card
from deconvviz.errors import DeconvvizValueError
from deconvviz.models import registry
from deconvviz.models.recipes import Recipe
from deconvviz.network.weights import load_state, read_weights
from deconvviz.training.initialisation import Response, initialise
from deconvviz.training.plan import Course
from deconvviz.training.quick import quicken
from deconvviz.training.scaffold import Head, Norms, set_dropout
from deconvviz.training.schedule import optimiser
from deconvviz.training.state import Run
from deconvviz.training.views import centre, normalise, resized_side


def start(
    model: str, card: Card, course: Course, settings: dict[str, Any], weights: Path | None, initialised: bool
) -> Run:
    """The run at epoch 0, the same in all processes. `initialised`: a checkpoint will overwrite the weights."""
    recipe = course.recipe
    options: dict[str, Any] = {"classes": len(course.data.labels)}
    torch.manual_seed(course.seed)
    try:
        module = registry.build(model, **options)
    except ImportError as error:
        raise DeconvvizValueError(f"{model} needs a package that is not installed: {error}") from error
    quicken(module)
    _check_sizes(module, card, recipe)
    responses: Mapping[str, Response] = {}
    if weights is not None:
        load_state(module, read_weights(weights)[0], str(weights))
    elif not initialised and course.team.leads:  # the others follow it
        responses = _initialise(module, card, course)
    set_dropout(module, recipe.dropout, recipe.dropout_inputs)
    modules = nn.ModuleDict({"model": module})
    if course.teacher is not None:  # before the norms, whose statistics a look at the network must not move
        size = recipe.size_at(0) or max(card.input_size)
        modules["head"] = Head(module, torch.zeros(1, card.channels, size, size), course.teacher.width)
    modules["norms"] = Norms(module, responses) if recipe.batch_norm else Norms(nn.Identity())
    course.team.follow_(list(modules.state_dict().values()))
    run = Run(modules, optimiser(modules, recipe), settings, card, options)
    if recipe.ema:
        run.ema = {k: v.clone() for k, v in run.lasting().items()}
    return run


@torch.no_grad()
def _check_sizes(module: nn.Module, card: Card, recipe: Recipe) -> None:
    module.eval()
    for size in sorted({s for _, s in recipe.stages if s}):
        try:
            module(torch.zeros(1, card.channels, size, size))
        except RuntimeError as error:
            line = str(error).splitlines()[0]
            raise DeconvvizValueError(f"{card.name} does not take inputs of size {size}: {line}") from error


def _initialise(module: nn.Module, card: Card, course: Course) -> Mapping[str, Response]:
    kind = course.recipe.initialisation
    if kind == "data":
        return initialise(
            module, _sample(card, course), seed=course.seed, shown=lambda n, of: course.shown("initialisation", n, of)
        )
    if kind == "normal":
        _normal(module, course.recipe.input_scale)
    elif kind != "model":
        raise DeconvvizValueError(f"initialisation is '{kind}'; allowed: 'model', 'normal', 'data'")
    return {}


def _normal(module: nn.Module, input_scale: float) -> None:
    first = True
    for m in module.modules():
        if isinstance(m, nn.Conv2d | nn.Linear):
            nn.init.normal_(m.weight, 0.0, 0.01 * (input_scale if first else 1.0))
            if m.bias is not None:
                nn.init.zeros_(m.bias)
            first = False


def _sample(card: Card, course: Course) -> Tensor:
    """Up to 600 preprocessed training pictures, at the largest size of the recipe."""
    order = torch.randperm(len(course.parts.train), generator=torch.Generator().manual_seed(course.seed))[:600].tolist()
    size = largest_size(course.recipe, card)
    resize = resized_side(card, size)
    x = torch.stack([centre(course.data.pixels[course.parts.train[i]], resize, size) for i in order])
    return normalise(x.float() / 255, card)


def largest_size(recipe: Recipe, card: Card) -> int:
    """The largest input size of all epochs."""
    return max(s or max(card.input_size) for _, s in recipe.stages)
