"""The result of `explain`: a picture's classes, what drives the answer, the units it comes through, and the checks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from deconvviz.analyses.occlusion.result import Occlusion
from deconvviz.analyses.projection.result import Projection
from deconvviz.analyses.sanity.result import Sanity
from deconvviz.errors import ResultError
from deconvviz.results.base import SUFFIXES, LayerResult, OnePictureResult
from deconvviz.results.table import Table

BEST = 5  # classes that are named


@dataclass(frozen=True, eq=False)
class Stage(LayerResult):
    """The K maps of one layer that add most to a class, and what they do to it.

    `contributions` (K,) is Σ activation × ∂logit/∂activation over each map; `drops` (K,) by how much the logit falls if
    the map is set to zero, exactly. `projection` is each unit sent back from the place that adds most, `maps` the
    number of maps of the layer, `size` theirs. `sanity` says what these projections show and what they do not; None
    where it was not asked for, or cannot be.

    >>> stage = deconvviz.explain(deconvviz.load("zfnet"), "image.jpg", layers=["conv2"], top=2).stages[0]
    >>> stage.name, stage.drops.shape, len(stage.projection), stage.sanity.switches
    ('conv2', torch.Size([2]), 2, 1)
    """

    projection: Projection
    contributions: Annotated[Tensor, "K"]
    drops: Annotated[Tensor, "K"]
    maps: int
    size: tuple[int, int]
    sanity: Sanity | None = None

    def check(self) -> None:
        """Raise `ResultError` if the fields contradict each other in what their annotations cannot say."""
        if len(self.projection) != len(self.drops):
            raise ResultError(f"'projection' has {len(self.projection)} units, 'drops' {len(self.drops)}")

    @property
    def title(self) -> str:
        """Model and layer."""
        return f"{self.model_name} {self.name}"

    def facts(self) -> dict[str, object]:
        """Return the units, what they add and what is lost without them, and the checks, ready for JSON."""
        p = self.projection
        units = [
            {
                "unit": int(p.units[k]), "place": p.places[k].tolist(), "activation": float(p.activations[k]),
                "receptive_field": p.boxes[k].tolist(), "adds": float(self.contributions[k]),
                "drop": float(self.drops[k]),
            }
            for k in range(len(p))
        ]  # fmt: skip
        return {
            "layer": self.layer, "alias": self.alias, "maps": self.maps, "size": list(self.size), "units": units,
            "method": p.policy["method"], "switches": p.switches,
            "sanity": None if self.sanity is None else {
                key: value for key, value in self.sanity.facts().items()
                if key.startswith(("between", "through", "similarity", "layers", "statements", "companions"))
            },
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Explanation(OnePictureResult):
    """What a network thinks of a picture, what drives that, through which units, and how far that can be believed.

    `logits` (N,) of all classes; the rest is about the class `target`. `occlusion` is what covering each place does,
    `cam` (H, W) Grad-CAM on the maps of `cam_layer` (None for a network without maps), `stages` the units of each stage
    that add most, from the picture upwards.

    Besides png, pdf, svg and npz it is saved as html, one file with all numbers that needs no other, and as json.

    >>> e = deconvviz.explain(deconvviz.load("zfnet"), "image.jpg", layers=["conv1", "conv5"], top=2, checks=False)
    >>> len(e.classes()), e.cam.shape, [stage.name for stage in e.stages]
    (5, torch.Size([224, 224]), ['conv1', 'conv5'])
    """

    suffixes: ClassVar[tuple[str, ...]] = (*SUFFIXES, ".html", ".json")

    logits: Annotated[Tensor, "N"]
    target: int
    occlusion: Occlusion
    cam: Annotated[Tensor | None, "H W"]
    cam_layer: str | None
    stages: tuple[Stage, ...]

    def check(self) -> None:
        """Raise `ResultError` if the fields contradict each other in what their annotations cannot say."""
        if not 0 <= self.target < len(self.logits):
            raise ResultError(f"'target' is {self.target}, with {len(self.logits)} classes")

    @property
    def title(self) -> str:
        """Model and class."""
        return f"{self.model_name} explanation of {self.label(self.target)}"

    def classes(self) -> list[tuple[int, str, float]]:
        """Return number, name and probability of the five most probable classes, and of the target behind them."""
        shares = self.logits.double().softmax(0)
        best = torch.sort(shares, descending=True, stable=True).indices[:BEST].tolist()
        chosen = best if self.target in best else [*best, self.target]
        return [(n, self.label(n), float(shares[n])) for n in chosen]

    def table(self) -> Table:
        """Return the units of all stages, one a row: what they add to the logit, what is lost without them."""
        rows = []
        for stage in reversed(self.stages):
            p = stage.projection
            for k in range(len(p)):
                rows.append(
                    (stage.name, int(p.units[k]), f"{stage.contributions[k]:+.3g}", f"{-stage.drops[k]:+.3g}",
                     "{}, {}".format(*p.places[k].tolist()), f"{p.activations[k]:.3g}")
                )  # fmt: skip
        logit = f"logit of {self.label(self.target)}: {self.logits[self.target]:.3g}"
        heads = ("layer", "unit", "adds to the logit", "without it", "place", "activation")
        return Table(
            heads, rows, f"Units that add most to the class ({self.model_name}), and the change without each; {logit}."
        )

    def facts(self) -> dict[str, object]:
        """Return everything but pixels and maps as plain Python values, ready for JSON."""
        o = self.occlusion
        drop, lowest = o.heatmap().nan_to_num(-torch.inf), int(o.probability.argmin())
        at = divmod(int(drop.argmax()), drop.shape[1])
        cam = None if self.cam is None else divmod(int(self.cam.argmax()), self.cam.shape[1])
        found: dict[str, Any] = {
            "model": self.model, "policy": self.policy, "target": self.target,
            "target_label": self.label(self.target), "logit": float(self.logits[self.target]),
            "classes": [{"class": n, "label": name, "probability": share} for n, name, share in self.classes()],
            "occlusion": {
                "window": list(o.window), "stride": list(o.stride), "fill": o.fill,
                "lowest_probability": {
                    "value": float(o.probability.flatten()[lowest]), "origin": o.origins[lowest].tolist(),
                },
                "largest_drop": {"value": float(drop.max()), "pixel": list(at)},
            },
            "grad_cam": None if cam is None else {"layer": self.cam_layer, "largest_at": list(cam)},
            "stages": [stage.facts() for stage in self.stages],
        }  # fmt: skip
        return found

    def html(self) -> str:
        """Return the page as one HTML file: pictures inside, nothing fetched, everything escaped."""
        from deconvviz.analyses.explanation.page import page

        return page(self)

    def encoded(self, suffix: str, **figure: Any) -> bytes:
        """Return the content of the file that `save` writes for this suffix; equal results give equal bytes."""
        if suffix.lower() == ".html":
            return self.html().encode()
        if suffix.lower() == ".json":
            return (json.dumps(self.facts(), indent=1, allow_nan=False) + "\n").encode()
        return super().encoded(suffix, **figure)
