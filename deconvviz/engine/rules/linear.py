"""Convolution and fully connected layers: the transposed filter, bias dropped."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvviz.engine.recording import Op, Recording, Ref
from deconvviz.engine.rules.base import Rule, Walk, Windowed, refuse, register
from deconvviz.engine.rules.kernels import FilterBank, pair
from deconvviz.engine.windows import Signal, Windows


@register("convolution")
class Convolution(Windowed):
    """The signal filtered with the transposed filters (paper, section 2.1: flipped in both axes)."""

    role = "weights"

    def kernel(self, op: Op) -> FilterBank:
        """The filters; an error for what has none of its own, or is transposed or of another rank."""
        found = self.filters(op)
        if found is None:
            image = isinstance(op.arg("weight"), Ref) or isinstance(op.arg("bias"), Ref)
            what = "weights from the image" if image else "transposed" if op.arg("transposed") else "not 2-d"
            refuse(op, f"has no rule for this use ({what})")
        return found

    def filters(self, op: Op) -> FilterBank | None:
        weight, bias = op.arg("weight"), op.arg("bias")
        if isinstance(weight, Ref) or isinstance(bias, Ref) or op.arg("transposed") or weight.dim() != 4:
            return None
        size, bias, groups = pair(weight.shape[2:]), None if bias is None else bias.detach(), int(op.arg("groups"))
        stride, padding, dilation = (pair(op.arg(name)) for name in ("stride", "padding", "dilation"))
        return FilterBank(size, stride, padding, dilation, weight.detach(), bias, groups)

    def with_filters(self, op: Op, filters: FilterBank) -> Op:
        return op.with_args(weight=filters.weight, bias=filters.bias)

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], at: Windows) -> Any:
        """The convolution, its padding already in the windows."""
        return self.kernel(op)(windows[op.inputs[0]])

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """As recorded, or by the sparse way of strided 1×1 filters."""
        filters = self.filters(op)
        if filters is None or not filters.every or rec.values[op.inputs[0]].shape[0] != 1:
            return super().whole(rec, op, values, k)
        return filters(values[op.inputs[0]])

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        filters = self.kernel(op)
        if filters.stride == (1, 1):
            flipped: FilterBank = walk.once(("flipped", op.index), filters.flipped)
            data = flipped(s.data, flipped.padding)
        else:
            data = filters.transposed(s.data)
        return filters.spread(s, data, walk.shape(op.inputs[i]))

    def misfit(self, op: Op) -> str | None:
        """The map is too small; nothing of a wrong number of maps (see `FilterBank.channels`)."""
        filters = self.filters(op)
        return None if filters is not None and filters.channels != op.arg("input").shape[1] else super().misfit(op)


def _product(x: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    """x (…, n) times `right` (n, m), and the bias added."""
    plain = x.device.type == "cpu" and x.dtype == right.dtype == torch.float32 and x.dim() == 2
    vector = bias is None or bias.dim() == 1
    if plain and vector and torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled:  # type: ignore[no-untyped-call]  # torch's own has no annotations
        # oneDNN's product is never slower than the default one, and on AMD's processors more than twice as fast.
        product: Tensor = F.linear(x.to_mkldnn(), right.t(), bias).to_dense()
        return product
    if x.dim() == 2 and bias is not None:
        return torch.addmm(bias, x, right)
    product = torch.matmul(x, right)
    return product if bias is None else product + bias


@register("addmm", "mm", "matmul", "bmm")
class Linear(Rule):
    """A matrix product with constant weights; two image-dependent factors (attention) are an error."""

    role = "weights"

    def factors(self, op: Op) -> tuple[Any, Any, Any]:
        """What is added (None: nothing), the left matrix and the right one."""
        if op.name == "addmm":
            return op.arg("self"), op.arg("mat1"), op.arg("mat2")
        return None, op.arg("self"), op.arg("other" if op.name == "matmul" else "mat2")

    def matrix(self, op: Op) -> Tensor | None:
        """The right one, if all but the left is constant."""
        bias, left, right = self.factors(op)
        plain = isinstance(left, Ref) and isinstance(right, Tensor) and not isinstance(bias, Ref)
        plain = plain and op.arg("beta", 1) == op.arg("alpha", 1) == 1
        return right.detach() if plain and right.dim() == 2 else None

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """One product for all: the rows of the left matrix are pictures, or places of pictures."""
        matrix, bias = self.matrix(op), self.factors(op)[0]
        if matrix is None:
            return None
        return _product(values[op.inputs[0]], matrix, None if bias is None else bias.detach())

    def row_dimension(self, rec: Recording, op: Op, i: int, outer: int, size: int) -> int | None:
        """Rows that lie among the places (the left matrix's rows) stay there."""
        plain = self.matrix(op) is not None and rec.values[op.inputs[0]].shape[0] % (outer * size) == 0
        return outer if plain else None

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        bias, left, right = self.factors(op)
        if bias == Ref(op.inputs[i]) and op.arg("beta") == 1:
            return s
        if isinstance(left, Ref) and isinstance(right, Ref):
            refuse(op, "multiplies two image-dependent matrices (attention); it has no rule")
        whole, alpha = s.whole(), op.arg("alpha", 1)
        if isinstance(left, Ref):
            data = torch.matmul(whole, right.transpose(-1, -2)) * alpha
        else:
            data = torch.matmul(left.transpose(-1, -2), whole) * alpha
        return Signal(data)

    def misfit(self, op: Op) -> str | None:
        _, left, right = self.factors(op)
        return f"takes {right.shape[0]} numbers and got {left.shape[1]}" if left.dim() == right.dim() == 2 else None
