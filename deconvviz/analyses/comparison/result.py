"""The results of `compare`: methods side by side on one picture, and over several."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from deconvviz.errors import ResultError
from deconvviz.results.base import OnePictureResult, Result
from deconvviz.results.table import Table


@dataclass(frozen=True, eq=False)
class Comparison(OnePictureResult):
    """What several methods say of one picture, and how far each is right.

    `maps` (M, H, W) are signed, each in its method's own unit: the sum over the channels of what each of `methods` says
    of the **score**, the logit of class `target` in `mode` "class", the activation of unit `target` of `layer` at
    `place` (row, column) in "unit". `kinds` (M names) are "sensitivity", "contribution" or "baseline", `says` what a
    value is in words. `box` (top, left, bottom, right) are the pixels that can change the score; only those are.

    `deletion` and `insertion` (M, S) are the target's probability (or the activation) after each of S equal steps;
    before the first it is `baseline`, that of the picture, and `blurred`, that of the blurred one. `sensitivity_n`
    (M, N) is the correlation of the sum of a map over random sets of cells with the drop of the score when they are
    covered, for sets of `sizes` (N), shares of all cells; NaN where one of the two does not vary. `infidelity` (M,) is
    the share, 0 to 1, of the mean square of the drops under random squares that no multiple of the map explains: what
    captum's has with `normalize=True`, divided by that mean square. Both are None without random sets. `layer` and
    `alias` are in mode "class" those whose maps the CAMs weigh.

    >>> c = deconvviz.compare(deconvviz.load("lenet"), torch.rand(1, 28, 28), ["occlusion", "random"], steps=8)
    >>> c.methods, bool((c.deletion >= 0).all()), c.sensitivity_n.shape
    (('occlusion', 'random'), True, torch.Size([2, 5]))
    """

    methods: tuple[str, ...]
    maps: Annotated[Tensor, "methods H W"]
    deletion: Annotated[Tensor, "methods S"]
    insertion: Annotated[Tensor, "methods S"]
    baseline: float
    blurred: float
    score: float
    target: int
    mode: str
    kinds: tuple[str, ...]
    says: tuple[str, ...]
    box: tuple[int, int, int, int]
    layer: str | None = None
    alias: str | None = None
    place: tuple[int, int] | None = None
    sizes: tuple[float, ...] = ()
    sensitivity_n: Annotated[Tensor | None, "methods sizes"] = None
    infidelity: Annotated[Tensor | None, "methods"] = None

    def check(self) -> None:
        """Raise `ResultError` if the fields contradict each other in what their annotations cannot say."""
        if not len(self.methods) == len(self.kinds) == len(self.says):
            raise ResultError(f"'kinds' and 'says' are not one for each of {len(self.methods)} methods")
        if self.mode not in ("class", "unit"):
            raise ResultError(f"'mode' is {self.mode!r}, neither 'class' nor 'unit'")

    def __len__(self) -> int:
        return len(self.methods)

    @property
    def deletion_auc(self) -> Tensor:
        """The area under each deletion curve, (M,): low if what a method ranks highest matters most."""
        return area(self.deletion, self.baseline)

    @property
    def insertion_auc(self) -> Tensor:
        """The area under each insertion curve, (M,): high if what a method ranks highest is enough."""
        return area(self.insertion, self.blurred)

    @property
    def asked(self) -> str:
        """What the methods were asked about, in words: a class, or a unit of a layer and its place."""
        if self.mode == "class":
            return self.label(self.target)
        at = "" if self.place is None else f" at {self.place[0]}, {self.place[1]}"
        return f"{self.alias or self.layer} unit {self.target}{at}"

    @property
    def measure(self) -> str:
        """What the curves show: "probability" or "activation"."""
        return "probability" if self.mode == "class" else "activation"

    @property
    def title(self) -> str:
        """Model and what the methods were asked about."""
        return f"{self.model_name} comparison {self.asked}"

    def table(self) -> Table:
        """Return one row a method: areas, what it has over the baselines, sensitivity-n, infidelity."""
        return _table([self], f"{self.model_name}, {self.asked}: {self.measure} {self.baseline:.3g}.")

    def facts(self) -> dict[str, object]:
        """Return what was found as plain Python values, ready for JSON; maps and curves are in npz."""
        return {
            **self.plain(),
            "asked": self.asked,
            "deletion_auc": _by_name(self.methods, self.deletion_auc),
            "insertion_auc": _by_name(self.methods, self.insertion_auc),
            "sensitivity_n": _by_name(self.methods, mean_agreement(self)),
            "infidelity": _by_name(self.methods, self.infidelity),
        }


@dataclass(frozen=True, eq=False)
class Comparisons(Result):
    """The comparisons of several `pictures`, with their `names`: the same methods, asked the same way.

    >>> c = deconvviz.compare(deconvviz.load("lenet"), torch.rand(3, 1, 28, 28), ["edges", "random"], steps=8)
    >>> len(c), c[0].maps.shape, [row[0] for row in c.table().rows]
    (3, torch.Size([2, 28, 28]), ['edges', 'random'])
    """

    pictures: tuple[Comparison, ...]
    names: tuple[str, ...]

    def check(self) -> None:
        """Raise `ResultError` if the fields contradict each other in what their annotations cannot say."""
        if not self.pictures or len(self.pictures) != len(self.names):
            raise ResultError(f"'pictures' are {len(self.pictures)}, and 'names' {len(self.names)}")
        if any(c.methods != self.methods or c.deletion.shape != self.pictures[0].deletion.shape for c in self.pictures):
            raise ResultError("'pictures' are not of the same methods and steps")

    def __len__(self) -> int:
        return len(self.pictures)

    def __iter__(self) -> Iterator[Comparison]:
        return iter(self.pictures)

    def __getitem__(self, number: int) -> Comparison:
        return self.pictures[number]

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the methods."""
        return self.pictures[0].methods

    @property
    def deletion(self) -> Tensor:
        """The deletion curves, (P, M, S)."""
        return torch.stack([c.deletion for c in self.pictures])

    @property
    def insertion(self) -> Tensor:
        """The insertion curves, (P, M, S)."""
        return torch.stack([c.insertion for c in self.pictures])

    @property
    def deletion_auc(self) -> Tensor:
        """The areas under the deletion curves, (P, M)."""
        return torch.stack([c.deletion_auc for c in self.pictures])

    @property
    def insertion_auc(self) -> Tensor:
        """The areas under the insertion curves, (P, M)."""
        return torch.stack([c.insertion_auc for c in self.pictures])

    @property
    def title(self) -> str:
        """Model and how many pictures."""
        return f"{self.model_name} comparison over {len(self)} pictures"

    def table(self) -> Table:
        """Return one row a method: means over the pictures, with standard errors."""
        one = self.pictures[0]
        asked = "each one's class" if one.mode == "class" else one.asked.partition(" at ")[0]
        return _table(self.pictures, f"{self.model_name}, {asked}: mean ± standard error over {len(self)} pictures.")

    def facts(self) -> dict[str, object]:
        """Return what was found as plain Python values, ready for JSON: means and standard errors by method."""
        found: dict[str, object] = {**self.plain(), "methods": list(self.methods)}
        for name, values in _columns(self.pictures).items():
            found[name] = {
                method: spread(values[:, m])._asdict() for m, method in enumerate(self.methods) if values is not None
            }
        return found


def area(curves: Tensor, before: float) -> Tensor:
    """The area (M,) under curves (M, S) of S equal steps from 0 to 1 that begin at `before`, by trapezoids."""
    whole = torch.cat([torch.full_like(curves[:, :1], before), curves], 1).double()
    return ((whole[:, 1:] + whole[:, :-1]) / 2).mean(1).to(curves)


class Spread(NamedTuple):
    """A mean over pictures and its standard error; NaN where there is none."""

    mean: float
    error: float


def spread(values: Tensor) -> Spread:
    """The mean of `values` (P,) and its standard error; NaN values are pictures of which it cannot be said."""
    values = values.double()[~values.isnan()]
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Spread(float(values.mean()) if len(values) else math.nan, error)


def mean_agreement(result: Comparison) -> Tensor | None:
    """The mean of sensitivity-n over the sizes of the sets, (M,)."""
    return None if result.sensitivity_n is None else result.sensitivity_n.nanmean(1)


_HEADS = {
    "deletion_auc": "deletion ↓",
    "insertion_auc": "insertion ↑",
    "over_edges": "over edges",
    "over_random": "over random",
    "sensitivity_n": "sensitivity-n ↑",
    "infidelity": "infidelity ↓",
}


def _columns(pictures: Sequence[Comparison]) -> dict[str, Tensor]:
    """What is known of each picture and method, (P, M), by the names of `_HEADS`."""
    methods = pictures[0].methods
    lost, won = (torch.stack([getattr(c, name) for c in pictures]) for name in ("deletion_auc", "insertion_auc"))
    found = {"deletion_auc": lost, "insertion_auc": won}
    gap = won - lost
    for baseline in ("edges", "random"):
        if baseline in methods:
            found[f"over_{baseline}"] = gap - gap[:, methods.index(baseline)][:, None]
    if pictures[0].sensitivity_n is not None and pictures[0].infidelity is not None:
        found["sensitivity_n"] = torch.stack(
            [c.sensitivity_n.nanmean(1) for c in pictures if c.sensitivity_n is not None]
        )
        found["infidelity"] = torch.stack([c.infidelity for c in pictures if c.infidelity is not None])
    return found


def _table(pictures: Sequence[Comparison], caption: str) -> Table:
    methods, kinds = pictures[0].methods, pictures[0].kinds
    columns = _columns(pictures)
    rows = [
        (method, *("" if name == f"over_{method}" else _cell(values[:, m], name) for name, values in columns.items()))
        for m, method in enumerate(methods)
    ]
    first = next((m for m, kind in enumerate(kinds) if kind == "baseline"), 0)
    together = all(kind == "baseline" for kind in kinds[first:])
    over = (
        " over …: insertion less deletion, less the same of that baseline."
        if "over_random" in columns or "over_edges" in columns
        else ""
    )
    heads = ("method", *(_HEADS[name] for name in columns))
    return Table(heads, rows, caption + over, "l" + "r" * len(columns), (first,) if first and together else ())


def _cell(values: Tensor, name: str) -> str:
    """A number, signed where zero means something, with its standard error if there are several pictures."""
    mean, error = spread(values)
    sign = "+" if name.startswith("over") or name == "sensitivity_n" else ""
    if math.isnan(mean):
        return "–"
    return f"{mean:{sign}.3f}" + ("" if math.isnan(error) else f" ± {error:.3f}")


def _by_name(methods: Sequence[str], values: Tensor | None) -> dict[str, float | None] | None:
    if values is None:
        return None
    return {name: None if math.isnan(v) else v for name, v in zip(methods, values.tolist(), strict=True)}
