"""Convolution and fully connected layers: the transposed filter, bias dropped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deconvviz.engine.recording import Op, Recording, Ref
from deconvviz.engine.rules.base import Rule, Walk, Windowed, gradient, refuse, refuse_method, register, share
from deconvviz.engine.rules.gates import is_gate
from deconvviz.engine.rules.kernels import FilterBank, Span, pair
from deconvviz.engine.windows import Signal, Windows, from_whole


@register("convolution")
class Convolution(Windowed):
    """The signal filtered with the transposed filters (paper, section 2.1: flipped in both axes)."""

    role = "weights"

    def kernel(self, op: Op) -> FilterBank:
        """The filters; an error for what has none of its own, or is transposed or of another rank."""
        found = self.filters(op)
        if found is None:
            refuse(op, "is no plain 2-d convolution with constant filters")
        return found

    def needs(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """Rows under the kernel; of a transposed one, those that reach the given rows."""
        if self.filters(op) is not None:
            return super().needs(rec, op, i, span, axis)
        weight = op.arg("weight")
        if not op.arg("transposed") or _made(op) or weight.dim() != 4:
            return None
        stride, padding, dilation = (pair(op.arg(name))[axis] for name in ("stride", "padding", "dilation"))
        first = -((dilation * (weight.shape[2 + axis] - 1) - span[0] - padding) // stride)
        return first, np.maximum((span[1] - 1 + padding) // stride + 1, first + 1)

    def reaches(self, rec: Recording, op: Op, i: int, span: Span, axis: int) -> Span | None:
        """Rows whose kernel touches the given ones; only plain 2-d convolutions go by windows."""
        return None if self.filters(op) is None else super().reaches(rec, op, i, span, axis)

    def alike(self, rec: Recording, op: Op) -> bool:
        return not _made(op)

    def filters(self, op: Op) -> FilterBank | None:
        weight, bias = op.arg("weight"), op.arg("bias")
        if isinstance(weight, Ref) or isinstance(bias, Ref) or op.arg("transposed") or weight.dim() != 4:
            return None
        size, bias, groups = pair(weight.shape[2:]), None if bias is None else bias.detach(), int(op.arg("groups"))
        stride, padding, dilation = (pair(op.arg(name)) for name in ("stride", "padding", "dilation"))
        return FilterBank(size, stride, padding, dilation, weight.detach(), bias, groups)

    def with_filters(self, op: Op, filters: FilterBank) -> Op:
        # `padding="valid"` is recorded as one number for both axes, of which not every way of torch knows.
        padding, none = list(filters.padding), [0, 0]
        return op.with_args(weight=filters.weight, bias=filters.bias, padding=padding, output_padding=none)

    def replay(self, rec: Recording, op: Op, windows: dict[int, Tensor], at: Windows) -> Any:
        """The convolution, its padding already in the windows."""
        return self.kernel(op)(windows[op.inputs[0]])

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """As recorded, or by the sparse way of strided 1×1 filters."""
        filters = self.filters(op)
        if filters is None or not filters.every or rec.values[op.inputs[0]].shape[0] != 1:
            return super().whole(rec, op, values, k)
        return filters(values[op.inputs[0]])

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return op.inputs if _made(op) else ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        filters = self.filters(op)
        if filters is None or s.windows is None:
            return self.by_adjoint(walk, op, i, s)
        if filters.stride == (1, 1):
            flipped: FilterBank = walk.once(("flipped", op.index), filters.flipped)
            data = flipped(s.data, flipped.padding)
        else:
            data = filters.transposed(s.data)
        return filters.spread(s, data, walk.shape(op.inputs[i]))

    def by_adjoint(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        """Of any rank, transposed or not. Weights made from the image are constants, but in `gradient`."""
        name = op.operand(i)
        if name != "input" or (walk.method == "gradient" and _made(op)):
            made = name == "weight" and isinstance(op.arg("input"), Ref) and walk.method != "gradient"
            return None if made else gradient(walk, op, i, s)
        shape, whole = walk.shape(op.inputs[i]), s.whole().flatten(0, 1)
        weight = op.arg("weight")
        weight = walk.rec.values[weight.value] if isinstance(weight, Ref) else weight
        with torch.enable_grad():
            x = whole.new_zeros(whole.shape[0], *shape[1:]).requires_grad_(True)
            run = op.with_args(input=x, weight=weight.detach(), bias=None)
            (data,) = torch.autograd.grad(run.func(*run.args, **run.kwargs), x, whole.contiguous())
        return from_whole(data.view(len(s), *shape))

    def misfit(self, op: Op) -> str | None:
        """The map is too small; nothing of a wrong number of maps (see `FilterBank.channels`)."""
        filters = self.filters(op)
        return None if filters is not None and filters.channels != op.arg("input").shape[1] else super().misfit(op)


def _made(op: Op) -> bool:
    """Whether weights or bias are made from the image."""
    return isinstance(op.arg("weight"), Ref) or isinstance(op.arg("bias"), Ref)


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


@register("addmm", "mm", "matmul", "bmm", "baddbmm")
class Linear(Rule):
    """A matrix product with constant weights; two image-dependent factors (attention) are an error, but in `gradient`.

    With the policy that attention is constant, a factor that comes from a softmax is.
    """

    role = "weights"

    def factors(self, op: Op) -> tuple[Any, Any, Any]:
        """What is added (None: nothing), the left matrix and the right one."""
        if op.name == "addmm":
            return op.arg("self"), op.arg("mat1"), op.arg("mat2")
        if op.name == "baddbmm":
            return op.arg("self"), op.arg("batch1"), op.arg("batch2")
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

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        _, left, right = self.factors(op)
        if walk.method == "gradient":
            return op.inputs if len(op.inputs) > 1 or not isinstance(left, Ref) else ()
        return (left.value, right.value) if isinstance(left, Ref) and isinstance(right, Ref) else ()

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        bias, left, right = self.factors(op)
        shape = walk.shape(op.inputs[i])
        if walk.method == "gradient" and (len(op.inputs) > 1 or not isinstance(left, Ref)):
            return gradient(walk, op, i, s)
        if bias == Ref(op.inputs[i]) and left != bias and right != bias:
            return share(s, op.arg("beta"), shape)
        constant_left = not isinstance(left, Ref)
        if isinstance(left, Ref) and isinstance(right, Ref):
            constant_left = self.attention(walk, op, left.value, right.value)
            if (op.operand(i) in ("self", "mat1", "batch1")) == constant_left:
                return None
            left, right = walk.rec.values[left.value], walk.rec.values[right.value]
        whole, alpha = s.whole(), op.arg("alpha", 1)
        if constant_left:
            data = torch.matmul(left.transpose(-1, -2).conj(), whole) * alpha
        else:
            data = torch.matmul(whole, right.transpose(-1, -2).conj()) * alpha
        return from_whole(data)

    def attention(self, walk: Walk, op: Op, left: int, right: int) -> bool:
        """Whether the left one of two image-dependent factors is constant attention; False: the right one is."""
        if walk.attention != "constant":
            refuse_method(walk, op, "multiplies two image-dependent matrices (attention)")
        gates = is_gate(walk.rec, left), is_gate(walk.rec, right)
        if gates[0] == gates[1]:
            refuse_method(walk, op, "multiplies two image-dependent matrices, neither (or both) from a softmax")
        return gates[0]

    def misfit(self, op: Op) -> str | None:
        _, left, right = self.factors(op)
        return f"takes {right.shape[0]} numbers and got {left.shape[1]}" if left.dim() == right.dim() == 2 else None


@register("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
          "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
          "_scaled_dot_product_fused_attention_overrideable", "_scaled_dot_product_attention_math")  # fmt: skip
class Attention(Rule):
    """Attention is an error, but in `gradient`; with the policy that it is constant, the signal goes to the values."""

    def whole(self, rec: Recording, op: Op, values: dict[int, Tensor], k: int) -> Any:
        """Each picture's tokens among themselves; windows of tokens as many pictures are not told apart."""
        masks = [op.arg(name, None) for name in ("attn_mask", "attn_bias")]
        if any(m is not None for m in masks) or any(rec.values[v].shape[0] != 1 for v in op.inputs):
            return None
        return rec.run(op, {v: x.contiguous() for v, x in values.items()})

    def keeps(self, walk: Walk, op: Op) -> tuple[int, ...]:
        return op.inputs

    def project(self, walk: Walk, op: Op, i: int, s: Signal) -> Signal | None:
        if walk.method != "gradient":
            if walk.attention != "constant":
                refuse_method(walk, op, "is attention")
            if op.operand(i) != "value":
                return None
            if op.inputs.count(op.inputs[i]) > 1:  # one value for all three: the signal goes to it as the value only
                given = {name: op.arg(name) for name in ("query", "key")}
                recorded = {n: walk.rec.values[a.value] if isinstance(a, Ref) else a for n, a in given.items()}
                op = op.with_args(**recorded)
                i, op.inputs = 0, (op.arg("value").value,)
        return gradient(walk, _by_function(op) if walk.output == 0 else op, i, s)


def _by_function(op: Op) -> Op:
    """The same attention as torch chooses it for autograd: not every way to it has a derivative by its mask."""
    mask = op.arg("attn_mask", op.arg("attn_bias", None))
    given = {"attn_mask": mask, "is_causal": op.arg("is_causal", False), "scale": op.arg("scale", None)}
    tensors = tuple(op.arg(name) for name in ("query", "key", "value"))
    return replace(op, func=F.scaled_dot_product_attention, args=tensors, kwargs=given)
