"""Filters and matrices made ready, against torch's own convolutions and products."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvviz.engine.recorder import record
from deconvviz.engine.recording import Recording
from deconvviz.engine.replay.prepared import Convolution, Matrix, Rows, adds_up, packs_matrix
from deconvviz.engine.replay.steps import Step, plan

pytestmark = pytest.mark.usefixtures("one_thread")


def step_of(*modules: nn.Module, x: Tensor) -> tuple[Recording, Step]:
    """The first step of a network."""
    torch.manual_seed(0)
    rec = record(nn.Sequential(*modules).to(x.dtype).eval(), x)
    assert rec.output is not None
    return rec, plan(rec, (rec.output,))[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("behind", [nn.Identity(), nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-1, 2), nn.SiLU()])
@pytest.mark.parametrize("options", [
    {"kernel_size": 3}, {"kernel_size": (5, 3), "stride": (1, 2)}, {"kernel_size": 1, "stride": 2}, {"kernel_size": 1},
    {"kernel_size": 3, "groups": 16}, {"kernel_size": 3, "dilation": 2, "bias": False}, {"kernel_size": 3, "groups": 4},
])  # fmt: skip
def test_convolutions(options: dict[str, Any], behind: nn.Module, dtype: torch.dtype) -> None:
    module = nn.Conv2d(16, 32, **options)
    _, step = step_of(module, behind, x=torch.randn(1, 16, 20, 20, dtype=dtype))
    assert step.filters is not None
    ready = Convolution(step.filters, step.after)
    module = module.to(dtype)
    for size in ((7, 9), (12, 12), (7, 9), (20, 6)):
        x = torch.randn(1, 16, *size, dtype=dtype)
        for padding in ((0, 0), (2, 1)) if step.every is None else ((0, 0),):
            given = {"stride": module.stride, "dilation": module.dilation, "groups": module.groups}
            with torch.no_grad():
                want = behind(F.conv2d(x, module.weight, module.bias, padding=padding, **given))  # type: ignore[arg-type]  # as torch has it
            torch.testing.assert_close(ready(x, padding), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("behind", [nn.Identity(), nn.ReLU(), nn.ReLU6()])
def test_what_a_change_adds(behind: nn.Module, dtype: torch.dtype) -> None:
    module = nn.Conv2d(6, 8, (3, 5), dilation=(2, 1))
    _, step = step_of(module, behind, x=torch.randn(1, 6, 20, 20, dtype=dtype))
    assert step.filters is not None and step.filters.reach == (4, 4)
    change = torch.randn(1, 6, 7, 4, dtype=dtype)
    # A window of what was recorded, as it lies in the map.
    recorded = torch.randn(1, 8, 30, 30, dtype=dtype).contiguous(memory_format=torch.channels_last)[:, :, 5:16, 3:11]
    before = recorded.clone()
    with torch.no_grad():
        want = behind(F.conv2d(change, module.to(dtype).weight, padding=(4, 4), dilation=(2, 1)) + recorded)
    got = Convolution(step.filters, step.after).added(change, recorded, step.filters.reach)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert torch.equal(recorded, before)


def test_one_order_of_the_filters_is_kept_once() -> None:
    _, step = step_of(nn.Conv2d(64, 128, 1), x=torch.randn(1, 64, 20, 20))
    assert step.filters is not None
    ready = Convolution(step.filters, step.after)
    if not ready.packs:
        pytest.skip("this torch has no oneDNN")
    sizes = [(n, n + 1) for n in range(3, 20)]
    for size in sizes:
        ready(torch.randn(1, 64, *size))
    assert len(ready.wanted) == len(sizes) and len(ready.orders) < 5
    assert {id(w) for w in ready.wanted.values()} == {id(o) for o in ready.orders.values()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
def test_rows_of_what_has_changed(bias: bool, dtype: torch.dtype) -> None:
    module, x = nn.Linear(40, 7, bias), torch.randn(1, 40, dtype=dtype)
    rec, step = step_of(module, nn.ReLU(), x=x[:, :, None, None].flatten(1))
    assert adds_up(rec, step)
    rows = Rows(rec, step)
    for changed in ([], [3], [0, 39, 12], list(range(40))):
        y = x.clone()
        y[0, changed] += torch.randn(len(changed), dtype=dtype)
        with torch.no_grad():
            torch.testing.assert_close(rows(y), module(y).relu())
    assert torch.equal(rows(x), rec.values[step.value])  # which nothing has written to


def test_numbers_that_have_no_difference_are_not_taken_one_of() -> None:
    x = torch.randn(1, 4)
    x[0, 2] = torch.inf
    rec, step = step_of(nn.Linear(4, 3), x=x)
    assert not adds_up(rec, step)


def test_matrices_of_many_rows() -> None:
    module, x = nn.Linear(24, 50), torch.randn(9, 24)
    rec, step = step_of(module, nn.GELU(), x=x)
    if not packs_matrix(rec, step):
        pytest.skip("this torch has no oneDNN")
    y = torch.randn(9, 24)
    with torch.no_grad():
        torch.testing.assert_close(Matrix(rec, step)(y), F.gelu(module(y)), rtol=1e-5, atol=1e-6)
    assert not packs_matrix(*step_of(nn.Linear(24, 50), x=x.double()))
