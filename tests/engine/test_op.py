"""Arguments of recorded operators, read and changed by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvviz.engine.recorder import record
from deconvviz.engine.recording import Op, Ref

IMAGE = torch.rand(1, 3, 8, 8)


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def last(function: Callable[[Tensor], Tensor]) -> Op:
    return record(Call(function), IMAGE).ops[-1]


def test_given_arguments_and_defaults() -> None:
    op = last(lambda x: F.max_pool2d(x, 3, padding=1))
    assert op.arg("self") == Ref(0) and op.arg("kernel_size") == [3, 3] and op.arg("padding") == [1, 1]
    assert op.arg("dilation") == [1, 1] and op.arg("ceil_mode") is False
    assert "dilation" not in op.given


def test_keyword_only_arguments() -> None:
    assert last(lambda x: torch.add(x, x, alpha=3)).arg("alpha") == 3
    assert last(lambda x: x + x).arg("alpha") == 1


def test_a_plain_function_is_read_by_its_signature() -> None:
    op = last(lambda x: F.local_response_norm(x, 3, beta=0.5))
    assert [op.arg(name) for name in ("size", "alpha", "beta", "k")] == [3, 1e-4, 0.5, 1.0]


def test_names_that_an_overload_lacks() -> None:
    op = last(lambda x: x.mean())
    assert op.arg("dim", None) is None
    with pytest.raises(KeyError):
        op.arg("dim")


def test_which_operand_an_input_is() -> None:
    assert last(lambda x: torch.rsub(x, torch.ones(8))).operand(0) == "self"
    op = last(lambda x: torch.ones(8) - x)
    assert op.operand(0) == "other" and isinstance(op.arg("self"), Tensor)


def test_arguments_are_replaced_by_name() -> None:
    op = last(lambda x: F.conv2d(x, torch.ones(2, 3, 1, 1)))
    changed = op.with_args(weight=torch.zeros(2, 3, 1, 1), bias=torch.ones(2))
    assert changed.args[0] == Ref(0) and changed.args[3:] == op.args[3:] and not changed.kwargs
    assert changed.run(lambda a: IMAGE if isinstance(a, Ref) else a).eq(1).all()
    assert last(lambda x: x + x).with_args(alpha=2).arg("alpha") == 2


def test_in_place_and_base_name() -> None:
    op = last(lambda x: (x + 1).relu_())
    assert op.in_place and op.base == "relu" and not last(torch.relu).in_place
