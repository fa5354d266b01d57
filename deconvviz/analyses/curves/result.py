"""The result of `learning_curves`: how a training run went, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from deconvviz.results.base import Result


@dataclass(frozen=True, eq=False)
class LearningCurves(Result):
    """Loss and accuracies of a run's epochs.

    `epochs` (N,), counted from 1; `sizes` (N,) of the inputs; `loss` (N,), of the training pictures; `train` and
    `test` (N,), accuracies in 0..1, the latter on other pictures (the `part` "validation" or "test"), NaN where it was
    not measured; `test_ten_crops` at the end, on the test pictures, or None.

    >>> numbers = torch.tensor([1.0, 2.0])
    >>> curves = deconvviz.LearningCurves("run", numbers, numbers * 28, 1 / numbers, numbers / 4, numbers / 5)
    >>> len(curves), curves.title
    (2, 'learning curves of run')
    """

    name: str
    epochs: Annotated[Tensor, "N"]
    sizes: Annotated[Tensor, "N"]
    loss: Annotated[Tensor, "N"]
    train: Annotated[Tensor, "N"]
    test: Annotated[Tensor, "N"]
    test_ten_crops: float | None = None
    part: str = "test"

    def __len__(self) -> int:
        return int(self.epochs.shape[0])

    @property
    def title(self) -> str:
        """The run."""
        return f"learning curves of {self.name}"
