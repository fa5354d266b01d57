"""Masks as bits and switches as bytes, against the masks and switches themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.engine import costs
from deconvviz.engine.compact import Bits, Switches
from deconvviz.engine.windows import Windows

# In one part, and in several.
in_parts = pytest.mark.parametrize("part", [costs.PART, 64])


def windows(data: st.DataObject, height: int, width: int) -> Windows:
    """Some windows within a map, perhaps all in one place or one column."""
    h, w = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    k = data.draw(st.integers(1, 4))
    places = st.lists(st.tuples(st.integers(0, height - h), st.integers(0, width - w)), min_size=k, max_size=k)
    rows, cols = np.array(data.draw(places), dtype=np.int64).T
    same = data.draw(st.sampled_from(["apart", "columns", "both"]))
    rows, cols = (rows if same != "both" else rows * 0 + rows[0]), (cols if same == "apart" else cols * 0 + cols[0])
    return Windows(rows, cols, h, w, (height, width))


@in_parts
@given(data=st.data())
def test_bits(part: int, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 40))
    x = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(height * width))
    x = x.contiguous(memory_format=data.draw(st.sampled_from([torch.contiguous_format, torch.channels_last])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "PART", part)
        bits = Bits.of(x, lambda numbers: numbers > 0)
    assert torch.equal(bits.whole(), x > 0)
    assert bits.packed.numel() * 8 < x.numel() + 8 * 3 * height
    at = windows(data, height, width)
    found, want = bits.cut(at), at.cut(x > 0)
    assert torch.equal(found.expand(len(at), -1, -1, -1), want.expand(len(at), -1, -1, -1))


def test_bits_of_other_ranks() -> None:
    for shape in ((), (5,), (1, 11), (2, 3, 17), (1, 2, 3, 4, 5)):
        x = torch.randn(shape)
        assert torch.equal(Bits.of(x, lambda numbers: numbers > 0).whole().view(shape), x > 0)


@in_parts
@given(data=st.data())
def test_switches(part: int, data: st.DataObject) -> None:
    kernel = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = data.draw(st.integers(1, 3))
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    size = tuple(dilation * (k - 1) + 1 + data.draw(st.integers(0, 9)) for k in kernel)
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(sum(size)))
    _, index = F.max_pool2d(x, kernel, stride, padding, dilation, data.draw(st.booleans()), True)
    extent = dilation * (kernel[0] - 1) + 1, dilation * (kernel[1] - 1) + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "PART", part)
        found = Switches.of(index, size[1], stride, (padding[0], padding[1]), extent)
    assert found is not None
    assert found.codes.element_size() == 1
    at = windows(data, index.shape[2], index.shape[3])
    wide = (at.width - 1) * stride[1] + extent[1]
    flat = found.under(at, wide).expand(len(at), -1, -1, -1)
    top = torch.from_numpy(at.rows * stride[0] - padding[0]).view(-1, 1, 1, 1)
    left = torch.from_numpy(at.cols * stride[1] - padding[1]).view(-1, 1, 1, 1)
    assert torch.equal((flat // wide + top) * size[1] + flat % wide + left, at.cut(index).expand_as(flat))


def test_switches_of_large_kernels() -> None:
    x = torch.randn(1, 1, 400, 400)
    for kernel, size in ((17, 2), (200, None)):
        _, index = F.max_pool2d(x, kernel, return_indices=True)
        found = Switches.of(index, 400, (kernel, kernel), (0, 0), (kernel, kernel))
        assert (None if found is None else found.codes.element_size()) == size
