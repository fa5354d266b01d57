"""Normalisations: the scale is kept, recorded statistics are constants (in `gradient` they are differentiated)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvviz.engine.recording import Op, Recording
from deconvviz.engine.rules.base import GlobalNeeds, PointwiseNeeds, Span, Walk, as_recorded, local_gradient, register
from deconvviz.engine.windows import Frame, Signal, from_whole

_BATCH_NORMS = (
    "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "_batch_norm_no_update",
    "_native_batch_norm_legit", "miopen_batch_norm",
)  # fmt: skip


@register(*_BATCH_NORMS)
class BatchNorm(PointwiseNeeds):
    """Multiply by weight / σ; the shift is dropped."""

    role = "norm"
    broadcast = False

    def needs(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """The same rows, unless the statistics are the picture's own."""
        return None if _batch_statistics(op) else super().needs(rec, op, i, span, axis)

    def carries(self, rec: Recording, op: Op, i: int, outer: int, size: int) -> int | None:
        """Where they are, unless the statistics are the picture's own."""
        return None if _batch_statistics(op) else super().carries(rec, op, i, outer, size)

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """As recorded, unless the statistics are the picture's own."""
        return None if _batch_statistics(op) else as_recorded(rec, op, values)

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Scale each map."""
        batch = _batch_statistics(op)
        if batch and walk.method == "gradient":
            return local_gradient(walk, op, i, s)
        scale = walk.once(("scale", op.index), lambda: _scale(walk, op, batch))
        spatial = s.data.dim() - (2 if s.windowed else 3)
        return s.like(s.data * scale.view(-1, *[1] * spatial).to(s.data.dtype))


def affine(op: Op) -> tuple[Tensor, Tensor] | None:
    """Scale and shift (C,) of a BatchNorm with running statistics; None for anything else."""
    if op.name not in _BATCH_NORMS or _batch_statistics(op) or op.args[3] is None:
        return None
    eps = next(a for a in reversed(op.args) if isinstance(a, float))
    scale = torch.rsqrt(op.args[4].double() + eps)
    scale = scale if op.args[1] is None else scale * op.args[1]
    shift = -op.args[3] * scale
    shift = shift if op.args[2] is None else shift + op.args[2]
    return scale.to(op.args[4]).detach(), shift.to(op.args[4]).detach()


def _batch_statistics(op: Op) -> bool:
    by_flag = op.name in ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm") and bool(op.args[5])
    return op.name == "_native_batch_norm_legit" or by_flag


def _scale(walk: Walk, op: Op, batch: bool) -> Tensor:
    args = op.args
    weight = args[1]
    if batch:
        invstd = walk.rec.values[op.outputs[2]]  # type: ignore[index]
    else:
        eps = args[-1] if isinstance(args[-1], float) else 1e-5
        invstd = torch.rsqrt(args[4] + eps)
    scale: Tensor = invstd if weight is None else invstd * weight
    return scale.detach()


@register("local_response_norm")
class LocalResponseNorm(PointwiseNeeds):
    """The paper never mentions inverting its contrast normalisation: identity; its derivative in `gradient`."""

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], frame: Frame) -> Any:
        """The normalisation, over maps that lie side by side in memory."""
        size, alpha, beta, k = lrn_constants(op)
        return response_norm(windows[op.inputs[0]], size, alpha, beta, k)

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Identity, or the exact derivative."""
        return local_gradient(walk, op, i, s) if walk.method == "gradient" else s


@register("native_layer_norm", "native_group_norm")
class StatisticsNorm(GlobalNeeds):
    """Multiply by weight / σ of the recorded statistics."""

    role = "norm"

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """Layer norms as recorded, if they leave out the pictures; a group norm's arguments hold the batch size."""
        if op.name == "native_layer_norm":
            inside = len(op.args[1]) < rec.values[op.inputs[0]].dim()
            return as_recorded(rec, op, values) if inside else None
        groups, eps = op.args[6:8]
        return (F.group_norm(values[op.inputs[0]], groups, op.args[1], op.args[2], eps), None, None)

    def carries(self, rec: Recording, op: Op, i: int, outer: int, size: int) -> int | None:
        """A layer norm of the dimensions behind the rows leaves them where they are."""
        if op.name != "native_layer_norm":
            return None
        shape = rec.values[op.inputs[0]].shape
        return outer if math.prod(shape[: len(shape) - len(op.args[1])]) % (outer * size) == 0 else None

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Scale by the recorded statistics; differentiate them in `gradient`."""
        if walk.method == "gradient":
            return local_gradient(walk, op, i, s)
        rstd = walk.rec.values[op.outputs[2]]  # type: ignore[index]
        shape = walk.shape(op.inputs[i])
        weight = op.args[2] if op.name == "native_layer_norm" else op.args[1]
        if op.name == "native_layer_norm":
            factor = rstd if weight is None else rstd * weight
        else:
            groups = rstd.shape[1]
            factor = rstd.repeat_interleave(shape[1] // groups, 1)
            factor = factor if weight is None else factor * weight
            factor = factor.view(*factor.shape, *[1] * (len(shape) - 2))
        whole = s.whole() * factor.detach().to(s.data.dtype)
        return from_whole(whole, shape)


def lrn_constants(op: Op) -> tuple[int, float, float, float]:
    """Size, alpha, beta and k of a recorded `local_response_norm`."""
    names = ("size", "alpha", "beta", "k")
    given = dict(zip(names, op.args[1:], strict=False)) | op.kwargs
    return int(given["size"]), given.get("alpha", 1e-4), given.get("beta", 0.75), given.get("k", 1.0)


def response_norm(x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
    """`F.local_response_norm` of x (N, C, H, W), by sums of shifted maps: several times faster on a CPU."""
    maps = x.permute(0, 2, 3, 1)
    # As there: `size` neighbours, the greater half below, and always divided by `size`.
    square = F.pad(maps * maps, (size // 2, (size - 1) // 2))
    count = x.shape[1]
    total = square[..., :count].clone()
    for shift in range(1, size):
        total += square[..., shift : shift + count]
    base = total.mul_(alpha / size).add_(k)
    if beta == 0.75:
        root = base.sqrt()
        scale = root.mul_(root.sqrt())
    else:
        scale = base.pow_(beta)
    return (maps / scale).permute(0, 3, 1, 2)
