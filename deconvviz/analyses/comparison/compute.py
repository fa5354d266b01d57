"""Several methods asked the same, and how far each can be believed: deletion, insertion, sensitivity-n, infidelity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deconvviz.analyses.comparison.changes import Changes, Grid, answers
from deconvviz.analyses.comparison.methods import METHODS, attributions, check_installed, occluder
from deconvviz.analyses.comparison.question import Question, ask
from deconvviz.analyses.comparison.result import Comparison, Comparisons
from deconvviz.analyses.given import answer_in, targets_of, whole_of
from deconvviz.analyses.occlusion.cover import as_result, cover_of, positions_of
from deconvviz.engine.passes import plain_mode
from deconvviz.engine.windows import Patch
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, check_choice, check_counts
from deconvviz.network.network import Network, Target
from deconvviz.network.preprocessing import Pictures, listed, several
from deconvviz.progress import Progress, Report, heard

DEFAULT = ("deconvnet", "guided", "gradient", "grad-cam", "occlusion", "random")
MODES = ("class", "unit")
ORDERS = ("own", "signed", "absolute")
SIZES = (0.01, 0.03, 0.1, 0.3, 0.6)  # of the random sets of sensitivity-n, as shares of all cells
SQUARES = (1 / 14, 1 / 7, 2 / 7)  # sides of the random squares of infidelity, as shares of the picture's
_FINEST = 28  # cells of these sets in a side of the picture, at most
_BLURRED = 4  # the blurred picture has been seen through a window so many times smaller than its side


def compare(
    model: Network | nn.Module,
    image: Pictures,
    methods: str | Sequence[str] = DEFAULT,
    target: Target | Sequence[Target] = None,
    layer: str | nn.Module | None = None,
    mode: str = "class",
    unit: int | None = None,
    steps: int = 32,
    block: int = 1,
    order: str = "own",
    fill: str | float | Sequence[float] | Tensor = "grey",
    subsets: int = 32,
    batch: int = 32,
    seed: int = 0,
    progress: Progress = None,
    output: str | None = None,
) -> Comparison | Comparisons:
    """Ask several methods which pixels a score comes from, and measure which of them is right.

    `image` and `target` are as for `occlude`; several pictures give `Comparisons`, with means and standard errors.
    `methods` are names of "deconvnet", "guided", "gradient", "input-x-gradient", "integrated-gradients", "smoothgrad"
    (these two by captum, the extra `compare`), "grad-cam", "layer-cam", "occlusion", and the baselines "edges" (Sobel)
    and "random", which know nothing of the network. In `mode` "class" the score is the logit of `target`, and `layer`
    the one whose maps the two CAMs weigh (default: the last with a map). In "unit" it is the activation of `unit` of
    `layer` (default: the strongest) where that is strongest; only its receptive field is changed.

    Deletion and insertion (Petsiuk et al. 2018): in `steps` steps the cells (`block` × `block` pixels) that a map
    ranks highest are covered with `fill` (as for `occlude`), or laid over the blurred picture. `order`: "own" ranks by
    size where a method gives a sensitivity, whose sign says only which way the pixel would have to go, and by signed
    value elsewhere; "signed" | "absolute" for all. Ties go by chance (`seed`). Sensitivity-n (Ancona et al. 2018)
    correlates the sum of a map over random sets of cells with what covering them takes from the score; infidelity (Yeh
    et al. 2019) is how much of what covering random squares takes from it a map does not explain. These are `subsets`
    sets for each of five sizes, and squares of each of three, the same for all methods; 0: neither. Memory is bounded
    by `batch` pictures at a time. `progress` is True for a bar, or called with changed pictures done and in all.

    Raises `UnknownNameError`, `DeconvvizTypeError`, `DeconvvizValueError` (also for a package that is missing), and
    `UnsupportedOperatorError` for a network that cannot be recorded, or through which a method knows no way. The model
    is left exactly as it was.

    >>> c = deconvviz.compare(deconvviz.load("lenet"), torch.rand(1, 28, 28), ["gradient", "random"], steps=8)
    >>> c.maps.shape, c.deletion.shape, c.insertion_auc.shape
    (torch.Size([2, 28, 28]), torch.Size([2, 8]), torch.Size([2]))
    """
    names = _named(methods, mode, layer, unit, target)
    check_choice("order", order, ORDERS)
    check_counts(steps=steps, block=block, batch=batch)
    if isinstance(subsets, bool) or not isinstance(subsets, int) or subsets < 0:
        raise DeconvvizValueError(f"subsets is {subsets!r}; allowed: a whole number from 0")
    net = Network.of(model)
    pictures = several(image, net.card.channels or 3)
    targets = [target] if pictures is None else targets_of(target, len(pictures))
    how = _How(names, steps, block, order, fill, subsets, batch, seed)
    found: list[Comparison] = []
    with heard(progress, "changed pictures") as report:
        for picture, goal in zip([image] if pictures is None else pictures, targets, strict=True):
            question = ask(net, net.preprocess(picture), goal, layer, unit, mode, output, seed)
            found.append(_one(question, how, picture, _Done(report, len(found), len(targets))))
    if pictures is None:
        return found[0]
    if not found:
        raise DeconvvizValueError("images is empty; allowed: one picture or more")
    return Comparisons(
        tuple(found), listed(image, net.card.channels or 3)[1], policy=dict(found[0].policy), model=net.facts()
    )


@dataclass(frozen=True)
class _How:
    """What is done with every picture, as `compare` takes it."""

    methods: tuple[str, ...]
    steps: int
    block: int
    order: str
    fill: Any
    subsets: int
    batch: int
    seed: int

    def by_size(self, method: str) -> bool:
        """Whether a map ranks by its size, without the sign."""
        return self.order == "absolute" or (self.order == "own" and METHODS[method].kind == "sensitivity")


def _named(methods: Any, mode: str, layer: Any, unit: Any, target: Any) -> tuple[str, ...]:
    """The methods, once all that needs no picture to be seen as wrong has been looked at."""
    check_choice("mode", mode, MODES)
    if mode == "unit" and layer is None:
        raise DeconvvizValueError('mode is "unit"; give the layer that the unit is of')
    if mode == "unit" and target is not None:
        raise DeconvvizValueError('target goes with mode "class"; mode is "unit"')
    if mode == "class" and unit is not None:
        raise DeconvvizValueError('unit goes with mode "unit"; mode is "class"')
    names = (methods,) if isinstance(methods, str) else methods
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise DeconvvizTypeError(f"methods is {methods!r}; allowed: names of methods")
    if not names or len(set(names)) != len(names):
        raise DeconvvizValueError(f"methods is {methods!r}; allowed: one name or more, each once")
    for name in names:
        check_choice("method", name, tuple(METHODS))
    check_installed(names)
    return tuple(names)


# One picture ----------------------------------------------------------------------------------------------------------


def _one(question: Question, how: _How, picture: Any, told: _Done) -> Comparison:
    net, rec, x = question.net, question.rec, question.image
    found = [attributions(question, name) for name in how.methods]
    maps = torch.stack([a.sum(0) for a in found])
    size = (x.shape[2], x.shape[3])
    sides = positions_of(x, 1, 1) if min(size) < _BLURRED else positions_of(x, min(size) // _BLURRED, 1)
    filled = cover_of(x, how.fill, None, sides, how.seed)
    blurred = cover_of(x, "blur", None, sides, how.seed).values[None]
    fill = filled.values.expand(x.shape[1:])
    grid = Grid(question.box, how.block)
    ranks = _ranks(grid, maps, how)
    told.each = 2 * len(ranks) * how.steps + how.subsets * len((*SIZES, *SQUARES))
    curves = _Curves(question, how, told)
    deletion = curves.of(question, Changes(grid, *_first_cells(ranks, how.steps)), fill)
    other = question.of(blurred)
    insertion = curves.of(other, Changes(grid, *_first_cells(ranks, how.steps)), x[0])
    agreement, infidelity = _agreement(curves, found, fill)
    layer = question.cam
    given: dict[str, Any] = {}
    if not isinstance(picture, Tensor):
        given = {**whole_of(net, picture), "answer": answer_in(net, rec)}
    return Comparison(
        methods=how.methods,
        maps=as_result(maps),
        deletion=question.measured(deletion).view(len(maps), -1).float(),
        insertion=question.measured(insertion).view(len(maps), -1).float(),
        baseline=float(question.measured(_own(question))),
        blurred=float(question.measured(_own(other))),
        score=float(question.scores(_own(question))),
        target=question.number,
        mode="class" if question.readout is not None else "unit",
        kinds=tuple(METHODS[name].kind for name in how.methods),
        says=tuple(METHODS[name].says for name in how.methods),
        layer=None if layer is None else layer.path,
        alias=None if layer is None else layer.alias,
        place=question.place,
        box=question.box,
        sizes=SIZES if how.subsets else (),
        sensitivity_n=agreement,
        infidelity=infidelity,
        image=as_result(x[0]).clone(),
        labels=net.card.labels,
        policy=_policy(how, filled.words, size, question.box),
        **given,
        **net.provenance(),
    )


def _own(question: Question) -> Tensor:
    """The answers to the picture itself, (1, n)."""
    with plain_mode(question.image.device.type):
        return question.answers(Patch(question.rec.values[question.value], None))


def _policy(how: _How, fill: str, size: tuple[int, int], box: tuple[int, int, int, int]) -> dict[str, object]:
    ranked = {name: "size" if how.by_size(name) else "signed value" for name in how.methods}
    side, step = occluder(size)
    return {
        "score": "logit of the target, or the unit's activation at its strongest place",
        "maps": "signed sum over channels", "ranked_by": ranked, "ties": "by chance", "steps": how.steps,
        "block": how.block, "deleted_to": fill, "inserted_over": f"blurred, σ {max(min(size) // _BLURRED / 4, 0.5):g}",
        "auc": "trapezoids, from the picture itself (deletion) or the blurred one (insertion)",
        "occlusion": {"window": side, "stride": step}, "subsets": how.subsets, "subset_cell": _cell(how, box),
        "infidelity": "of squares, sides 1/14, 1/7 and 2/7 of the pixels that count",
        "seed": how.seed,
    }  # fmt: skip


def _cell(how: _How, box: tuple[int, int, int, int]) -> int:
    """The side of the cells of random sets: single pixels change nothing that could be told from rounding."""
    return max(how.block, -(-min(box[2] - box[0], box[3] - box[1]) // _FINEST))


# Curves ---------------------------------------------------------------------------------------------------------------


def _ranks(grid: Grid, maps: Tensor, how: _How) -> np.ndarray[Any, np.dtype[np.int64]]:
    """For each method the number of every cell, the highest first; equal ones by chance, the same for all methods."""
    by_chance = np.random.default_rng(how.seed).permutation(len(grid))
    ranks = np.empty((len(maps), len(grid)), np.int64)
    for rank, one, name in zip(ranks, maps, how.methods, strict=True):
        value = grid.means(one.abs() if how.by_size(name) else one).nan_to_num(-torch.inf).numpy()
        rank[np.lexsort((by_chance, -value))] = np.arange(len(grid))
    return ranks


def _first_cells(ranks: Any, steps: int) -> tuple[Any, Any, Any]:
    """All orders, and for each of them the sets of cells after 1, 2, … `steps` equal steps."""
    counts = np.rint(np.arange(1, steps + 1) * ranks.shape[1] / steps).astype(np.int64)
    return ranks, np.repeat(np.arange(len(ranks)), steps), np.tile(counts, len(ranks))


@dataclass
class _Done:
    """How many changed pictures are done: `each` of every one of `count` pictures, of which `before` came first."""

    report: Report | None
    before: int
    count: int
    each: int = 0
    done: int = 0

    def add(self, more: int) -> None:
        self.done += more
        if self.report is not None:
            self.report(self.before * self.each + self.done, self.count * self.each)


@dataclass
class _Curves:
    """Answers to changed pictures, of which as many are told as are done."""

    question: Question
    how: _How
    told: _Done

    def of(self, question: Question, changes: Changes, fill: Tensor) -> Tensor:
        return answers(question, changes, fill, self.how.batch, self.told.add)


# Random sets ----------------------------------------------------------------------------------------------------------


def _agreement(curves: _Curves, found: list[Tensor], fill: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Sensitivity-n (M, sizes) and infidelity (M,) of what methods have `found`."""
    how, question = curves.how, curves.question
    if not how.subsets:
        return None, None
    grid = Grid(question.box, _cell(how, question.box))
    chance = np.random.default_rng(how.seed + 1)
    scattered, squares = _scattered(grid, how.subsets, chance), _squares(grid, how.subsets, chance)
    own = question.scores(_own(question))
    drops, local = (own - question.scores(curves.of(question, sets, fill)) for sets in (scattered, squares))
    inside, within = (torch.from_numpy(sets.ranks < sets.counts[:, None]).double() for sets in (scattered, squares))
    change = (question.image[0] - fill).double().cpu()
    agreement, infidelity = [], []
    for name, one in zip(how.methods, found, strict=True):
        sums, by_size = grid.sums(one.sum(0)), drops.view(len(SIZES), -1)
        added = (inside @ sums).view(len(SIZES), -1)
        agreement.append([correlation(a, b) for a, b in zip(added, by_size, strict=True)])
        # A derivative foretells a change times as much; a share of the score has that in it.
        foretold = grid.sums((one.double() * change).sum(0)) if METHODS[name].kind == "sensitivity" else sums
        infidelity.append(unexplained(within @ foretold, local))
    return torch.tensor(agreement), torch.tensor(infidelity)


def _scattered(grid: Grid, count: int, chance: np.random.Generator) -> Changes:
    """`count` sets of cells anywhere for each of `SIZES`."""
    ranks = np.stack([chance.permutation(len(grid)) for _ in range(count * len(SIZES))])
    counts = np.repeat([max(1, round(share * len(grid))) for share in SIZES], count)
    return Changes(grid, ranks, np.arange(len(ranks)), counts)


def _squares(grid: Grid, count: int, chance: np.random.Generator) -> Changes:
    """`count` squares of cells anywhere for each of `SQUARES`."""
    outside = np.ones((count * len(SQUARES), *grid.shape), np.int64)
    for one, share in zip(outside, np.repeat(SQUARES, count), strict=True):
        side = max(1, round(share * min(grid.shape)))
        row, col = (int(chance.integers(n - side + 1)) for n in grid.shape)
        one[row : row + side, col : col + side] = 0
    counts = np.ones(len(outside), np.int64)
    return Changes(grid, outside.reshape(len(outside), -1), np.arange(len(outside)), counts)


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's correlation of two series (n,); NaN where one does not vary."""
    a, b = a - a.mean(), b - b.mean()
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size > 0 else float("nan")


def unexplained(foretold: Tensor, found: Tensor) -> float:
    """The mean square of what remains of `found` (n,) without the best multiple of `foretold`, as a share, 0 to 1."""
    both, total = float(foretold @ found), float(found @ found)
    own = float(foretold @ foretold)
    if total == 0:
        return float("nan")
    return max(0.0, 1 - both**2 / own / total) if own > 0 else 1.0
