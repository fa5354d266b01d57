"""The result of `invariance`: how far features move, and what the network says, as a picture is transformed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvviz.data.transforms import TRANSFORMS, warp
from deconvviz.errors import ResultError, UnknownNameError, suggest
from deconvviz.results.base import SeveralPicturesResult

NORMALISED = ("none", "norm", "max")


class Curve(NamedTuple):
    """One transform: its values (V,); two distances and the probability (or None) for N pictures, each (N, V)."""

    values: Tensor
    low: Tensor
    high: Tensor
    probability: Tensor | None


@dataclass(frozen=True, eq=False)
class Invariance(SeveralPicturesResult):
    """Distances of transformed pictures' features to those of the pictures themselves (paper, Fig. 5).

    `images` (N, C, H, W) are the untransformed inputs, `names` and `labels` say what they are, `targets` the classes
    whose probability is followed. `transforms` are names, `counts` their numbers of values; `values` (V,), `low`,
    `high` and `probability` (N, V) hold all transforms one after the other: `curve(name)` cuts one out. `low` and
    `high` are Euclidean distances in the two `layers`, `norms` (N, 2) the lengths of the untransformed features there;
    `probability` is the softmax output for the target, and None, as `targets` is empty, for a model without logits.
    `mean` and `std` are the inputs' normalisation; `policy` and `model` say how it was made and of what.

    >>> r = deconvviz.invariance(deconvviz.load("lenet"), torch.rand(1, 1, 28, 28), transforms={"flip": None},
    ...                          low="1", high="4")
    >>> r.curve("flip").values.tolist(), float(r.curve("flip").low[0, 0])
    ([0.0, 1.0], 0.0)
    """

    images: Annotated[Tensor, "names C H W"]
    names: tuple[str, ...]
    labels: tuple[str, ...]
    targets: tuple[int, ...]
    transforms: tuple[str, ...]
    counts: tuple[int, ...]
    values: Annotated[Tensor, "V"]
    layers: tuple[str, str]
    low: Annotated[Tensor, "names V"]
    high: Annotated[Tensor, "names V"]
    probability: Annotated[Tensor | None, "names V"]
    norms: Annotated[Tensor, "names 2"]

    def check(self) -> None:
        """Raise `ResultError` if the fields contradict each other in what their annotations cannot say."""
        if len(self.counts) != len(self.transforms) or sum(self.counts) != len(self.values):
            raise ResultError(f"{len(self.values)} 'values' of {len(self.transforms)} transforms by {self.counts}")
        if len(self.labels) not in (0, len(self.names)) or len(self.targets) not in (0, len(self.names)):
            raise ResultError(
                f"{len(self.labels)} labels and {len(self.targets)} targets of {len(self.names)} pictures"
            )

    @property
    def title(self) -> str:
        """Model and layers."""
        return f"{self.model_name} invariance of layers {' and '.join(n or 'output' for n in self.layers)}"

    def curve(self, transform: str, normalise: str = "none") -> Curve:
        """Return one transform's values, distances and probability.

        `normalise` divides the distances: "norm" by the length of the untransformed feature, "max" by the largest
        distance of that picture under this transform ("none": not at all). Raises `UnknownNameError`.
        """
        if transform not in self.transforms:
            known = ", ".join(self.transforms)
            raise UnknownNameError(
                f"transform {transform!r} is not in this result; allowed: {known}{suggest(transform, self.transforms)}"
            )
        if normalise not in NORMALISED:
            raise UnknownNameError(
                f"normalise is {normalise!r}; allowed: {', '.join(NORMALISED)}{suggest(normalise, NORMALISED)}"
            )
        at = self.transforms.index(transform)
        part = slice(sum(self.counts[:at]), sum(self.counts[: at + 1]))
        pair = [self.low[:, part], self.high[:, part]]
        if normalise != "none":
            lengths = [d.amax(1) if normalise == "max" else self.norms[:, k] for k, d in enumerate(pair)]
            # A feature of length 0, or one that never moves, has distances of 0: they stay 0.
            pair = [d / n.where(n > 0, 1.0)[:, None] for d, n in zip(pair, lengths, strict=True)]
        return Curve(
            self.values[part], pair[0], pair[1], None if self.probability is None else self.probability[:, part]
        )

    def smoothness(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return how smoothly the distances grow: {transform: {"low" or "high": {measure: mean over the pictures}}}.

        A curve is taken in two branches, from the untransformed picture (distance 0) down and up in value; a branch of
        fewer than three values is left out. `linearity`: the share of the variance that the best straight line
        explains, 0 to 1. `early`: the distance at a tenth of the way over the largest, 0.1 for a straight line, near 1
        for a feature that reacts at once. `variation`: the sum of the steps' sizes over the branch's range, 1 for a
        curve that only rises. `roughness`: the sum of the sizes of the changes of step over the range, 0 for a straight
        line. The last two grow as the values get closer, so compare layers under the same ones.
        """
        found: dict[str, dict[str, dict[str, float]]] = {}
        for name in self.transforms:
            curve = self.curve(name)
            sides = {"low": curve.low, "high": curve.high}
            measured = {side: _smoothness(curve.values, d, TRANSFORMS[name].identity) for side, d in sides.items()}
            if all(measured.values()):
                found[name] = measured
        return found

    def pictures(self, transform: str, values: list[float] | None = None) -> NDArray[np.uint8]:
        """Return the pictures as the network saw them under this transform, (N, V, H, W, C) uint8.

        `values` are any; by default those of the result.
        """
        chosen = self.curve(transform).values.tolist() if values is None else values
        fill = self.policy.get("fill", "grey")
        shown = [[self.as_photograph(x) for x in warp(image, transform, chosen, fill)] for image in self.images]
        return np.array(shown)

    def facts(self) -> dict[str, object]:
        """Return everything but the pictures as plain Python values, ready for JSON."""
        curves = {}
        for name in self.transforms:
            curve = self.curve(name)
            curves[name] = {k: None if v is None else _short(v) for k, v in curve._asdict().items()}
        return {**self.plain(), "norms": _short(self.norms), "curves": curves, "smoothness": self.smoothness()}


def _smoothness(values: Tensor, distances: Tensor, identity: float) -> dict[str, float]:
    measured: list[tuple[float, ...]] = []
    for row in distances.double():
        for sign in (-1.0, 1.0):
            away = (values.double() - identity) * sign
            order = [k for k in torch.argsort(away, stable=True).tolist() if away[k] > 0]
            if len(order) < 3:
                continue
            zero = row.new_zeros(1)
            x, y = torch.cat([zero, away[order]]), torch.cat([zero, row[order]])
            measured.append(_measures(x, y))
    if not measured:
        return {}
    means = torch.tensor(measured, dtype=torch.float64).mean(0).tolist()
    return dict(zip(("linearity", "early", "variation", "roughness"), means, strict=True))


def _measures(x: Tensor, y: Tensor) -> tuple[float, ...]:
    """Linearity, early, variation, roughness of one branch: distances `y` at `x` from the untransformed picture."""
    steps = y.diff()
    slopes = steps / x.diff() * x.diff().mean()  # the steps themselves where values stand evenly
    span = float(y.max() - y.min()) or 1.0
    early = np.interp(0.1 * float(x[-1]), x.numpy(), y.numpy()) / span
    spread = y.std() * x.std()
    # A feature that never moves is a straight line.
    linear = float((torch.cov(torch.stack([x, y]))[0, 1] / spread) ** 2) if spread > 0 else 1.0
    return linear, float(early), float(steps.abs().sum()) / span, float(slopes.diff().abs().sum()) / span


def _short(values: Tensor) -> Any:
    """Nested lists of numbers with six digits: enough for a reader, and no noise."""
    if values.dim() > 1:
        return [_short(v) for v in values]
    return [float(f"{v:.6g}") for v in values.tolist()]
