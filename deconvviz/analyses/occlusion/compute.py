"""Occlusion sensitivity: one window after the other covered, exactly (Zeiler & Fergus 2014, section 4.2, Fig. 7).

Only what a window can reach is computed again (`deconvviz.engine.replay`); the answer is that of running the network
on every occluded picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deconvviz.analyses.given import targets_of, whole_of
from deconvviz.analyses.occlusion.cover import Covered, as_result, cover_of, positions_of
from deconvviz.analyses.occlusion.result import Occlusion
from deconvviz.analyses.occlusion.sweep import Sweep
from deconvviz.analyses.occlusion.watch import watch
from deconvviz.analyses.projection.compute import METHODS, project_recorded
from deconvviz.analyses.projection.result import Projection
from deconvviz.engine.layers import FoundLayer
from deconvviz.engine.passes import plain_mode
from deconvviz.engine.recorder import record
from deconvviz.engine.recording import Recording
from deconvviz.errors import (
    UnsupportedOperatorError,
    check_choice,
    check_counts,
)
from deconvviz.network.finite import check_value
from deconvviz.network.network import Network, Target
from deconvviz.network.preprocessing import Pictures, several
from deconvviz.progress import Progress, Report, heard

POSITIONS = ("all", "captum")


def occlude(
    model: Network | nn.Module,
    image: Pictures,
    target: Target | Sequence[Target] = None,
    window: int | Sequence[int] = 32,
    stride: int | Sequence[int] = 8,
    fill: str | float | Sequence[float] | Tensor = "grey",
    layer: str | nn.Module | None = None,
    batch: int = 64,
    mask: Any = None,
    positions: str = "all",
    seed: int = 0,
    progress: Progress = None,
    method: str = "deconvnet",
    output: str | None = None,
) -> Occlusion | list[Occlusion]:
    """Cover one window of a picture after the other and say what the network makes of each.

    `image` is a path or PIL image (with a `Network` that has mean and std) or a preprocessed tensor (C, H, W) or
    (1, C, H, W); several pictures (a list, a folder, a data set or its loader, a tensor (N, C, H, W)) give a list of
    results. `target` is a class (index or
    label; a list of one for each of several pictures; default: the model's own top class). For a dense output (N,
    classes, H, W) it is the mean of that class's map, or (class, (row, column)) or (class, mask) for some of its
    places, and so are `logits` and `baseline` for every class. `output` names one of several outputs ("logits", "0"),
    if more than one can be logits. `window` and `stride` are an int or a pair (rows, columns), in pixels of the input.
    `fill`: "grey" or "mean" (the card's mean; 0 for a bare module), "blur" (the picture blurred, σ = a quarter of the
    window), "noise" (normal, with the picture's own mean and deviation in each channel, from `seed`), a number, or a
    colour (C,), both in input scale. `mask` (h, w) boolean says which pixels of the window are covered. `positions`:
    "all" (every one that fits; a last one that does not is shifted back inside), or "captum" (its grid: the last window
    is cut at the border). With a `layer`, `activity` sums the map whose maximum is largest on the picture itself, which
    is projected besides by `method`, as `project` names them (by the gradient, if the DeconvNet knows no way:
    `projection.policy` says so). `progress` is True for a bar, or called with positions done and in all, those of each
    picture.

    The logits are those of the network run on every occluded picture, to rounding. Memory is bounded by `batch`
    pictures at a time, besides the recording of one picture, the filters (those of 3×3 up to five times) and the
    result.

    Raises `DeconvvizValueError` (also for an output or layer that is not finite for the picture as it is),
    `DeconvvizTypeError`, `UnknownNameError`, and `UnsupportedOperatorError` for a network that cannot be recorded, or
    in which the size of a value depends on the picture. The model is left exactly as it was.

    >>> o = deconvviz.occlude(deconvviz.load("zfnet"), "image.jpg", window=64, stride=80)
    >>> o.shape, o.logits.shape, o.probability.shape
    ((3, 3), torch.Size([9, 101]), torch.Size([3, 3]))
    """
    net = Network.of(model)
    pictures = several(image, net.card.channels or 3)
    targets = [target] if pictures is None else targets_of(target, len(pictures))
    with heard(progress, "positions") as report:
        found = [
            _one(net, p, t, window, stride, fill, layer, batch, mask, positions, seed, report, method, output)
            for p, t in zip([image] if pictures is None else pictures, targets, strict=True)
        ]
    return found[0] if pictures is None else found


def _one(net: Network, image: Any, *how: Any) -> Occlusion:
    x = net.preprocess(image)
    return occlude_recorded(net, record(net.plain, x), whole_of(net, image), *how)


def occlude_recorded(
    net: Network, rec: Recording, given: Mapping[str, Any], target: Any, window: Any, stride: Any, fill: Any,
    layer: Any, batch: int, mask: Any, positions: str, seed: int, progress: Report | None, method: str,
    output: str | None,
) -> Occlusion:  # fmt: skip
    """As `occlude`, of the picture that `rec` is a recording of; `given` is what the result keeps of the picture."""
    x = rec.values[0]
    check_counts(batch=batch)
    check_choice("method", method, METHODS)
    check_choice("positions", positions, POSITIONS)
    grid = positions_of(x, window, stride, positions)
    cover = cover_of(x, fill, mask, grid, seed)
    if rec.sized is not None:
        raise rec.sized
    readout, number = net.read_out(rec, "occlude", target, output)
    found = net.find_layer(rec, layer) if layer is not None else None
    if not net.allow_nonfinite:
        check_value(rec, readout.value, "the output")
        if found is not None:
            check_value(rec, found.value, f"'{found.alias or found.path}'")
    with plain_mode(x.device.type):
        baseline = readout.scores(rec.values[readout.value])[0].clone()
        watched = None if found is None else watch(rec, found)
        sweep = Sweep(rec, readout, Covered(rec.values[0], grid, cover), watched, len(grid.origins))
        rows, cols = (np.unique(grid.origins[:, axis]) for axis in (0, 1))
        seen = sweep.over(rows, cols, batch, progress)
    unit, total = (None, None) if watched is None else (watched.unit, watched.total)
    projection = None if found is None else _projection(net, rec, found, unit, method)
    policy: dict[str, object] = {"batch_norm": "folded", "arithmetic": round(sweep.arithmetic, 4)}
    policy |= {"seed": seed} if cover.words == "noise" else {}
    return Occlusion(
        origins=torch.from_numpy(grid.origins.copy()), shape=grid.shape, window=grid.window, stride=grid.stride,
        logits=as_result(seen.logits), baseline=as_result(baseline), target=number, image=x[0],
        fill_values=cover.values, fill=cover.words, positions=positions, mask=cover.mask,
        layer=projection.layer if projection else None, alias=projection.alias if projection else None,
        unit=unit, activity=None if seen.activity is None else seen.activity.view(grid.shape),
        projection=projection, baseline_activity=total, policy=policy, labels=net.card.labels,
        **given, **net.provenance(),
    )  # fmt: skip


def _projection(net: Network, rec: Recording, found: FoundLayer, unit: int | None, method: str) -> Projection:
    """The unit by `method`, or by the gradient through what that knows no way through: the policy says which."""
    try:
        return project_recorded(net, rec, found, [unit], method=method)
    except UnsupportedOperatorError:
        return project_recorded(net, rec, found, [unit], method="gradient")
