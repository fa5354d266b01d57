"""Filters and matrices made ready once for many single pictures: packed by oneDNN, or laid out by what is read of them.

A batch shares what each call costs; one picture does not. So filters are brought into the order in which the processor
wants them before, an activation and a sum are taken with the convolution, and of a fully connected layer, which is
bound by reading its weights, only the rows are read whose inputs have changed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvviz.engine.recording import Op, Recording
from deconvviz.engine.replay.steps import Step
from deconvviz.engine.rules import FilterBank, rule_of

Pair = tuple[int, int]


class Convolution:
    """The filters of a step with the activations behind them, for maps (1, C, h, w), channels last."""

    def __init__(self, filters: FilterBank, after: tuple[Op, ...]) -> None:
        self.filters, self.after = filters, after
        self.every = filters.every
        self.stride = (1, 1) if self.every else filters.stride
        self.packs = _packs(filters.weight)
        self.attribute = (_attribute(after) if self.packs else None) or ("none", [], "")
        # The filters in the orders that oneDNN has asked for, and which of them it wants for maps of which size.
        self.orders: dict[bytes, Tensor] = {}
        self.wanted: dict[tuple[int, int, Pair], Tensor] = {}

    def __call__(self, x: Tensor, padding: Pair = (0, 0)) -> Tensor:
        """The convolution of x, zeros around it, and what follows."""
        f = self.filters
        if self.every:  # leaving out first what is never read is several times as fast
            x = x[:, :, :: self.every[0], :: self.every[1]]
        if not self.packs:
            out = F.conv2d(x, f.weight, f.bias, self.stride, padding, f.dilation, f.groups)
            return follow(self.after, out)
        out = torch.ops.mkldnn._convolution_pointwise(
            x, self.packed(x, padding), f.bias, padding, self.stride, f.dilation, f.groups, *self.attribute
        )
        return out if self.attribute[0] != "none" else follow(self.after, out)

    def added(self, change: Tensor, recorded: Tensor, reach: Pair) -> Tensor:
        """What a `change` of the input adds to what was `recorded` of the sum (1, O, h + reach, w + reach)."""
        f = self.filters
        if not self.packs:
            out = F.conv2d(change, f.weight, None, 1, reach, f.dilation, f.groups)
            return follow(self.after, out.add_(recorded))
        packed, behind = self.packed(change, reach), "relu" if self.attribute[0] == "relu" else None
        out = torch.ops.mkldnn._convolution_pointwise.binary(
            change, recorded, packed, None, reach, self.stride, f.dilation, f.groups, "add", 1.0, behind, [], ""
        )
        return out if behind else follow(self.after, out)

    def packed(self, x: Tensor, padding: Pair) -> Tensor:
        """The filters in the order that is wanted for x: in any other they would be brought into it at every call."""
        key = (x.shape[2], x.shape[3], padding)
        if key not in self.wanted:
            f = self.filters
            found = torch.ops.mkldnn._reorder_convolution_weight(
                f.weight, padding, self.stride, f.dilation, f.groups, x.shape
            )
            # There are few orders: one that is known already is not kept twice.
            count = min(torch.ops.mkldnn._nbytes(found), _TOLD_BY)
            begin = ctypes.string_at(torch.ops.mkldnn.data_ptr(found), count)
            self.wanted[key] = self.orders.setdefault(begin, found)
        return self.wanted[key]


# By so many of their first bytes orders of the same filters are told apart.
_TOLD_BY = 1 << 16


class Rows:
    """A fully connected layer by what changes: the rows of its matrix (n, m) whose inputs have are added up."""

    def __init__(self, rec: Recording, step: Step) -> None:
        matrix = step.rule.matrix(step.op)
        assert matrix is not None  # `adds_up` has seen to it
        self.matrix, self.after = matrix.contiguous(), step.after
        self.before, self.sums = rec.values[step.op.inputs[0]].reshape(-1), rec.values[step.sum].reshape(1, -1)

    def __call__(self, x: Tensor) -> Tensor:
        """The output (1, m) for the input x (1, n)."""
        change = x.reshape(-1) - self.before
        changed = change.nonzero()[:, 0]
        if not len(changed):
            return follow(self.after, self.sums.clone())
        # A bag for every thread: within one it goes in order.
        part = -(-len(changed) // torch.get_num_threads())
        bags = torch.arange(0, len(changed), part, device=changed.device)
        added = F.embedding_bag(changed, self.matrix, bags, mode="sum", per_sample_weights=change[changed])
        return follow(self.after, self.sums + added.sum(0, keepdim=True))


class Matrix:
    """A matrix product of many rows (M, n), whose inputs mostly all change, as those of tokens do."""

    def __init__(self, rec: Recording, step: Step) -> None:
        matrix, bias = step.rule.matrix(step.op), step.op.arg("self", None) if step.op.name == "addmm" else None
        assert matrix is not None  # `packs_matrix` has seen to it
        rows, self.after, self.bias = rec.values[step.op.inputs[0]].shape[0], step.after, bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(matrix.t().contiguous(), rows)

    def __call__(self, x: Tensor) -> Tensor:
        """The product of x (M, n), the bias added, and what follows."""
        return follow(self.after, torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], ""))


def packs_matrix(rec: Recording, step: Step) -> bool:
    """Whether a step is such a product, and oneDNN packs its matrix."""
    matrix = step.rule.matrix(step.op)
    if matrix is None or step.op.name not in ("addmm", "mm") or len(step.op.inputs) != 1 or not _packs(matrix):
        return False
    bias = step.op.arg("self") if step.op.name == "addmm" else None
    vector = bias is None or (bias.dim() == 1 and len(bias) == matrix.shape[1])
    read = rec.values[step.op.inputs[0]]
    return vector and read.dtype == torch.float32 and tuple(read.shape[1:]) == (matrix.shape[0],)


def adds_up(rec: Recording, step: Step) -> bool:
    """Whether a step is a fully connected layer of one picture whose recorded numbers may be taken differences of."""
    matrix = step.rule.matrix(step.op)
    if matrix is None or len(step.op.inputs) != 1 or matrix.device.type != "cpu":
        return False
    read, made = rec.values[step.op.inputs[0]], rec.values[step.sum]
    alike = read.dtype == made.dtype == matrix.dtype and matrix.dtype in (torch.float32, torch.float64)
    vectors = tuple(read.shape) == (1, matrix.shape[0]) and tuple(made.shape) == (1, matrix.shape[1])
    return alike and vectors and bool(read.sum().isfinite() & made.sum().isfinite())


def follow(after: Sequence[Op], data: Tensor) -> Tensor:
    """The activations `after` an operator on what came out of it, which is no one else's."""
    for op in after:
        data = rule_of(op).follow(op, data, True)
    return data


def _attribute(after: tuple[Op, ...]) -> tuple[str, list[float], str] | None:
    """How oneDNN is told of the activations behind a convolution; None if it cannot take them with it."""
    if len(after) != 1:
        return None
    op = after[0]
    if op.base == "relu":
        return "relu", [], ""
    if op.base == "hardtanh":
        return "hardtanh", [float(op.arg("min_val")), float(op.arg("max_val"))], ""
    return None


def _packs(weight: Tensor) -> bool:
    """Whether oneDNN packs these filters."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and _has_one_dnn()


@lru_cache(maxsize=1)
def _has_one_dnn() -> bool:
    one = torch.ones(1, 1, 1, 1)
    none, ones = [0, 0], [1, 1]
    try:
        packed = torch.ops.mkldnn._reorder_convolution_weight(one, none, ones, ones, 1, None)
        torch.ops.mkldnn._convolution_pointwise(one, packed, None, none, ones, ones, 1, "relu", [], "")
        linear = torch.ops.mkldnn._reorder_linear_weight(one[0, 0], 1)
        torch.ops.mkldnn._linear_pointwise(one[0, 0], linear, None, "none", [], "")
        torch.ops.mkldnn.data_ptr(packed), torch.ops.mkldnn._nbytes(packed)
        torch.ops.mkldnn._convolution_pointwise.binary(
            one, one, packed, None, none, ones, ones, 1, "add", 1.0, "relu", [], ""
        )
    except (AttributeError, RuntimeError):  # a build of torch without it
        return False
    return True
