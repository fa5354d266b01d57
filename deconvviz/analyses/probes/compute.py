"""Probes: a linear classifier on the features of each layer (Zeiler & Fergus 2014, section 5.3 and Table 7)."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvviz.analyses.features import features, listed_layers
from deconvviz.analyses.probes.result import Probes
from deconvviz.data import likeness
from deconvviz.data.datasets import DataSetPictures, classes_of, data_set
from deconvviz.data.listing import Listing, listing
from deconvviz.data.pictures import same_photographs
from deconvviz.engine.layers import check_maps
from deconvviz.engine.passes import plain_mode
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, ImageError, check_counts
from deconvviz.network.network import Network
from deconvviz.progress import Progress, Report, heard
from deconvviz.results.score import Score, score_of

# The share of a category that is kept for testing where the numbers asked for would leave none.
SHARE = 0.12
_STEPS = 300  # of the optimiser, at most


def probe(
    model: Network | nn.Module,
    data: str | os.PathLike[str] | tuple[Tensor, Sequence[int] | Tensor],
    layers: str | nn.Module | Sequence[str | nn.Module] | None = None,
    per_category: int | Sequence[int] = (15, 30),
    *,
    most: int = 50,
    splits: int = 1,
    seed: int = 0,
    grid: int = 6,
    penalty: float = 1.0,
    held_out: str | None = "auto",
    batch: int = 32,
    progress: Progress = None,
) -> Probes:
    """Train a linear classifier on the features of each of `layers` and test it: the paper's protocol.

    `data` is a folder with one folder of pictures a category (or with the files of MNIST or CIFAR), or a pair of
    preprocessed inputs (N, C, H, W) and their classes (N,). `layers` are aliases, module paths or modules; None takes
    all with a number for an alias. For each number of `per_category`, so many pictures of each category train and up to
    `most` others test; a category that is too small for that keeps 12 % of its pictures for testing and trains on the
    others. `splits` are independent random draws from `seed`. The classifier is a linear SVM (one against the rest,
    squared hinge loss with weight `penalty`, an unpenalised bias) on standardised features, scaled so that a picture's
    have a length of about 1; maps larger than `grid` × `grid` are averaged down to it.

    Weights written by `deconvviz train` know the pictures that they were trained and chosen on. With `held_out` "auto"
    only pictures test that are neither one of those nor alike (copies, mirror images), whatever the folder. With None
    all may test. The result's `note` says either way how many of the test pictures had a part in the training, or that
    it cannot tell. `progress` is True for a bar, or called with the steps done and in all. Memory: 2 bytes a feature
    and picture, besides a batch.

    Raises `DeconvvizValueError`, `DeconvvizTypeError`, `UnknownNameError`, `ImageError`, and
    `UnsupportedOperatorError`. The model is left exactly as it was.

    >>> inputs, classes = torch.rand(24, 1, 28, 28), torch.arange(24) % 2
    >>> r = deconvviz.probe(deconvviz.load("lenet"), (inputs, classes), ["1", "2"], per_category=4)
    >>> r.layers, r.accuracy.shape
    (('1', '2'), torch.Size([2, 1, 1]))
    """
    counts = _check(per_category, most=most, splits=splits, grid=grid, batch=batch)
    if not penalty > 0:
        raise DeconvvizValueError(f"penalty is {penalty!r}; allowed: above 0")
    net = Network.of(model)
    chosen = listed_layers(net.numbered() if layers is None else layers)
    found = _data(net, data)
    if held_out not in ("auto", None):
        raise DeconvvizValueError(f"held_out is {held_out!r}; allowed: 'auto' or None")
    touched = touched_pictures(net, found)
    draws = [_draw(found, counts, most, touched if held_out else None, seed + k) for k in range(splits)]
    spans = _spans(found, draws[0])
    columns = [k for k, span in enumerate(spans) if span not in spans[:k]]
    used = sorted({i for draw in draws for part in (*draw.train, draw.test) for i in part})
    total = len(used) + len(chosen) * len(columns) * splits
    classes = torch.tensor(found.classes)
    with heard(progress, "steps") as report:
        count = _Count(report, total)
        values, readable = _values(net, found, used, chosen, grid, batch, count)
        rows = {i: n for n, i in enumerate(readable)}
        scores = torch.zeros(2, len(values), len(columns), splits)
        for (k, layer), (p, column), (s, draw) in itertools.product(
            enumerate(values.values()), enumerate(columns), enumerate(draws)
        ):
            parts = ([i for i in part if i in rows] for part in (draw.train[column], draw.test))
            train, test = (_rows(layer, classes, part, rows) for part in parts)
            scores[:, k, p, s] = torch.tensor(_accuracy(*train, *test, len(found.labels), penalty))
            count.step()
    sizes = (*(len(draws[0].train[k]) for k in columns), len(draws[0].test))
    policy: dict[str, object] = {
        "classifier": "linear SVM, one against the rest, squared hinge", "penalty": penalty, "grid": grid,
        "features": "standardised", "most": most, "seed": seed, "held_out": held_out, "asked": counts,
        "unreadable": [found.names[i] for i in used if i not in rows],
    }  # fmt: skip
    return Probes(
        tuple(values), tuple(spans[k][1] for k in columns), scores[0], tuple(v.shape[1] for v in values.values()),
        sizes, found.labels, _note(net, touched, draws), tuple(spans[k] for k in columns), scores[1],
        policy=policy, model=net.facts(),
    )  # fmt: skip


def touched_pictures(net: Network, data: Listing) -> Tensor | None:
    """Which pictures (N,) bool of `data` had a part in the training of `net`; None where that cannot be told."""
    if net.seen is None or (len(net.seen) and any(isinstance(picture, Tensor) for picture in data.pictures)):
        return None
    if not len(net.seen):
        return torch.zeros(len(data), dtype=torch.bool)
    return ~net.seen.untouched(likeness.hashes_of(data.pictures))


def _note(net: Network, touched: Tensor | None, draws: Sequence[_Draw]) -> str:
    """What the pictures are to the network, in words."""
    weights = net.card.weights
    if weights is not None and weights.name == "random":
        return "The network's weights are random."
    if touched is None:
        return "Whether the network was trained on these pictures is not known."
    test = sorted({i for draw in draws for i in draw.test})
    train = sorted({i for draw in draws for part in draw.train for i in part})
    parts = [f"{int(touched[part].sum()):,} of the {len(part):,}" for part in (train, test)]
    return (
        f"By its own list the network had seen {parts[0]} pictures that train the classifiers, and {parts[1]} that "
        "test them, copies and mirror images included."
    )


# What is given --------------------------------------------------------------------------------------------------------


def _check(per_category: int | Sequence[int], **numbers: object) -> tuple[int, ...]:
    counts = (per_category,) if isinstance(per_category, int) else tuple(per_category)
    check_counts(**numbers)
    for count in counts or (0,):
        check_counts(per_category=count)
    return tuple(dict.fromkeys(counts))


def _data(net: Network, data: object) -> Listing:
    """The pictures with their categories; inputs come as such."""
    if isinstance(data, str | os.PathLike):
        try:
            net.check_takes_pictures()
        except DeconvvizValueError as error:
            raise DeconvvizTypeError(f"this model takes no folder of pictures: {error}") from error
        found = listing(data, net.card.channels or 3)
        if len(set(found.classes)) < 2:
            raise DeconvvizValueError(f"{data} must hold one folder of pictures per category, two or more")
        return found
    known = data_set(data)
    if known is not None:
        given, called = classes_of(known)
        return Listing(DataSetPictures(known), tuple(f"{n:08d}" for n in range(len(known))), given, called)
    if not isinstance(data, tuple) or len(data) != 2 or not isinstance(data[0], Tensor):
        raise DeconvvizTypeError(
            f"data is a {type(data).__name__}; allowed: a folder, a data set or its loader, or a pair (inputs, classes)"
        )
    inputs, classes = data[0], torch.as_tensor(data[1])
    if inputs.dim() != 4 or tuple(classes.shape) != (len(inputs),) or classes.is_floating_point():
        raise DeconvvizValueError(
            f"data has inputs {tuple(inputs.shape)} and classes {tuple(classes.shape)}; allowed: (N, C, H, W) and (N,)"
        )
    if int(classes.min()) < 0 or len(set(classes.tolist())) < 2:
        raise DeconvvizValueError("classes must be numbers from 0, two or more of them")
    labels = tuple(f"class {k}" for k in range(int(classes.max()) + 1))
    names = tuple(f"{n:08d}" for n in range(len(inputs)))
    return Listing(list(inputs), names, tuple(classes.tolist()), labels)  # inputs, read already


# Which pictures train, which test -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Draw:
    """One random split: for each number of pictures a category those that train, and those that test."""

    train: tuple[list[int], ...]
    test: list[int]


def _draw(data: Listing, counts: Sequence[int], most: int, touched: Tensor | None, seed: int) -> _Draw:
    """Draw the pictures of each category; the same photograph in two categories is on one side."""
    generator = torch.Generator().manual_seed(seed)
    train: tuple[list[int], ...] = tuple([] for _ in counts)
    test: list[int] = []
    for label, pictures in same_photographs(data).items():
        order = [sorted(pictures)[k] for k in torch.randperm(len(pictures), generator=generator).tolist()]
        size = max(len(order) - max(counts), math.ceil(SHARE * len(order)))
        tests, others = order[:size], order[size:]
        known = [n for n in order if touched is not None and bool(touched[pictures[n]].any())]
        if known:  # those train, and the rest tests: all of it, for there may be few
            tests, others = [n for n in order if n not in set(known)], known
            if not tests:
                raise DeconvvizValueError(
                    f"the network was trained on all {len(known)} pictures of '{label}', which leaves none to test on; "
                    "held_out=None tests on them all the same"
                )
        if not tests or not others:
            raise DeconvvizValueError(f"category '{label}' has too few pictures: one to train on, one to test on")
        test += [i for n in tests[:most] for i in pictures[n]]
        for part, count in zip(train, counts, strict=True):
            part += [i for n in others[:count] for i in pictures[n]]
    return _Draw(train, test)


def _spans(data: Listing, draw: _Draw) -> list[tuple[int, int]]:
    """For each number asked for, the fewest and the most pictures that a category really trains on."""
    classes = torch.tensor(data.classes)
    counted = [torch.bincount(classes[part], minlength=len(data.labels)) for part in draw.train]
    return [(int(counts[counts > 0].min()), int(counts.max())) for counts in counted]


# Features -------------------------------------------------------------------------------------------------------------


class _Count:
    """Steps done, told as they are."""

    def __init__(self, progress: Report | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def step(self, steps: int = 1) -> None:
        self.done += steps
        if self.progress is not None:
            self.progress(self.done, self.total)


def _values(
    net: Network, data: Listing, used: Sequence[int], layers: Sequence[str | nn.Module], grid: int,
    batch: int, count: _Count,
) -> tuple[dict[str, Tensor], list[int]]:  # fmt: skip
    """Features (U, D) of each layer in half precision, each layer's in a unit of its own, and whose rows they are."""
    stored: dict[str, Tensor] = {}
    scales: dict[str, float] = {}
    readable: list[int] = []
    for start in range(0, len(used), batch):
        part, inputs = used[start : start + batch], []
        for i in part:
            try:
                inputs.append(net.preprocess(data.pictures[i]))
            except ImageError:
                continue
            readable.append(i)
        if inputs:
            found = features(net, torch.cat(inputs), layers, batch)
            before = len(readable) - len(inputs)
            for name in list(found):
                value = _pooled(name, found.pop(name), grid)
                # Half precision has a range of its own: the first batch gives the unit.
                scale = scales.setdefault(name, float(value.pow(2).mean().sqrt()) or 1.0)
                rows = stored.setdefault(name, torch.empty(len(used), value.shape[1], dtype=torch.float16))
                rows[before : len(readable)] = (value / scale).clamp(-65504, 65504).to("cpu", torch.float16)
        count.step(len(part))
    return {name: rows[: len(readable)] for name, rows in stored.items()}, readable


def _pooled(name: str, value: Tensor, grid: int) -> Tensor:
    """Features (N, D): maps averaged down to `grid` × `grid` where they are larger."""
    check_maps(name, value.shape)
    if value.dim() == 2:
        return value
    with plain_mode(value.device.type):
        size = (min(grid, value.shape[2]), min(grid, value.shape[3]))
        return F.adaptive_avg_pool2d(value, size).flatten(1)


def _rows(layer: Tensor, classes: Tensor, part: Sequence[int], rows: dict[int, int]) -> tuple[Tensor, Tensor]:
    return layer[[rows[i] for i in part]].float(), classes[list(part)]


# The classifier -------------------------------------------------------------------------------------------------------


def _accuracy(x: Tensor, y: Tensor, test: Tensor, truth: Tensor, categories: int, penalty: float) -> Score:
    """Mean over categories of the share of test pictures that the classifier gets right."""
    scores = classify(x, y, test, categories, penalty)
    return score_of((scores.argmax(1) == truth).double(), truth)


def classify(x: Tensor, y: Tensor, test: Tensor, categories: int, penalty: float) -> Tensor:
    """Scores (T, categories) for `test` (T, D) of a linear SVM trained on `x` (N, D) with classes `y` (N,).

    For each category, against the rest: the least |w|² / 2 + penalty × Σ max(0, 1 − y (w·x + b))², over features that
    are standardised by the training pictures and divided by √D.
    """
    mean = x.mean(0)
    # A feature that hardly ever differs is left small, not blown up to noise.
    std = x.std(0, correction=0)
    std = std.clamp(min=1e-3 * float(std.max()) or 1.0) * math.sqrt(x.shape[1])
    x, test = (x - mean) / std, (test - mean) / std
    if x.shape[1] > len(x):
        # Rotated into the space of the training pictures, where the same classifier has N weights instead of D.
        lower = _root((x @ x.T).double())
        across = (test @ x.T).double()
        test, x = torch.linalg.solve_triangular(lower, across.T, upper=False).T, lower
    weights, bias = _svm(x.double(), F.one_hot(y, categories).double() * 2 - 1, penalty)
    return test.double() @ weights + bias


def _root(inner: Tensor) -> Tensor:
    """The lower L with L Lᵀ = `inner` (N, N), and as little added to the diagonal as rounding makes necessary."""
    scale = float(inner.diagonal().mean()) or 1.0
    lower = inner
    for power in range(-6, 1):
        lower, failed = torch.linalg.cholesky_ex(inner + torch.eye(len(inner), dtype=inner.dtype) * scale * 10.0**power)
        if not int(failed):
            break
    return lower


def _svm(x: Tensor, signs: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights (D, K) and biases (K,) of K independent SVMs for `signs` (N, K) of ±1, all at once by L-BFGS."""
    weights = torch.zeros(x.shape[1], signs.shape[1], dtype=x.dtype)
    bias = torch.zeros(signs.shape[1], dtype=x.dtype)
    weights.grad, bias.grad = torch.zeros_like(weights), torch.zeros_like(bias)
    optimiser = torch.optim.LBFGS(
        [weights, bias], max_iter=_STEPS, tolerance_grad=1e-4 * penalty, tolerance_change=1e-9, history_size=10,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> float:
        margins = (1 - signs * (x @ weights + bias)).clamp(min=0)
        pull = signs * margins * (-2 * penalty)
        assert weights.grad is not None and bias.grad is not None
        torch.add(weights, x.T @ pull, out=weights.grad)
        torch.sum(pull, 0, out=bias.grad)
        return float(weights.pow(2).sum() / 2 + penalty * margins.pow(2).sum())

    with torch.no_grad():
        optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weights, bias
