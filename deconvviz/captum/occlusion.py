"""Occlusion with captum's signature: incremental where that is the same, captum's own plain passes where not."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import captum.attr
import numpy as np
import torch
from captum._utils.common import _select_targets
from captum._utils.progress import NullProgress, progress
from numpy.typing import NDArray
from torch import Tensor, nn

from deconvviz.captum.calls import Model, tensors_of
from deconvviz.engine.passes import buffers_kept, plain_mode, unwrap
from deconvviz.engine.recorder import record
from deconvviz.engine.recording import Recording
from deconvviz.engine.replay.replay import Replay
from deconvviz.engine.replay.run import run as replay_all
from deconvviz.engine.replay.schedule import Schedule
from deconvviz.engine.windows import Patch, RecordedMap, Windows
from deconvviz.errors import UnsupportedOperatorError
from deconvviz.network.network import Network

# Positions that go together on windows, at least: no more numbers are in memory than those of so many pictures.
BATCH = 64


class Occlusion(captum.attr.Occlusion):  # type: ignore[misc]  # captum has no annotations
    """`captum.attr.Occlusion` (Zeiler & Fergus 2014), several times as fast for networks of pictures.

    For one input of pictures (N, C, H, W) and a module that gives one output, only what a window can reach is computed
    again (`deconvviz.occlude`); answers are captum's, to rounding. Everything else, functions, several inputs, other
    shapes, a model whose train mode answers otherwise than its eval mode, or one that cannot be recorded, is left to
    captum's plain passes.
    """

    def __init__(self, forward_func: Any) -> None:
        super().__init__(forward_func.module if isinstance(forward_func, Network) else forward_func)

    @torch.no_grad()
    def attribute(
        self,
        inputs: Any,
        sliding_window_shapes: Any,
        strides: Any = None,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Any:
        """How much the target falls where a window covers the inputs, the mean over the windows that cover a number.

        `inputs`: a tensor (N, …), or a tuple of them. `sliding_window_shapes`: the window's size in each dimension
        behind the first, (c, h, w) for pictures; a tuple of them for several inputs. `strides`: an int or one for each
        dimension, no larger than the window (None: 1); the last window is cut at the border. `baselines`: what stands
        in the window, a number or a tensor that can be spread over the input (None: 0). `target`,
        `additional_forward_args`: as `Deconvolution.attribute`. `perturbations_per_eval`: windows in one plain pass; of
        incremental ones at least 64 go together. Returns float32 in the shape of each input.

        Raises `DeconvvizValueError` (also an `AssertionError`, as captum says it) for windows, strides or targets that
        do not fit. The model is left as it was.

        >>> net = deconvviz.load("zfnet")
        >>> x = net.preprocess("image.jpg")
        >>> deconvviz.captum.Occlusion(net.module).attribute(x, (3, 64, 64), strides=(3, 40, 40), target=3).shape
        torch.Size([1, 3, 224, 224])
        """
        given = tensors_of(inputs)
        whole = isinstance(perturbations_per_eval, int) and perturbations_per_eval >= 1
        if (
            whole
            and len(given) == 1
            and additional_forward_args is None
            and _can_be_recorded(self.forward_func, given[0])
        ):
            windows = _Grid.of(given[0], sliding_window_shapes, strides)
            fill = _filled(given[0], baselines)
            if windows is not None and fill is not None:
                size = max(BATCH, perturbations_per_eval)
                name = self.get_name() if show_progress else None
                found = _incremental(self.forward_func, given[0], windows, fill, target, size, name)
                if found is not None:
                    return (found,) if isinstance(inputs, tuple) else found
        model = Model(self.forward_func)
        kept = self.forward_func if isinstance(self.forward_func, nn.Module) else nn.Identity()
        with model.arguments(), buffers_kept(kept):
            return captum.attr.Occlusion(model).attribute(
                inputs, sliding_window_shapes, strides=strides, baselines=baselines, target=target,
                additional_forward_args=additional_forward_args, perturbations_per_eval=perturbations_per_eval,
                show_progress=show_progress,
            )  # fmt: skip


def _can_be_recorded(model: object, x: Tensor) -> bool:
    """Whether this is a model of pictures."""
    return isinstance(model, nn.Module) and x.dim() == 4 and x.numel() > 0 and x.is_floating_point()


def _filled(x: Tensor, baselines: Any) -> Tensor | None:
    """What stands in the windows, as large as the pictures; None if captum has to say what is wrong with it."""
    given = baselines[0] if isinstance(baselines, tuple) and len(baselines) == 1 else baselines
    if given is None or (isinstance(given, int | float) and not isinstance(given, bool)):
        return x.new_full((1, 1, 1, 1), given or 0).expand(x.shape)
    if isinstance(given, Tensor) and given.dtype == x.dtype and given.device == x.device and given.dim() <= 4:
        fits = all(a in (1, b) for a, b in zip(given.shape[::-1], x.shape[::-1], strict=False))
        return given.detach().expand(x.shape) if fits else None
    return None


@dataclass(frozen=True)
class _Grid:
    """Where windows of `window` (c, h, w) begin on pictures of `size` (C, H, W), along each of the three."""

    window: tuple[int, int, int]
    lines: tuple[NDArray[np.int64], ...]
    size: tuple[int, int, int]

    @classmethod
    def of(cls, x: Tensor, shapes: Any, strides: Any) -> _Grid | None:
        """captum's grid; None if it has to say what is wrong with it."""
        window = _triple(shapes[0] if isinstance(shapes, tuple) and len(shapes) == 1 else shapes)
        steps = strides[0] if isinstance(strides, tuple) and len(strides) == 1 else strides
        stride = (1, 1, 1) if steps is None else _triple((steps,) * 3 if isinstance(steps, int) else steps)
        size = (int(x.shape[1]), int(x.shape[2]), int(x.shape[3]))
        if window is None or stride is None:
            return None
        if any(w > full or (s > w and w != full) for w, s, full in zip(window, stride, size, strict=True)):
            return None
        counts = [math.ceil((full - w) / s) + 1 for w, s, full in zip(window, stride, size, strict=True)]
        return cls(window, tuple(np.arange(n, dtype=np.int64) * s for n, s in zip(counts, stride, strict=True)), size)

    def __len__(self) -> int:
        return math.prod(len(line) for line in self.lines)

    def covers(self) -> Tensor:
        """How many windows cover each number, (C, H, W)."""
        counts = []
        for line, side, full in zip(self.lines, self.window, self.size, strict=True):
            places = np.arange(full)
            counts.append(((places[:, None] >= line) & (places[:, None] < line + side)).sum(1))
        return torch.from_numpy(counts[0][:, None, None] * counts[1][:, None] * counts[2])

    def spread(self, falls: Tensor) -> Tensor:
        """The mean of `falls` (channels, rows, columns), one a window, over the windows that cover each number."""
        total = torch.zeros(self.size, dtype=torch.float64)
        origins = itertools.product(*(line.tolist() for line in self.lines))
        c, h, w = self.window
        for (z, y, x), fall in zip(origins, falls.flatten().tolist(), strict=True):
            total[z : z + c, y : y + h, x : x + w] += fall
        return (total / self.covers()).to(falls.device, torch.float32)


def _triple(given: Any) -> tuple[int, int, int] | None:
    if not isinstance(given, tuple) or not all(isinstance(v, int) and v > 0 for v in given) or len(given) != 3:
        return None
    return given


def _incremental(
    model: nn.Module, x: Tensor, grid: _Grid, fill: Tensor, target: Any, batch: int, name: str | None
) -> Tensor | None:
    """The attribution (N, C, H, W); None where plain passes have to do it."""
    if _one_each(target) and (len(target) != len(x) or (isinstance(target, Tensor) and target.dim() != 1)):
        return None
    try:
        plain = unwrap(model)
    except UnsupportedOperatorError:
        return None
    whole = _answer_in_train_mode(plain, x)
    found = []
    steps = progress(desc=f"{name} attribution", total=len(grid) * len(x)) if name is not None else NullProgress()
    try:
        for n, picture in enumerate(x.detach().unsqueeze(1)):
            rec = _recorded(plain, picture)
            if rec is None or (whole is not None and not _same(rec.values[rec.outputs[""]], whole[n : n + 1])):
                return None
            chosen = _Chosen(target, n)
            with chosen.model.arguments(), plain_mode(x.device.type):
                if chosen.of(rec.values[rec.outputs[""]]).numel() != 1:
                    return None
                found.append(grid.spread(_falls(rec, grid, fill[n : n + 1], chosen, batch, steps)))
    finally:
        steps.close()
    return torch.stack(found)


def _answer_in_train_mode(model: nn.Module, x: Tensor) -> Tensor | None:
    """What a model with parts in train mode says as it is: recordings are in eval mode. None if there are none."""
    if not any(m.training for m in model.modules()):
        return None
    with plain_mode(x.device.type), buffers_kept(model):
        answer: Tensor = model(x)
    return answer


def _same(recorded: Tensor, answer: object) -> bool:
    """Whether two answers to a picture are the same, to rounding."""
    if not isinstance(answer, Tensor) or recorded.shape != answer.shape or recorded.dtype != answer.dtype:
        return False
    return torch.allclose(recorded, answer, 1e-3, 1e-5 * float(recorded.abs().max()))


def _recorded(model: nn.Module, picture: Tensor) -> Recording | None:
    """The pass of one picture, if it is one that can be replayed and gives one tensor with one row."""
    try:
        rec = record(model, picture)
    except UnsupportedOperatorError:
        return None
    value = rec.outputs.get("")
    return rec if value is not None and rec.sized is None and rec.values[value].shape[:1] == (1,) else None


class _Chosen:
    """The target's number in outputs (K, …) of picture `n`, as captum reads `target`."""

    def __init__(self, target: Any, n: int) -> None:
        self.target, self.own = target, target[n : n + 1] if _one_each(target) else None
        self.model = Model(lambda: None)

    def of(self, outputs: Tensor) -> Tensor:
        """One number, or several, of each of K outputs."""
        if self.own is None:
            target = self.target
        else:
            target = self.own * len(outputs) if isinstance(self.own, list) else self.own.expand(len(outputs))
        found: Tensor = _select_targets(outputs, target)
        return found


def _one_each(target: Any) -> bool:
    """Whether this is a target for each picture."""
    return isinstance(target, list) or (isinstance(target, Tensor) and target.numel() > 1)


def _falls(rec: Recording, grid: _Grid, fill: Tensor, chosen: _Chosen, batch: int, steps: Any) -> Tensor:
    """How much the target falls under each window, (channels, rows, columns)."""
    value = rec.outputs[""]
    baseline = chosen.of(rec.values[value]).flatten()
    out = RecordedMap(rec.values[value]) if rec.values[value].dim() == 4 else None
    falls = baseline.new_empty(len(grid.lines[0]), len(grid.lines[1]) * len(grid.lines[2]))

    for number, first in enumerate(grid.lines[0].tolist()):
        covered = _Covered(rec.values[0], grid, fill, slice(first, first + grid.window[0]))

        def take(part: NDArray[np.int64], kept: int, patch: Patch, number: int = number) -> None:
            if kept == value:
                data = patch.data if out is None else out.changed(patch)
                falls[number, torch.from_numpy(part)] = baseline - chosen.of(data).flatten()

        replay = Replay(rec, (value,), expected=falls.shape[1])
        schedule = Schedule(replay, covered.rows, covered.cols, covered.window, batch)
        before = 0
        for done in replay_all(schedule, covered.at, take):
            steps.update(done - before)
            before = done
    return falls.view([len(line) for line in grid.lines])


class _Covered:
    """The picture `x` (1, C, H, W) as changed by `fill` in some `channels` of a window."""

    def __init__(self, x: Tensor, grid: _Grid, fill: Tensor, channels: slice) -> None:
        self.rows, self.cols = grid.lines[1], grid.lines[2]
        self.window = (grid.window[1], grid.window[2])
        self.size = (grid.size[1], grid.size[2])
        changed = x.clone()
        changed[:, channels] = fill[:, channels]
        self.picture, self.changed = RecordedMap(x), RecordedMap(changed)

    def at(self, index: NDArray[np.int64]) -> Patch:
        """The changed windows of K positions, by their numbers in raster order."""
        (h, w), (height, width) = self.window, self.size
        rows, cols = self.rows[index // len(self.cols)], self.cols[index % len(self.cols)]
        # A window that hangs over the border is cut there: what lies before it is as it was.
        at = Windows(np.minimum(rows, height - h), np.minimum(cols, width - w), h, w, self.size)
        data = self.changed.on(at)
        cut = np.flatnonzero((rows != at.rows) | (cols != at.cols))
        for k in cut.tolist():
            down, right = int(rows[k] - at.rows[k]), int(cols[k] - at.cols[k])
            own = self.picture.on(Windows(at.rows[k : k + 1], at.cols[k : k + 1], h, w, self.size))[0]
            data[k, :, :down], data[k, :, :, :right] = own[:, :down], own[:, :, :right]
        return Patch(data, at)
