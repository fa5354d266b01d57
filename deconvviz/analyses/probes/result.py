"""The result of `probe`: how well a linear classifier does on the features of each layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from deconvviz.results.base import Result
from deconvviz.results.table import Table


@dataclass(frozen=True, eq=False)
class Probes(Result):
    """Accuracy of a linear classifier on the features of L layers (Zeiler & Fergus 2014, section 5.3 and Table 7).

    `accuracy` (L, P, S) is the mean over categories, 0 to 1, for each of `layers`, each number of training pictures a
    category of `per_category` (P), and each of S random splits; `errors` (L, P, S) are their standard errors, by the
    spread of the test pictures. `dimensions` (L,) are the numbers of features that the classifier gets; `pictures` are
    the numbers of training pictures for each of `per_category`, and of test pictures, of the first split; `spans` are
    the fewest and the most pictures that a category really trained on: where all have fewer than asked for,
    `per_category` says the most. `note` says what the pictures are to the network; `policy` and `model` say how it was
    made.

    >>> inputs, classes = torch.rand(24, 1, 28, 28), torch.arange(24) % 2
    >>> r = deconvviz.probe(deconvviz.load("lenet"), (inputs, classes), ["1", "2"], per_category=4)
    >>> r.chance, r.mean.shape, r.pictures
    (0.5, torch.Size([2, 1]), (8, 16))
    """

    kind: ClassVar[str] = "probe"

    layers: tuple[str, ...]
    per_category: tuple[int, ...]
    accuracy: Annotated[Tensor, "layers per_category S"]
    dimensions: tuple[int, ...]
    pictures: tuple[int, ...]
    categories: tuple[str, ...]
    note: str = ""
    spans: tuple[tuple[int, int], ...] = ()
    errors: Annotated[Tensor | None, "layers per_category S"] = None

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def title(self) -> str:
        """Model and layers."""
        return f"{self.model_name} probes of {', '.join(self.layers)}"

    @property
    def chance(self) -> float:
        """The accuracy of guessing."""
        return 1 / len(self.categories)

    @property
    def mean(self) -> Tensor:
        """(L, P) mean accuracy over the splits."""
        return self.accuracy.mean(2)

    @property
    def spread(self) -> Tensor:
        """(L, P) standard deviation over the splits; NaN for a single one."""
        splits = self.accuracy.shape[2]
        return self.accuracy.std(2) if splits > 1 else self.accuracy[:, :, 0] * float("nan")

    def count(self, which: int) -> str:
        """The number of training pictures a category of the column `which`, in words: "30", or "13 to 30"."""
        low, high = self.spans[which] if self.spans else (self.per_category[which],) * 2
        return f"{high}" if low == high else f"{low} to {high}"

    def table(self) -> Table:
        """Return the paper's Table 7: one row a layer, one column a number of pictures, in percent.

        After ± stands the deviation over the splits, or of a single split the standard error.
        """
        rows = [
            [f"SVM ({name})", count, *(self._cell(k, p) for p in range(len(self.per_category)))]
            for k, (name, count) in enumerate(zip(self.layers, self.dimensions, strict=True))
        ]
        splits = self.accuracy.shape[2]
        caption = (
            f"Mean accuracy over {len(self.categories)} categories (%) of a linear classifier on the features of "
            f"{self.model.get('name', 'the model')}'s layers, {splits} random split{'s' * (splits > 1)}, "
            f"{self.pictures[-1]:,} test pictures. {self._meaning()}{self.note}"
        )
        names = [f"{self.count(p)} a category" for p in range(len(self.per_category))]
        return Table(["layer", "features", *names], rows, caption.strip())

    def _meaning(self) -> str:
        if self.accuracy.shape[2] > 1:
            return "After ± the standard deviation over the splits. "
        return "" if self.errors is None else "After ± the standard error. "

    def _cell(self, layer: int, which: int) -> str:
        spread = self.spread if self.errors is None or self.accuracy.shape[2] > 1 else self.errors[:, :, 0]
        mean, around = 100 * float(self.mean[layer, which]), 100 * float(spread[layer, which])
        return f"{mean:.1f}" if math.isnan(around) else f"{mean:.1f} ± {around:.1f}"

    def facts(self) -> dict[str, object]:
        """Return what was found as plain Python values, ready for JSON."""
        errors = None if self.errors is None else self.errors.tolist()
        found = {"accuracy": self.accuracy.tolist(), "mean": self.mean.tolist(), "errors": errors}
        return {**self.plain(), "chance": self.chance, **found}
