"""Fig. 1: the numbers drawn are those of plain torch, forwards and backwards, on a small network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deconvviz import Network, project
from deconvviz.analyses.scheme.compute import scheme
from deconvviz.analyses.scheme.result import Scheme
from deconvviz.errors import UnsupportedOperatorError


def network(pool: nn.Module) -> Network:
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), pool, nn.Conv2d(5, 4, 3), nn.ReLU()]
    return Network(nn.Sequential(*layers).eval(), input_size=24, mean=(0.5,) * 3, std=(0.25,) * 3)


PICTURE = torch.randn(3, 24, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("pool", [nn.MaxPool2d(3, 2), nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1)])
def test_forwards_and_backwards(pool: nn.MaxPool2d) -> None:
    net = network(pool)
    found = scheme(net, PICTURE)
    first, above = net.module[0], net.module[3]  # type: ignore[index]
    with torch.no_grad():
        convolved = first(PICTURE[None])
        pooled, switches = F.max_pool2d(F.relu(convolved), pool.kernel_size, pool.stride, pool.padding,
                                        return_indices=True)  # fmt: skip
        top = F.relu(above(pooled))
    unit = found.unit
    torch.testing.assert_close(found.convolved, convolved[0, unit])
    torch.testing.assert_close(found.rectified, convolved[0, unit].relu())
    torch.testing.assert_close(found.pooled, pooled[0, unit])
    assert torch.equal(found.switches[..., 0] * 24 + found.switches[..., 1], switches[0, unit])
    # Back: one activation through the transposed filter, then added where each maximum was.
    _, map_above, row, column = (int(n) for n in torch.unravel_index(top.argmax(), top.shape))
    assert found.above == ("4", map_above)
    seed = torch.zeros_like(top)
    seed[0, map_above, row, column] = top.max()
    signal = F.conv_transpose2d(seed, above.weight.detach())
    unpooled = torch.zeros(1, 5, 24 * 24).scatter_add_(2, switches.flatten(2), signal.flatten(2)).view(1, 5, 24, 24)
    torch.testing.assert_close(found.signal, signal[0, unit])
    torch.testing.assert_close(found.unpooled, unpooled[0, unit])
    torch.testing.assert_close(found.passed, unpooled[0, unit].relu())
    # And down to pixels it is what `project` gives.
    whole = project(net, PICTURE, "4", units=map_above)
    torch.testing.assert_close(found.pixels, whole.pixels[0])


def test_the_piece_by_hand() -> None:
    # Windows of 2 without overlap: each of the four switches holds one number of the signal.
    found = scheme(network(nn.MaxPool2d(2)), PICTURE)
    piece = found.piece(2)
    assert piece.rectified.shape == (4, 4) and piece.pooled.shape == (2, 2)
    for r in range(2):
        for c in range(2):
            window = piece.rectified[2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
            assert piece.pooled[r, c] == window.max()
            y, x = piece.switches[r, c].tolist()
            assert piece.rectified[y, x] == window.max() and piece.unpooled[y, x] == piece.signal[r, c]
    assert piece.unpooled.count_nonzero() <= 4


def test_the_piece_adds_where_windows_share_a_maximum() -> None:
    piece = scheme(network(nn.MaxPool2d(3, 2, 1)), PICTURE).piece()
    assert float(piece.unpooled.sum()) == pytest.approx(float(piece.signal.sum()), rel=1e-5)
    for y, x in {tuple(s) for s in piece.switches.reshape(-1, 2).tolist()}:
        same = (piece.switches == torch.tensor([y, x])).all(-1)
        assert float(piece.unpooled[y, x]) == pytest.approx(float(piece.signal[same].sum()), rel=1e-5)


def test_saved_loaded_and_drawn(tmp_path: Path) -> None:
    found = scheme(network(nn.MaxPool2d(3, 2)), PICTURE)
    assert Scheme.load(found.save(tmp_path / "s.npz")) == found
    svg = found.save(tmp_path / "s.svg").read_text(encoding="utf-8")
    assert "max unpooling" in svg and "switches" in svg
    texts = {t.get_text() for ax in found.figure().axes for t in ax.texts}
    assert f"{float(found.piece().pooled[0, 0]):.1f}" in texts


def test_a_network_without_pooling_is_an_error() -> None:
    net = Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), 24, (0.5,) * 3, (0.25,) * 3)
    with pytest.raises(UnsupportedOperatorError, match="needs a convolution, a max pooling"):
        scheme(net, PICTURE)
