"""Normalisations: the scale is kept, recorded statistics are constants (in `gradient` they are differentiated)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvviz.engine.recording import Op, Recording
from deconvviz.engine.rules.base import Pointwise, Rule, Walk, axes, gradient, register
from deconvviz.engine.windows import Signal, Windows, from_whole


@register("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "_batch_norm_no_update",
          "_native_batch_norm_legit", "miopen_batch_norm")  # fmt: skip
class BatchNorm(Pointwise):
    """Multiply by weight / σ; the shift is dropped."""

    role = "norm"
    broadcast = False

    def alike(self, rec: Recording, op: Op) -> bool:
        return not _of_picture(op)

    def affine(self, op: Op) -> tuple[Tensor, Tensor] | None:
        """weight / σ and what it makes of 0."""
        if _of_picture(op) or op.arg("running_mean") is None:
            return None
        mean, variance, weight, bias = (op.arg(name) for name in ("running_mean", "running_var", "weight", "bias"))
        scale = torch.rsqrt(variance.double() + _epsilon(op))
        scale = scale if weight is None else scale * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        return scale.to(variance).detach(), shift.to(variance).detach()

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        if not _of_picture(op):
            return ()
        return op.inputs if walk.method == "gradient" else op.outputs[2:3]  # type: ignore[return-value]  # tensors all

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        if _of_picture(op) and walk.method == "gradient":
            return gradient(walk, op, i, s)
        scale = walk.once(("scale", op.index), lambda: _scale(walk, op))
        spatial = s.data.dim() - (2 if s.windows is not None else 3)
        return s.like(s.data * scale.view(-1, *[1] * spatial).to(s.data.dtype))


def _of_picture(op: Op) -> bool:
    """Whether the statistics are those of the picture itself."""
    return op.name == "_native_batch_norm_legit" or bool(op.arg("training", False))


def _epsilon(op: Op) -> float:
    return float(op.arg("eps", None) or op.arg("epsilon", 0.0))


def _scale(walk: Walk, op: Op) -> Tensor:
    weight = op.arg("weight")
    invstd = walk.rec.values[op.output(2)] if _of_picture(op) else torch.rsqrt(op.arg("running_var") + _epsilon(op))
    scale: Tensor = invstd if weight is None else invstd * weight
    return scale.detach()


@register("local_response_norm")
class LocalResponseNorm(Pointwise):
    """The paper never mentions inverting its contrast normalisation: identity; its derivative in `gradient`."""

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], at: Windows) -> Any:
        """The normalisation, over maps that lie side by side in memory."""
        return response_norm(windows[op.inputs[0]], *(op.arg(name) for name in ("size", "alpha", "beta", "k")))

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return op.inputs if walk.method == "gradient" else ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        return gradient(walk, op, i, s) if walk.method == "gradient" else s


class _StatisticsNorm(Rule):
    """Multiply by weight / σ of the recorded statistics."""

    role = "norm"

    def scale(self, op: Op, deviation: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The factor weight / σ, to be broadcast over the input's `shape`; `deviation` is 1 / σ as recorded."""
        raise NotImplementedError  # abstract: both norms say it

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return op.inputs if walk.method == "gradient" else op.outputs[2:3]  # type: ignore[return-value]  # tensors all

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        if walk.method == "gradient":
            return gradient(walk, op, i, s)
        shape = walk.shape(op.inputs[i])
        factor = self.scale(op, walk.rec.values[op.output(2)], shape)
        return from_whole(s.whole() * factor.detach().to(s.data.dtype))


@register("native_layer_norm")
class LayerNorm(_StatisticsNorm):
    """Statistics of the last dimensions."""

    def alike(self, rec: Recording, op: Op) -> bool:
        return len(op.arg("normalized_shape")) < rec.values[op.inputs[0]].dim()

    def row_dimension(self, rec: Recording, op: Op, i: int, outer: int, size: int) -> int | None:
        shape = rec.values[op.inputs[0]].shape
        before = math.prod(shape[: len(shape) - len(op.arg("normalized_shape"))])
        return outer if before % (outer * size) == 0 else None

    def scale(self, op: Op, deviation: Tensor, shape: tuple[int, ...]) -> Tensor:
        weight = op.arg("weight")
        return deviation if weight is None else deviation * weight


@register("native_group_norm")
class GroupNorm(_StatisticsNorm):
    """Statistics of groups of maps."""

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """By another spelling: the recorded arguments hold the batch size."""
        x, weight, bias = values[op.inputs[0]], op.arg("weight"), op.arg("bias")
        return F.group_norm(x, op.arg("group"), weight, bias, op.arg("eps")), None, None

    def scale(self, op: Op, deviation: Tensor, shape: tuple[int, ...]) -> Tensor:
        weight = op.arg("weight")
        factor = deviation.repeat_interleave(shape[1] // deviation.shape[1], 1)
        factor = factor if weight is None else factor * weight
        return factor.view(*factor.shape, *[1] * (len(shape) - 2))


@register("_fused_rms_norm")
class RMSNorm(_StatisticsNorm):
    """The same without a mean."""

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return op.inputs if walk.method == "gradient" else op.outputs[1:2]  # type: ignore[return-value]  # tensors all

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        if walk.method == "gradient":
            return gradient(walk, op, i, s)
        weight, deviation = op.arg("weight"), walk.rec.values[op.output(1)]
        factor = deviation if weight is None else deviation * weight
        return from_whole(s.whole() * factor.detach().to(s.data.dtype))


@register("linalg_vector_norm", "norm", "var", "std", "var_mean", "std_mean")
class Statistic(Rule):
    """A statistic of numbers is a pool over them, each by its own share: the local derivative in every method.

    As the factor or denominator of a norm no signal comes to it.
    """

    def alike(self, rec: Recording, op: Op) -> bool:
        given = op.arg("dim", None)
        return bool(given) and 0 not in axes(op, rec.values[op.inputs[0]].dim()) and len(op.inputs) == 1

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return op.inputs

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        return gradient(walk, op, i, s)


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
