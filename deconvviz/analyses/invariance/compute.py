"""Invariance: how features and the answer change as a picture is moved, scaled, turned or mirrored (paper, Fig. 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.analyses.features import OUTPUT, features, name_of
from deconvviz.analyses.given import answers_of
from deconvviz.analyses.invariance.result import Invariance
from deconvviz.data.transforms import TRANSFORMS, Fill, check_values, default_values, fill_colour, transform_named, warp
from deconvviz.engine.passes import plain_mode
from deconvviz.errors import DeconvvizValueError
from deconvviz.network.network import Network
from deconvviz.network.preprocessing import Picture
from deconvviz.progress import Progress, Report, heard

Job = tuple[str, float]


def invariance(
    model: Network | nn.Module,
    images: Picture | Sequence[Picture],
    labels: int | str | Sequence[int | str] | None = None,
    transforms: Sequence[str] | Mapping[str, Sequence[float] | None] = ("translation", "scale", "rotation"),
    low: str | nn.Module | None = None,
    high: str | nn.Module | None = None,
    fill: Fill = "grey",
    batch: int = 32,
    progress: Progress = None,
) -> Invariance:
    """Transform pictures and measure how far the features of a low and a high layer move, and what the answer becomes.

    `images` are one or several pictures: paths or PIL images (with a `Network` that has mean and std), or preprocessed
    tensors (C, H, W) or (N, C, H, W). `labels` are their true classes, as indices or names (one for all, or one each);
    None follows the model's own top class of the untransformed picture. `transforms` are names ("translation", which is
    vertical, "horizontal", "scale", "rotation", "flip") with the paper's ranges, or a mapping of names to values (None:
    the paper's); pixels are those of the input, and the paper's ±60 are meant for a height of 224. `low` and `high` are
    layers as for `project`; None takes the lowest and the highest number among the card's aliases (ZFNet: 1 and 7).
    `fill` is what comes in from outside the input: "grey" (the mean colour), "reflect", "edge", a number or a colour
    (C,) in input scale; the photograph beyond the network's crop is never used.

    The transforms act on the preprocessed input, bilinear between pixels and exact for whole ones. The untransformed
    picture is not run again: its distance is 0 by definition. At most `batch` transformed pictures run at once;
    `progress` is True for a bar, or called with the passes done and in all. Without logits (N, classes) there is no
    probability.

    Raises `UnknownNameError`, `DeconvvizValueError`, `DeconvvizTypeError`, and `UnsupportedOperatorError` for a model
    that cannot be recorded. The model is left exactly as it was.

    >>> steps = {"translation": [0, 2, 4]}
    >>> r = deconvviz.invariance(deconvviz.load("lenet"), torch.rand(2, 1, 28, 28), transforms=steps, low="1", high="4")
    >>> r.curve("translation").low.shape
    torch.Size([2, 3])
    """
    net = Network.of(model)
    inputs, names = net.inputs(images)
    chosen = _chosen(transforms, inputs.shape[2])
    colour = fill_colour(fill, inputs)
    kept = fill if isinstance(fill, str) else colour.tolist() if colour is not None else "grey"
    pair = _layers(net, low, high)
    wanted = [*pair, OUTPUT] if _has_logits(net, inputs[:1]) else list(pair)
    plain = features(net, inputs, wanted, batch)
    keys = (name_of(net, pair[0]), name_of(net, pair[1]))
    logits = plain.get(OUTPUT) if len(wanted) > 2 else None
    targets, named = _targets(net, logits, labels, len(inputs))
    jobs = [(kind, float(v)) for kind, values in chosen.items() for v in values.tolist()]
    with plain_mode(inputs.device.type), heard(progress, "passes") as report:
        curves = _TransformedPasses(net, wanted, keys, kept, batch, report).run(inputs, plain, targets, jobs)
    return Invariance(
        images=inputs, names=names, labels=named, targets=targets, transforms=tuple(chosen),
        counts=tuple(len(v) for v in chosen.values()), values=torch.cat(list(chosen.values())),
        layers=keys, low=curves[0], high=curves[1], probability=curves[2] if targets else None,
        norms=torch.stack([_length(plain[k]).cpu() for k in keys], 1),
        policy={"fill": kept, "between pixels": "bilinear", "labels": "own top class" if labels is None else "given"},
        **net.provenance(), **answers_of(net, logits),
    )  # fmt: skip


def _chosen(transforms: Sequence[str] | Mapping[str, Sequence[float] | None], height: int) -> dict[str, Tensor]:
    """The values (V,) of each transform that is asked for."""
    if isinstance(transforms, str):
        transforms = [transforms]
    asked = dict(transforms) if isinstance(transforms, Mapping) else dict.fromkeys(transforms)
    if not asked:
        raise DeconvvizValueError(f"transforms is empty; allowed: one or more of {', '.join(TRANSFORMS)}")
    for kind in asked:
        transform_named(kind)
    return {k: check_values(k, default_values(k, height) if v is None else v) for k, v in asked.items()}


def _layers(net: Network, low: Any, high: Any) -> tuple[str | nn.Module, str | nn.Module]:
    numbered = net.numbered("low and high, each a layer") if low is None or high is None else []
    return numbered[0] if low is None else low, numbered[-1] if high is None else high


def _has_logits(net: Network, one: Tensor) -> bool:
    try:
        return features(net, one, [OUTPUT])[OUTPUT].dim() == 2
    except DeconvvizValueError:
        return False  # an operator that cannot be recorded is named when the layers are asked for


def _targets(net: Network, logits: Tensor | None, labels: Any, count: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The class of each picture and its name; both are empty, or the name unknown, for a model without logits."""
    if logits is None:
        if labels is not None:
            raise DeconvvizValueError("labels are for a model whose output is logits (N, classes); this one has none")
        return (), ("",) * count
    labels = labels.tolist() if isinstance(labels, Tensor) else labels
    given = [labels] * count if labels is None or isinstance(labels, str | int) else list(labels)
    if len(given) != count:
        raise DeconvvizValueError(f"labels has {len(given)} for {count} pictures; allowed: one for all, or one each")
    own = logits.argmax(1).tolist()
    numbers = tuple(net.class_number(t, logits.shape[1], o) for t, o in zip(given, own, strict=True))
    return numbers, tuple(net.card.labels[n] if net.card.labels else f"class {n}" for n in numbers)


def _length(vectors: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(vectors.flatten(1), dim=1, dtype=torch.float64)
    return length


class _TransformedPasses:
    """Runs the transformed pictures, a batch at a time, and keeps three numbers of each."""

    def __init__(
        self, net: Network, wanted: list[str | nn.Module], keys: tuple[str, str], fill: Any, batch: int,
        progress: Report | None,
    ) -> None:  # fmt: skip
        self.net, self.wanted, self.keys, self.fill = net, wanted, keys, fill
        self.batch, self.progress = batch, progress

    def run(self, inputs: Tensor, plain: dict[str, Tensor], targets: tuple[int, ...], jobs: list[Job]) -> Tensor:
        """Distance in both layers and probability (NaN without targets), (3, N, V) float64."""
        found = torch.zeros(3, len(inputs), len(jobs), dtype=torch.float64)
        moved = [v for v, (kind, value) in enumerate(jobs) if value != TRANSFORMS[kind].identity]
        passes = len(inputs) * -(-len(moved) // self.batch)
        done = 0
        for n, picture in enumerate(inputs):
            own = {k: v[n : n + 1] for k, v in plain.items()}
            found[2, n] = self.probability(own, targets, n)
            for start in range(0, len(moved), self.batch):
                part = moved[start : start + self.batch]
                changed = features(self.net, self.variants(picture, [jobs[v] for v in part]), self.wanted, self.batch)
                for k, key in enumerate(self.keys):
                    found[k, n, part] = _length(changed[key] - own[key]).cpu()
                found[2, n, part] = self.probability(changed, targets, n)
                done += 1
                if self.progress is not None:
                    self.progress(done, passes)
        return found

    def variants(self, picture: Tensor, jobs: list[Job]) -> Tensor:
        return torch.cat([warp(picture, kind, values, self.fill) for kind, values in _by_kind(jobs)])

    def probability(self, found: dict[str, Tensor], targets: tuple[int, ...], n: int) -> Tensor:
        if not targets:
            return torch.full((1,), torch.nan, dtype=torch.float64)
        return found[OUTPUT].double().softmax(1)[:, targets[n]].cpu()


def _by_kind(jobs: list[Job]) -> Iterator[tuple[str, list[float]]]:
    """Neighbouring values of one transform together."""
    kinds = dict.fromkeys(kind for kind, _ in jobs)
    return ((kind, [v for k, v in jobs if k == kind]) for kind in kinds)
