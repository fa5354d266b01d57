"""The result of `correspondence`: whether covering the same part changes features in the same way (paper, Table 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from deconvviz.results.base import SeveralPicturesResult
from deconvviz.results.table import Table

RANDOM, ONE_PLACE = "random", "random, one place"


@dataclass(frozen=True, eq=False)
class Correspondence(SeveralPicturesResult):
    """Hamming distances between the signs of what covering a part changes, for N pictures, P parts, L layers.

    `images` (N, C, H, W) are the inputs, `names` their files, `boxes` (P, N, 4) the `parts` in input pixels: top, left,
    bottom, right, half-open. `distances` (P, L, M) has the M = N (N − 1) / 2 pairs of pictures i < j in the order
    (0, 1), (0, 2), …: the share of the layer's features at which sign ε_i and sign ε_j differ. The same of D draws of
    random boxes of the part's own sizes, (P, D, L, M): `random` at places drawn for each picture (`random_boxes`
    (P, D, N, 4)), `one_place` at one place drawn for all, which shows what the place alone does. `policy` says how
    signs, shares and boxes were made, `mean` and `std` are the inputs' normalisation, `model` what it was made of.

    >>> pairs = [(torch.rand(1, 28, 28), {"eye": [4, 4, 12, 12]}) for _ in range(3)]
    >>> c = deconvviz.correspondence(deconvviz.load("lenet"), pairs, layers=["2", "4"], random=2)
    >>> list(c.delta()), c.table().columns[1:]
    (['eye', 'random', 'random, one place'], ('Layer 2', 'Layer 4'))
    """

    images: Annotated[Tensor, "names C H W"]
    names: tuple[str, ...]
    parts: tuple[str, ...]
    boxes: Annotated[Tensor, "parts names 4"]
    layers: tuple[str, ...]
    distances: Annotated[Tensor, "parts layers M"]
    random: Annotated[Tensor, "parts D layers M"]
    one_place: Annotated[Tensor, "parts D layers M"]
    random_boxes: Annotated[Tensor, "parts D names 4"]

    @property
    def title(self) -> str:
        """Model and layers."""
        return f"{self.model_name} correspondence in layers {' and '.join(self.layers)}"

    def delta(self) -> dict[str, list[tuple[float, float]]]:
        """Return Δ of each part, of "random" and of "random, one place": a (mean, standard deviation) for each layer.

        The paper's Δ_l = Σ_{i≠j} H(sign ε_i, sign ε_j), over the number of features and of pairs: the mean over pairs.
        The deviation is that of the single pairs (M − 1 in the denominator; 0 for one pair); for random boxes, of the
        pairs of all draws of all parts' sizes.
        """
        found = {part: [_spread(row) for row in self.distances[p]] for p, part in enumerate(self.parts)}
        if self.random.shape[1]:
            for name, values in ((RANDOM, self.random), (ONE_PLACE, self.one_place)):
                found[name] = [_spread(row) for row in values.permute(2, 0, 1, 3).flatten(1)]
        return found

    def below(self) -> dict[str, dict[str, list[float]]]:
        """Return for each part the share of its own random draws whose Δ is below the part's, for each layer.

        {"random": {part: …}, "random, one place": {part: …}}; 0 means that every draw changes the features less alike
        than the part does, 0.5 that the part is like any other place. Empty without draws.
        """
        if not self.random.shape[1]:
            return {}
        own = self.distances.mean(-1)[:, None]
        shares = {
            n: (v.mean(-1) < own).double().mean(1) for n, v in ((RANDOM, self.random), (ONE_PLACE, self.one_place))
        }
        return {n: {part: _rounded(share[p]) for p, part in enumerate(self.parts)} for n, share in shares.items()}

    def table(self) -> Table:
        """Return the paper's Table 1: a row for each part, then random boxes; Δ ± its deviation in each layer."""
        rows = [[_heading(name), *(f"{m:.3f} ± {s:.3f}" for m, s in cells)] for name, cells in self.delta().items()]
        return Table(
            ["Covered part", *(f"Layer {name or 'output'}" for name in self.layers)],
            rows,
            self.caption(),
            rules=[len(self.parts)] if self.random.shape[1] else [],
        )

    def caption(self) -> str:
        """Return what the numbers of the table are, in a few sentences."""
        count, pairs, draws = len(self.images), self.distances.shape[-1], self.random.shape[1]
        said = (
            f"Sign changes Δ in {self.model.get('name', 'the model')} when a part of {count} pictures is covered: the "
            f"share of {self.policy.get('share of', 'all features')} at which the signs (−, 0, +) of two pictures' "
            f"changes differ, mean ± standard deviation over the {pairs} pairs of pictures; smaller is more alike."
        )
        if not draws:
            return said
        return (
            f"{said} Random: {draws} draws of boxes of each part's sizes, at a place of its own in each picture, or at "
            "one place in all of them."
        )

    def facts(self) -> dict[str, object]:
        """Return everything but the pictures and single pairs as plain Python values, ready for JSON."""
        delta = {n: [{"mean": _six(m), "std": _six(s)} for m, s in cells] for n, cells in self.delta().items()}
        return {**self.plain(), "boxes": self.boxes.tolist(), "delta": delta, "below": self.below()}


def _heading(name: str) -> str:
    return name[:1].upper() + name[1:]


def _spread(values: Tensor) -> tuple[float, float]:
    deviation = values.double().std().item() if len(values) > 1 else 0.0
    return values.double().mean().item(), deviation


def _six(value: float) -> float:
    return float(f"{value:.6g}")


def _rounded(values: Tensor) -> list[float]:
    return [_six(v) for v in values.tolist()]
