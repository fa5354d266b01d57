"""What a run is to be: the recipe with the caller's changes, and the pictures and processes it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from deconvviz.data.pictures import Pictures, Split
from deconvviz.errors import DeconvvizValueError, UnknownNameError, suggest
from deconvviz.models.recipes import RECIPES, Recipe, recipe_for
from deconvviz.processes import Team
from deconvviz.progress import Report
from deconvviz.training.teacher import Teacher
from deconvviz.training.views import Views, seed_of

PRECISIONS = ("float32", "bfloat16")
Shown = Callable[[str, int, int], None]


def recipe_of(recipe: str | Recipe | None, model: str) -> Recipe:
    """The recipe itself, that of this name, or the one that suits `model`. Raises `UnknownNameError`."""
    if isinstance(recipe, Recipe):
        return recipe
    name = recipe or recipe_for(model)
    if name not in RECIPES:
        allowed = ", ".join(RECIPES)
        raise UnknownNameError(f"unknown recipe '{name}'; allowed: {allowed}{suggest(name, RECIPES)}")
    return RECIPES[name]


@dataclass(frozen=True)
class Changes:
    """What a caller sets instead of the recipe; None leaves it. Raises `DeconvvizValueError`.

    `epochs`: all of them, the recipe's stages keep their shares; `size`: the input size of all epochs;
    `stages`: both at once, as (epochs, input size) one after the other; `flip`: probability of a mirror image.
    """

    epochs: int | None = None
    size: int | None = None
    stages: Sequence[tuple[int, int]] | None = None
    batch: int | None = None
    lr: float | None = None
    flip: float | None = None
    precision: str | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "size", "batch", "lr"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise DeconvvizValueError(f"{name} is {value}; allowed: above 0")
        if self.stages is not None and (self.epochs, self.size) != (None, None):
            raise DeconvvizValueError("give either stages or epochs and size, not both")
        if self.stages is not None and not (self.stages and all(n > 0 and s > 0 for n, s in self.stages)):
            raise DeconvvizValueError(f"stages are {self.stages}; allowed: pairs (epochs, input size) above 0")
        if self.flip is not None and not 0 <= self.flip <= 1:
            raise DeconvvizValueError(f"flip is {self.flip}; allowed: 0 to 1")
        if self.precision not in (None, *PRECISIONS):
            raise DeconvvizValueError(f"precision is '{self.precision}'; allowed: {', '.join(PRECISIONS)}")

    def apply(self, recipe: Recipe) -> Recipe:
        """The recipe with these changes."""
        augmentation = recipe.augmentation
        if self.flip is not None:
            augmentation = replace(augmentation, flip=self.flip)
        # What goes on from a recipe was made for it as it stands.
        stands = all(value is None for value in (self.epochs, self.size, self.stages, self.lr))
        return replace(
            recipe,
            then=recipe.then if stands else "",
            stages=self._stages(recipe),
            batch=self.batch or recipe.batch,
            lr=self.lr or recipe.lr,
            augmentation=augmentation,
            precision=self.precision or recipe.precision,
        )

    def _stages(self, recipe: Recipe) -> tuple[tuple[int, int], ...]:
        stages = recipe.stages
        if self.stages is not None:
            return tuple((n, s) for n, s in self.stages)
        if self.epochs is not None:
            ends = [round(sum(c for c, _ in stages[: k + 1]) * self.epochs / recipe.epochs) for k in range(len(stages))]
            starts = [0, *ends[:-1]]
            stages = tuple((e - s, n) for s, e, (_, n) in zip(starts, ends, stages, strict=True) if e > s)
        if self.size is not None:
            stages = ((sum(c for c, _ in stages), self.size),)
        return stages


@dataclass(frozen=True)
class Course:
    """What stays the same through a run.

    `shown` is told what is being done, how many are done, and of how many; `report` how many steps are, of all.
    """

    recipe: Recipe
    data: Pictures
    parts: Split
    seed: int
    workers: int
    test_every: int
    team: Team
    teacher: Teacher | None
    shown: Shown
    report: Report | None = None

    @property
    def batch(self) -> int:
        """Pictures in a step of this process."""
        return min(self.recipe.batch, len(self.parts.train)) // self.team.size

    @property
    def steps(self) -> int:
        """Steps of an epoch. What is left of the pictures is dropped: BatchNorm on a picture or two would spoil
        the statistics."""
        return len(self.parts.train) // (self.batch * self.team.size)

    def batches(self, size: int, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Views, classes, pictures and places of this process's share of each step of `epoch`."""
        order = torch.randperm(
            len(self.parts.train), generator=torch.Generator().manual_seed(seed_of(self.seed, epoch))
        )
        steps = order[: self.steps * self.batch * self.team.size].view(self.steps, self.team.size, self.batch)
        mine = [self.parts.train[i] for i in steps[:, self.team.rank].flatten().tolist()]
        views = Views(self.data, mine, self.recipe.augmentation, size, self.seed, epoch)
        # The loader draws a seed for its workers, from a generator of its own so that the network's is left alone.
        return iter(DataLoader(views, self.batch, num_workers=self.workers, generator=torch.Generator()))
