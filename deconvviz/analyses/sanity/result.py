"""The result of `sanity`: what projections owe to the weights, to the picture, to the unit, to the switches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from deconvviz.analyses.sanity.words import APART, RELATED, SAME, Statement, statements
from deconvviz.results.base import LayerResult, OnePictureResult
from deconvviz.results.table import Table


@dataclass(frozen=True, eq=False)
class Sanity(LayerResult, OnePictureResult):
    """Whether projections of K units of one layer can be believed (Adebayo et al. 2018; Nie et al. 2018).

    `layers` (L) are those whose parameters were randomised, from the layer itself down to the picture. `cascading`
    (L, K, M) says how alike each unit's projection is to the untouched one when every layer from the top down to this
    one is random, `independent` (L, K, M) when it alone is, by M `measures`: -1 to 1, 1 is the same. `unit_chance` and
    `picture_chance` (K, M) say the same of another unit at the same place and of the unit in another picture: what two
    projections that mean different things have in common.

    The rest are mean |cosines| (K), 0 to 1, with the unit's own projection: `other_pictures`, of the unit at its place
    in each of the pictures named in `companions`; `other_units`, of others at its place; `other_signal`, of another
    picture's map of the unit sent through this picture's switches; `other_switches`, of this picture's map sent through
    another's. NaN where there is nothing to compare, as with a unit that sends back nothing. `switches` are the max
    pools between layer and picture.

    `units` (K), `places` (K, 2), `activations` (K) and `boxes` (K, 4) are as in a `Projection`. `examples`
    (U, E, C, H, W) are projections of the first units, named by `example_names`. `similarity` (L) and `between_…` sum
    it up, `statements()` says it in words.

    >>> s = deconvviz.sanity(deconvviz.load("zfnet"), "image.jpg", "conv3", top=2)
    >>> s.layers, s.similarity.shape, s.switches
    (('conv3', 'conv2', 'conv1'), torch.Size([3]), 2)
    """

    thresholds: ClassVar[tuple[float, ...]] = (APART, RELATED, SAME)  # of the sentences

    units: Annotated[Tensor, "K"]
    places: Annotated[Tensor, "K 2"]
    activations: Annotated[Tensor, "K"]
    boxes: Annotated[Tensor, "K 4"]
    layers: tuple[str, ...]
    measures: tuple[str, ...]
    cascading: Annotated[Tensor, "layers K measures"]
    independent: Annotated[Tensor, "layers K measures"]
    unit_chance: Annotated[Tensor, "K measures"]
    picture_chance: Annotated[Tensor, "K measures"]
    other_pictures: Annotated[Tensor, "K"]
    other_units: Annotated[Tensor, "K"]
    other_signal: Annotated[Tensor, "K"]
    other_switches: Annotated[Tensor, "K"]
    switches: int
    companions: tuple[str, ...]
    examples: Annotated[Tensor, "_ example_names C H W"]
    example_names: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return int(self.units.shape[0])

    @property
    def title(self) -> str:
        """Model and layer."""
        return f"{self.model_name} sanity of {self.name}"

    @property
    def method(self) -> str:
        """The method of projection."""
        return str(self.policy["method"])

    @property
    def similarity(self) -> Tensor:
        """Rank correlation (L,) with the untouched projection, layers random from the top down; mean of the units."""
        return self.cascading[:, :, 0].nanmean(1)

    @property
    def between_pictures(self) -> float:
        """Mean |cosine| of a unit's projections in different pictures, at one place; 1: the picture has no part."""
        return float(self.other_pictures.nanmean())

    @property
    def between_units(self) -> float:
        """Mean |cosine| of the projections of different units at the same place; 1: the unit has no part."""
        return float(self.other_units.nanmean())

    @property
    def through_own_switches(self) -> float:
        """Mean |cosine| with what another picture's map of the unit gives, sent through this picture's switches."""
        return float(self.other_signal.nanmean())

    @property
    def through_other_switches(self) -> float:
        """Mean |cosine| with what this picture's map of the unit gives, sent through another picture's switches."""
        return float(self.other_switches.nanmean())

    def statements(self) -> tuple[Statement, ...]:
        """Return what these projections show and what they do not, in plain words and with the numbers.

        Which sentence stands is decided by the thresholds of `deconvviz.analyses.sanity.words`.

        >>> s = deconvviz.sanity(deconvviz.load("zfnet"), "image.jpg", "conv2", top=2)
        >>> [(one.about, one.shows) for one in s.statements()][0]
        ('picture', True)
        """
        return statements(self)

    def table(self) -> Table:
        """Return the similarities, one row a layer, with the two chances: means of the units."""
        heads = tuple(f"{kind}: {m}" for kind in ("down to here", "alone") for m in self.measures)
        both = torch.cat([self.cascading, self.independent], 2).nanmean(1)
        rows = [(name, *map(_number, row)) for name, row in zip(self.layers, both.tolist(), strict=True)]
        for name, chance in (("another unit", self.unit_chance), ("another picture", self.picture_chance)):
            rows.append((name, *map(_number, chance.nanmean(0).tolist()), *[""] * len(self.measures)))
        caption = f"How alike to the untouched projection ({self.model_name}, {self.name}, {self.method}); 1: the same."
        return Table(("random layer", *heads), rows, caption, rules=(len(self.layers),))

    def facts(self) -> dict[str, object]:
        """Return the numbers, means of the units, and the words as plain Python values, ready for JSON."""
        names = ("between_pictures", "between_units", "through_own_switches", "through_other_switches")
        table = self.cascading.nanmean(1), self.independent.nanmean(1)
        return {
            **self.plain(),
            "units": self.units.tolist(),
            "similarity": _numbers(self.similarity),
            "cascading": [_numbers(row) for row in table[0]],
            "independent": [_numbers(row) for row in table[1]],
            **{name: _numbers(torch.tensor([getattr(self, name)]))[0] for name in names},
            "statements": [{"shows": s.shows, "about": s.about, "text": s.text} for s in self.statements()],
        }


def _number(value: float) -> str:
    return "–" if value != value else f"{value:.2f}"


def _numbers(values: Tensor) -> list[float | None]:
    """As JSON has them: what cannot be said is None."""
    return [None if v != v else v for v in values.tolist()]
