"""Occlusion sensitivity: one window after the other covered, exactly (Zeiler & Fergus 2014, section 4.2, Fig. 7).

Only what a window can reach is computed again (`deconvviz.engine.replay`); the answer is that of running the network
on every occluded picture.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as TF

from deconvviz.analyses.given import whole_of
from deconvviz.analyses.occlusion.result import Occlusion
from deconvviz.analyses.projection.compute import METHODS, project_recorded
from deconvviz.analyses.projection.result import Projection
from deconvviz.engine.layers import FoundLayer, layer_maps
from deconvviz.engine.passes import plain_mode
from deconvviz.engine.readout import Readout
from deconvviz.engine.recorder import record
from deconvviz.engine.recording import Recording
from deconvviz.engine.replay.replay import Replay
from deconvviz.engine.replay.run import run as replay_all
from deconvviz.engine.replay.schedule import Schedule
from deconvviz.engine.windows import Patch, RecordedMap, Windows, paste
from deconvviz.errors import (
    DeconvvizTypeError,
    DeconvvizValueError,
    UnknownNameError,
    UnsupportedOperatorError,
    check_choice,
    check_counts,
    suggest,
)
from deconvviz.network.finite import check_value
from deconvviz.network.network import Network, Target
from deconvviz.network.preprocessing import Pictures, listed
from deconvviz.progress import Progress, Report, heard

FILLS = ("grey", "mean", "blur", "noise")
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
    pictures = _pictures(image, net)
    targets = [target] if pictures is None else _targets(target, len(pictures))
    with heard(progress, "positions") as report:
        found = [
            _one(net, p, t, window, stride, fill, layer, batch, mask, positions, seed, report, method, output)
            for p, t in zip([image] if pictures is None else pictures, targets, strict=True)
        ]
    return found[0] if pictures is None else found


def _targets(target: Any, count: int) -> list[Any]:
    """The class in question of each of `count` pictures."""
    several = isinstance(target, Sequence) and not isinstance(target, str) and not _has_places(target)
    targets = list(target) if several else [target] * count
    if len(targets) != count:
        raise DeconvvizValueError(f"target has {len(targets)} classes for {count} pictures")
    return targets


def _has_places(target: Sequence[Any]) -> bool:
    """Whether this is (class, where) and not one class for each of two pictures."""
    return isinstance(target, tuple) and len(target) == 2 and not isinstance(target[1], int | str | None)


def _pictures(image: Any, net: Network) -> Sequence[Any] | None:
    """The pictures, if several are meant."""
    if isinstance(image, Tensor):
        return list(image) if image.dim() == 4 and image.shape[0] != 1 else None
    several = (
        isinstance(image, list | tuple | Dataset | DataLoader)
        or (isinstance(image, np.ndarray) and image.ndim == 4)
        or (isinstance(image, str | os.PathLike) and os.path.isdir(image))
    )
    return listed(image, net.card.channels or 3)[0] if several else None


def _one(
    net: Network, image: Any, target: Any, window: Any, stride: Any, fill: Any, layer: Any, batch: int, mask: Any,
    positions: str, seed: int, progress: Report | None, method: str,
    output: str | None,
) -> Occlusion:  # fmt: skip
    check_counts(batch=batch)
    check_choice("method", method, METHODS)
    check_choice("positions", positions, POSITIONS)
    x = net.preprocess(image)
    grid = _positions(x, window, stride, positions)
    cover = _cover(x, fill, mask, grid, seed)
    rec = record(net.plain, x)
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
        seen = _run(rec, readout, grid, cover, _strongest(rec, found), batch, progress)
    projection = None if found is None else _projection(net, rec, found, seen.unit, method)
    # The share of the filters' arithmetic of as many whole passes that was left to do.
    policy: dict[str, object] = {"batch_norm": "folded", "arithmetic": round(seen.arithmetic, 4)}
    policy |= {"seed": seed} if cover.words == "noise" else {}
    return Occlusion(
        origins=torch.from_numpy(grid.origins.copy()), shape=grid.shape, window=grid.window, stride=grid.stride,
        logits=_float(seen.logits), baseline=_float(baseline), target=number, image=x[0],
        fill_values=cover.values, fill=cover.words, positions=positions, mask=cover.mask,
        layer=projection.layer if projection else None, alias=projection.alias if projection else None,
        unit=seen.unit, activity=None if seen.activity is None else seen.activity.view(grid.shape),
        projection=projection, baseline_activity=seen.total, policy=policy, labels=net.card.labels,
        **whole_of(net, image), **net.provenance(),
    )  # fmt: skip


def _projection(net: Network, rec: Recording, found: FoundLayer, unit: int | None, method: str) -> Projection:
    """The unit by `method`, or by the gradient through what that knows no way through: the policy says which."""
    try:
        return project_recorded(net, rec, found, [unit], method=method)
    except UnsupportedOperatorError:
        return project_recorded(net, rec, found, [unit], method="gradient")


def _float(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


# Where and what ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Positions:
    """Positions in raster order: `origins` (P, 2), `shape` (rows, cols) of the grid, the picture's `size`."""

    origins: NDArray[np.int64]
    shape: tuple[int, int]
    window: tuple[int, int]
    stride: tuple[int, int]
    size: tuple[int, int]


def _positions(x: Tensor, window: Any, stride: Any, positions: str) -> _Positions:
    sides, steps = _pair("window", window), _pair("stride", stride)
    size = (int(x.shape[2]), int(x.shape[3]))
    if sides[0] > size[0] or sides[1] > size[1]:
        raise DeconvvizValueError(
            f"window is {sides[0]}×{sides[1]}; allowed: no larger than the picture, {size[0]}×{size[1]}"
        )
    lines = []
    for side, step, full in zip(sides, steps, size, strict=True):
        count = math.ceil((full - side) / step) + 1
        line = np.arange(count, dtype=np.int64) * step
        lines.append(line if positions == "captum" else np.minimum(line, full - side))
    rows, cols = np.meshgrid(*lines, indexing="ij")
    origins = np.stack([rows.ravel(), cols.ravel()], 1)
    return _Positions(origins, (len(lines[0]), len(lines[1])), sides, steps, size)


def _pair(name: str, given: Any) -> tuple[int, int]:
    pair = (given, given) if isinstance(given, int) else tuple(given) if isinstance(given, Sequence) else ()
    whole = all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in pair)
    if len(pair) != 2 or not whole:
        raise DeconvvizValueError(f"{name} is {given!r}; allowed: a positive int or a pair (rows, columns)")
    return pair[0], pair[1]


@dataclass(frozen=True)
class _Cover:
    """What stands in a window: `values` (C, 1, 1) or (C, H, W) in input scale; the covered pixels of the window."""

    values: Tensor
    words: str
    mask: Tensor | None


def _cover(x: Tensor, fill: Any, mask: Any, grid: _Positions, seed: int) -> _Cover:
    channels = x.shape[1]
    covered: Tensor | None = None
    if mask is not None:
        covered = torch.as_tensor(np.asarray(mask) if not isinstance(mask, Tensor) else mask).cpu()
        if covered.dtype != torch.bool or tuple(covered.shape) != grid.window:
            raise DeconvvizValueError(
                f"mask is {covered.dtype} of shape {tuple(covered.shape)}; allowed: boolean, the window's {grid.window}"
            )
    if isinstance(fill, str):
        if fill not in FILLS:
            raise UnknownNameError(
                f"fill is {fill!r}; allowed: {', '.join(map(repr, FILLS))}, a number, a colour (C,)"
                f"{suggest(fill, FILLS)}"
            )
        return _Cover(_named_fill(x, fill, grid, seed), fill, covered)
    try:
        colour = torch.as_tensor(fill, dtype=torch.float64).reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        raise DeconvvizTypeError(f"fill is {fill!r}; allowed: a name, a number, a colour of {channels}") from None
    if len(colour) not in (1, channels) or not bool(colour.isfinite().all()):
        raise DeconvvizValueError(
            f"fill has {len(colour)} values; allowed: one, or one for each of {channels} channels"
        )
    words = ", ".join(f"{v:g}" for v in colour.tolist())
    return _Cover(colour.to(x).expand(channels).reshape(channels, 1, 1).clone(), words, covered)


def _named_fill(x: Tensor, fill: str, grid: _Positions, seed: int) -> Tensor:
    if fill in ("grey", "mean"):
        # Normalised inputs: the mean colour is 0, for a bare module as for a card's mean.
        return x.new_zeros(x.shape[1], 1, 1)
    if fill == "blur":
        sigma = [max(side / 4, 0.5) for side in grid.window[::-1]]
        kernel = [min(2 * math.ceil(3 * s) + 1, 2 * full - 1) for s, full in zip(sigma, grid.size[::-1], strict=True)]
        blurred: Tensor = TF.gaussian_blur(_float(x), kernel, sigma)[0].to(x.dtype)
        return blurred
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(x.shape[1:], generator=generator, dtype=torch.float64).to(x.device)
    mean, deviation = x[0].double().mean((1, 2), keepdim=True), x[0].double().std((1, 2), keepdim=True)
    return (noise * deviation.nan_to_num() + mean).to(x.dtype)


# The run -------------------------------------------------------------------------------------------------------------


@dataclass
class _Watch:
    """A layer's value whose map `unit` is summed; `total` is its sum on the picture itself."""

    value: int
    unit: int
    total: float
    recorded: RecordedMap | None


def _strongest(rec: Recording, found: FoundLayer | None) -> _Watch | None:
    if found is None:
        return None
    maps = layer_maps(rec, found)
    unit = int(maps.flatten(1).amax(1).argmax())
    one = rec.values[found.value][:, unit : unit + 1]
    return _Watch(
        found.value, unit, float(maps[unit].double().sum()), RecordedMap(one.double()) if one.dim() == 4 else None
    )


@dataclass
class _Seen:
    logits: Tensor
    activity: Tensor | None
    unit: int | None
    total: float | None
    arithmetic: float


def _run(rec: Recording, readout: Readout, grid: _Positions, cover: _Cover, watch: _Watch | None, batch: int,
         progress: Report | None) -> _Seen:  # fmt: skip
    classes = rec.values[readout.value]
    kept = (readout.value,) if watch is None else (readout.value, watch.value)
    replay = Replay(rec, kept, expected=len(grid.origins))
    dense = RecordedMap(classes) if classes.dim() == 4 else None
    logits = classes.new_empty(len(grid.origins), classes.shape[1])
    activity = torch.empty(len(grid.origins), dtype=torch.float64) if watch is not None else None

    def take(part: NDArray[np.int64], value: int, patch: Patch) -> None:
        if watch is not None and activity is not None and value == watch.value:
            activity[part] = _activity(watch, patch).cpu()
        if value == readout.value:
            logits[part] = readout.scores(patch.data if dense is None else _whole(dense, patch))

    picture, filled = (
        RecordedMap(rec.values[0]),
        RecordedMap(cover.values[None]) if cover.values.shape[1:] != (1, 1) else None,
    )
    rows, cols = (np.unique(grid.origins[:, axis]) for axis in (0, 1))
    done = 0
    schedule = Schedule(replay, rows, cols, grid.window, batch)
    for done in replay_all(schedule, lambda k: _first_patch(picture, filled, cover, grid, grid.origins[k]), take):
        if progress is not None:
            progress(done, len(grid.origins))
    share = replay.done / max(replay.whole_work() * done, 1)
    unit, total = (None, None) if watch is None else (watch.unit, watch.total)
    return _Seen(logits, activity, unit, total, share)


def _first_patch(
    picture: RecordedMap, filled: RecordedMap | None, cover: _Cover, grid: _Positions, origins: NDArray[np.int64]
) -> Patch:
    """The picture's changed windows: covered pixels over its own."""
    k, (h, w) = len(origins), grid.window
    where = Windows(origins[:, 0], origins[:, 1], h, w, grid.size)
    if filled is None:
        fill = cover.values.expand(k, -1, h, w).contiguous(memory_format=torch.channels_last)
    else:
        fill = filled.on(where)
    if cover.mask is not None:
        fill = torch.where(cover.mask.to(fill.device), fill, picture.on(where))
    # A last window that hangs over the border is cut there.
    at = Windows(np.minimum(where.rows, grid.size[0] - h), np.minimum(where.cols, grid.size[1] - w), h, w, grid.size)
    data = picture.on(at)
    paste(data, at, fill, where)
    return Patch(data, at)


def _whole(recorded: RecordedMap, patch: Patch) -> Tensor:
    """K changed maps (K, C, H, W), whole."""
    if patch.windows is None:
        return patch.data
    at = Windows.whole(len(patch.data), recorded.size)
    data = recorded.on(at)
    paste(data, at, patch.data, patch.windows)
    return data


def _activity(watch: _Watch, patch: Patch) -> Tensor:
    """The sum of the watched map for each of the K changes, float64."""
    one = patch.data[:, watch.unit].double()
    if patch.windows is None or watch.recorded is None:
        return one.flatten(1).sum(1) if one.dim() > 1 else one
    recorded = watch.recorded.on(patch.windows)
    return watch.total + one.flatten(1).sum(1) - recorded.flatten(1).sum(1)
