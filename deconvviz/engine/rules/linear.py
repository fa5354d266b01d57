"""Convolution and fully connected layers: the transposed filter, bias dropped."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvviz.engine.recording import Op, Recording, Ref
from deconvviz.engine.rules.base import GlobalNeeds, Rule, Span, Walk, as_recorded, refuse, register, touched
from deconvviz.engine.windows import Frame, Signal, clip


def _geometry(op: Op) -> tuple[list[int], list[int], list[int], int]:
    _, weight, _, stride, padding, dilation, transposed, _, groups = op.args
    if isinstance(weight, Ref) or transposed or weight.dim() != 4:
        what = "weights from the image" if isinstance(weight, Ref) else "transposed" if transposed else "not 2-d"
        refuse(op, f"has no rule for this use ({what})")
    two: Any = lambda v: [int(v[0]), int(v[-1])]  # noqa: E731
    return two(stride), two(padding), two(dilation), int(groups)


def _sparse(op: Op) -> bool:
    """Whether a convolution is 1×1 with a stride: most places of its input are never looked at."""
    weight, stride, padding, transposed = op.args[1], op.args[3], op.args[4], op.args[6]
    plain = not transposed and isinstance(weight, Tensor) and weight.dim() == 4
    return plain and weight.shape[2:].numel() == 1 and max(stride) > 1 and not any(padding)


def _convolved_sparse(op: Op, x: Tensor) -> Tensor:
    """Such a convolution of x (K, C, h, w): leaving those places out first is several times as fast."""
    _, weight, bias, stride, _, _, _, _, groups = op.args
    return F.conv2d(x[:, :, :: stride[0], :: stride[-1]], weight, bias, 1, 0, 1, groups)


@register("convolution")
class Convolution(Rule):
    """The signal filtered with the transposed filters (paper, section 2.1: flipped in both axes)."""

    role = "linear"

    def needs(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """Rows under a strided, dilated kernel."""
        stride, padding, dilation, _ = _geometry(op)
        k = op.args[1].shape[2 + axis]
        start = span[0] * stride[axis] - padding[axis]
        stop = (span[1] - 1) * stride[axis] - padding[axis] + dilation[axis] * (k - 1) + 1
        return start, stop

    def reaches(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """Rows whose kernel touches the given ones."""
        stride, padding, dilation, _ = _geometry(op)
        return touched(span, op.args[1].shape[2 + axis], stride[axis], padding[axis], dilation[axis])

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], frame: Frame) -> Any:
        """The convolution, its padding already in the windows."""
        x = windows[op.inputs[0]]
        if _sparse(op):
            return _convolved_sparse(op, x)
        _, weight, bias, stride, _, dilation, _, _, groups = op.args
        return F.conv2d(x, weight, bias, stride, 0, dilation, groups)

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """As recorded."""
        if _sparse(op) and rec.values[op.inputs[0]].shape[0] == 1:
            return _convolved_sparse(op, values[op.inputs[0]])
        return as_recorded(rec, op, values)

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Transposed convolution on the windows."""
        stride, padding, dilation, groups = _geometry(op)
        weight: Tensor = op.args[1].detach()
        if stride == [1, 1]:
            data = _filter_flipped(walk, op, weight, s.data, dilation, groups)
        else:
            data = F.conv_transpose2d(s.data, weight, None, stride, 0, 0, groups, dilation)
        rows, cols = s.origins()
        shape = walk.shape(op.inputs[i])
        out_rows = [r * stride[0] - padding[0] for r in rows]
        out_cols = [c * stride[1] - padding[1] for c in cols]
        return clip(Signal(data, shape, out_rows, out_cols))


def _filter_flipped(walk: Walk, op: Op, weight: Tensor, data: Tensor, dilation: list[int], groups: int) -> Tensor:
    """At stride 1 the transposed convolution is a convolution with flipped filters, which runs faster."""

    def make() -> Tensor:
        out, inn, kh, kw = weight.shape
        w = weight.view(groups, out // groups, inn, kh, kw).transpose(1, 2).flip(3, 4)
        return w.reshape(groups * inn, out // groups, kh, kw).contiguous()

    flipped = walk.once(("flipped", op.index), make)
    pad = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    return F.conv2d(data, flipped, None, 1, pad, dilation, groups)


def _product(x: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    """x (…, n) times `right` (n, m), and the bias added."""
    plain = x.device.type == "cpu" and x.dtype == right.dtype == torch.float32 and x.dim() == 2
    vector = bias is None or bias.dim() == 1
    if plain and vector and torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled:  # type: ignore[no-untyped-call]
        # oneDNN's product is never slower than the default one, and on AMD's processors more than twice as fast.
        product: Tensor = F.linear(x.to_mkldnn(), right.t(), bias).to_dense()
        return product
    if x.dim() == 2 and bias is not None:
        return torch.addmm(bias, x, right)
    product = torch.matmul(x, right)
    return product if bias is None else product + bias


@register("addmm", "mm", "matmul", "bmm")
class Linear(GlobalNeeds):
    """A matrix product with constant weights; two image-dependent factors (attention) are an error."""

    role = "linear"

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """One product for all: the rows of the left matrix are pictures, or places of pictures."""
        left, right = op.args[-2:]
        bias = op.args[0] if op.name == "addmm" else None
        plain = isinstance(left, Ref) and not isinstance(right, Ref) and not isinstance(bias, Ref)
        if not plain or op.name == "bmm" or right.dim() != 2 or op.kwargs:
            return None
        return _product(values[left.value], right.detach(), None if bias is None else bias.detach())

    def carries(self, rec: Recording, op: Op, i: int, outer: int, size: int) -> int | None:
        """Rows that lie among the places (the left matrix's rows) stay there."""
        left, right = op.args[-2:]
        plain = op.name in ("addmm", "mm") and isinstance(left, Ref) and not isinstance(right, Ref)
        if not plain or op.inputs != (left.value,):
            return None
        return outer if rec.values[left.value].shape[0] % (outer * size) == 0 else None

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Multiply by the transposed matrix."""
        args = op.args[1:] if op.name == "addmm" else op.args
        beta, alpha = op.kwargs.get("beta", 1), op.kwargs.get("alpha", 1)
        if op.name == "addmm" and op.args[0] == Ref(op.inputs[i]) and beta == 1:
            return s
        left, right = args[0], args[1]
        if isinstance(left, Ref) and isinstance(right, Ref):
            refuse(op, "multiplies two image-dependent matrices (attention); it has no rule")
        whole = s.whole()
        if isinstance(left, Ref):
            data = torch.matmul(whole, right.transpose(-1, -2)) * alpha
        else:
            data = torch.matmul(left.transpose(-1, -2), whole) * alpha
        return Signal(data, walk.shape(op.inputs[i]))
