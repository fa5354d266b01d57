"""Normalisations: the scale is kept, recorded statistics are constants (in `gradient` they are differentiated)."""

from __future__ import annotations

import torch
from torch import Tensor

from deconvviz.recording import Op
from deconvviz.rules.base import GlobalNeeds, PointwiseNeeds, Walk, local_gradient, register
from deconvviz.windows import Signal, from_whole


@register("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "_batch_norm_no_update",
          "_native_batch_norm_legit", "miopen_batch_norm")  # fmt: skip
class BatchNorm(PointwiseNeeds):
    """Multiply by weight / σ; the shift is dropped."""

    role = "norm"

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Scale each map."""
        batch = _batch_statistics(op)
        if batch and walk.method == "gradient":
            return local_gradient(walk, op, i, s)
        scale = walk.once(("scale", op.index), lambda: _scale(walk, op, batch))
        spatial = s.data.dim() - (2 if s.windowed else 3)
        return s.like(s.data * scale.view(-1, *[1] * spatial))


def _batch_statistics(op: Op) -> bool:
    return op.name == "_native_batch_norm_legit" or (op.name == "native_batch_norm" and bool(op.args[5]))


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

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Identity, or the exact derivative."""
        return local_gradient(walk, op, i, s) if walk.method == "gradient" else s


@register("native_layer_norm", "native_group_norm")
class StatisticsNorm(GlobalNeeds):
    """Multiply by weight / σ of the recorded statistics."""

    role = "norm"

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
        whole = s.whole() * factor.detach()
        return from_whole(whole, shape)
