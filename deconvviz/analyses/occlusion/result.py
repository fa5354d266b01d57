"""The result of `occlude`: what the network says of a picture with one window after the other covered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from deconvviz.analyses.projection.result import Projection
from deconvviz.errors import ResultError
from deconvviz.results.base import OnePictureResult, numbers


@dataclass(frozen=True, eq=False)
class Occlusion(OnePictureResult):
    """What covering each place of one picture does to the network (Zeiler & Fergus 2014, section 4.2 and Fig. 7).

    P = rows × cols positions in raster order: `origins` (P, 2) the top-left corners, `shape` (rows, cols), `window`
    (h, w), `stride` (down, across); with `positions="captum"` a last window hangs over the border and is cut there.
    `logits` (P, classes), `baseline` (classes,) those of the picture itself, `target` the class in question. `image`
    (C, H, W) is the preprocessed input; `fill_values` (C, 1, 1) or (C, H, W) is what shows inside a window, `fill`
    says so in words, and `mask` (h, w) boolean says which pixels of a window are covered (None: all).
    `activity` (rows, cols) is the sum of map `unit` of `layer`, the map whose maximum was largest uncovered,
    `baseline_activity` that sum uncovered, and `projection` that map sent back to pixels; all None without a layer.
    `mean` and `std` are the input's normalisation (empty for a bare module); `policy` and `model` say how it was made
    and of what.

    >>> o = deconvviz.occlude(deconvviz.load("lenet"), torch.rand(1, 28, 28), target="Coat", window=8, stride=4)
    >>> o.origins[-1], o.heatmap().shape, bool(o.prediction.max() < 10)
    (tensor([20, 20]), torch.Size([28, 28]), True)
    """

    origins: Annotated[Tensor, "P 2"]
    shape: tuple[int, int]
    window: tuple[int, int]
    stride: tuple[int, int]
    logits: Annotated[Tensor, "P N"]
    baseline: Annotated[Tensor, "N"]
    target: int
    fill_values: Annotated[Tensor, "C _ _"]
    fill: str = "grey"
    positions: str = "all"
    mask: Annotated[Tensor | None, "_ _"] = None
    layer: str | None = None
    alias: str | None = None
    unit: int | None = None
    activity: Annotated[Tensor | None, "_ _"] = None
    projection: Projection | None = None
    baseline_activity: float | None = None

    def check(self) -> None:
        """Raise `ResultError` if the fields contradict each other in what their annotations cannot say."""
        rows, cols = self.shape
        if rows * cols != len(self.origins):
            raise ResultError(f"'origins' has {len(self.origins)} places, but 'shape' is {self.shape}")
        for name, given, wanted in (("activity", self.activity, self.shape), ("mask", self.mask, self.window)):
            if given is not None and tuple(given.shape) != wanted:
                raise ResultError(f"'{name}' has shape {tuple(given.shape)}, not {wanted}")
        if not 0 <= self.target < len(self.baseline):
            raise ResultError(f"'target' is {self.target}, with {len(self.baseline)} classes")

    def __len__(self) -> int:
        return int(self.origins.shape[0])

    @property
    def probability(self) -> Tensor:
        """The softmax probability of the target at each position, (rows, cols)."""
        return self.logits.softmax(1)[:, self.target].view(self.shape)

    @property
    def prediction(self) -> Tensor:
        """The most probable class at each position, (rows, cols) long."""
        return self.logits.argmax(1).view(self.shape)

    @property
    def name(self) -> str | None:
        """The short name of the layer: its alias if it has one, else its module path; None without a layer."""
        return self.alias or self.layer

    @property
    def title(self) -> str:
        """Model and what was covered."""
        h, w = self.window
        return f"{self.model_name} occlusion {h}x{w}"

    def answer_in_words(self) -> str:
        """Return what the network makes of the picture itself, whatever the target is: class and probability."""
        own = int(self.baseline.argmax())
        return f"network: {self.label(own)}, {float(self.baseline.softmax(0)[own]):.3g}"

    def covered(self, position: int) -> Tensor:
        """Return the picture with the window of one position covered, (C, H, W), as the network saw it."""
        where = torch.zeros(self.image.shape[1:], dtype=torch.bool, device=self.image.device)
        (top, left), (h, w) = self.origins[position].tolist(), self.window
        inside = where[top : top + h, left : left + w]
        inside[:] = True if self.mask is None else self.mask[: inside.shape[0], : inside.shape[1]].to(where.device)
        return torch.where(where, self.fill_values.to(self.image), self.image)

    def heatmap(self) -> Tensor:
        """Return how much each pixel matters to the target, (H, W), in logits.

        The mean of (`baseline` − `logits`) of the target over the windows that cover the pixel; NaN where none does.
        With `positions="captum"` this is what `captum.attr.Occlusion` attributes to the pixel.
        """
        height, width = self.image.shape[-2:]
        drop = (self.baseline[self.target].double() - self.logits[:, self.target].double()).cpu().view(self.shape)
        mask = torch.ones(self.window) if self.mask is None else self.mask.cpu()
        return mean_over_windows(drop, self.origins.cpu(), mask, (height, width)).to(self.logits)

    def attribution(self) -> Tensor:
        """Return `heatmap` for each channel alike, (C, H, W): the shape that `captum.attr.Occlusion` answers in."""
        return self.heatmap().expand(self.image.shape).clone()

    def facts(self) -> dict[str, object]:
        """Return what was found as plain Python values, ready for JSON; the numbers of every position are in npz."""
        probability, top = self.probability.flatten(), int(self.baseline.argmax())
        lowest = int(probability.argmin())
        classes, counts = np.unique(numbers(self.prediction), return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return {
            **self.plain(),
            "target_label": self.label(self.target),
            "baseline_probability": float(self.baseline.softmax(0)[self.target]),
            "baseline_prediction": {"class": top, "label": self.label(top)},
            "lowest_probability": {"value": float(probability[lowest]), "origin": self.origins[lowest].tolist()},
            "predictions": [
                {"class": int(classes[k]), "label": self.label(int(classes[k])), "positions": int(counts[k])}
                for k in order
            ],
        }


def mean_over_windows(values: Tensor, origins: Tensor, mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Return for each pixel of a picture of `size` the mean of `values` (rows, cols), float64, over the windows that
    cover it, (H, W); NaN where none does.

    `origins` (P, 2) are the windows' left upper corners, `mask` (h, w) says which of their pixels count.
    """
    height, width = size
    rows, cols = origins[:: values.shape[1], 0], origins[: values.shape[1], 1]
    total, count = torch.zeros(2, height, width, dtype=torch.float64)
    # One row of the window at a time: `spread` takes a value per column of positions to the pixels it covers.
    for offset, line in enumerate(mask.double()):
        spread = torch.zeros(len(cols), width + mask.shape[1], dtype=torch.float64)
        spread.scatter_(1, cols[:, None] + torch.arange(mask.shape[1]), line.expand(len(cols), -1))
        inside = rows + offset < height
        at = rows[inside] + offset
        total.index_add_(0, at, values[inside] @ spread[:, :width])
        count.index_add_(0, at, torch.ones_like(values[inside]) @ spread[:, :width])
    return torch.where(count > 0, total / count, torch.nan)
