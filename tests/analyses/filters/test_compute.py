"""The diagnosis of filters, against filters of known frequency, plain loops, and the responses themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deconvviz import Network, filters
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnknownNameError, UnsupportedOperatorError
from deconvviz.training import renormalise


def grating(frequency: float, angle: float = 0.0, size: int = 16, phase: float = 0.0) -> Tensor:
    """A soft-edged grey grating (size, size) of `frequency` cycles per pixel; angle 0 varies along the columns."""
    at = torch.arange(size) - (size - 1) / 2
    along = math.cos(angle) * at[None] + math.sin(angle) * at[:, None]
    window = torch.hann_window(size + 2, periodic=False)[1:-1]
    return torch.cos(2 * math.pi * frequency * along + phase) * window * window[:, None]


def network(weights: Tensor, stride: int | tuple[int, int] = 1, bias: Tensor | None = None, **conv: int) -> Network:
    """A network whose first convolution has these filters (F, C, h, w)."""
    count, channels = weights.shape[:2]
    layer = nn.Conv2d(channels * conv.get("groups", 1), count, tuple(weights.shape[2:]), stride, **conv)  # type: ignore[arg-type]
    with torch.no_grad():
        layer.weight.copy_(weights)
        layer.bias.copy_(torch.zeros(count) if bias is None else bias)  # type: ignore[union-attr]
    many = channels * conv.get("groups", 1)
    stats = ((0.5,) * many, (0.25,) * many) if many in (1, 3) else (None, None)
    return Network(nn.Sequential(layer, nn.ReLU(), nn.Conv2d(count, 2, 1)), 40, *stats, aliases={"conv1": "0"})


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("angle", [0.0, math.pi / 2])
def test_gratings_above_the_maps_nyquist_frequency_are_aliased(angle: float) -> None:
    # Stride 4 carries up to 1/8 cycles per pixel, stride 2 up to 1/4.
    frequencies = [0.02, 0.06, 0.19, 0.22, 0.31, 0.4]
    weights = torch.stack([grating(f, angle, 32) for f in frequencies])[:, None]
    four, two = (filters(network(weights, stride)) for stride in (4, 2))
    assert four.aliased.tolist() == [f > 1 / 8 for f in frequencies]
    assert two.aliased.tolist() == [f > 1 / 4 for f in frequencies]
    assert not filters(network(weights, 1)).above.any()
    # The first has less than one wave inside its window.
    assert torch.allclose(two.peak[1:], torch.tensor(frequencies[1:]), atol=1 / 64)
    # With a stride of 4 along one axis only, only gratings along that axis lose anything.
    across = filters(network(weights, (1, 4)))
    assert across.aliased.any() == (angle == 0.0)


def test_energy_above_nyquist_is_that_of_a_fine_spectrum() -> None:
    weights = noise(5, 3, 7, 6)
    above = filters(network(weights, (2, 3))).above
    size = 600
    power = np.abs(np.fft.fft2(weights.double().numpy(), s=(size, size))) ** 2
    down, across = np.abs(np.fft.fftfreq(size)), np.abs(np.fft.fftfreq(size))
    inside = (down < 1 / 4)[:, None] & (across < 1 / 6)
    expected = 1 - power[..., inside].sum((1, 2)) / power.sum((1, 2, 3))
    assert np.allclose(above.numpy(), expected, atol=5e-3)


def test_a_dilated_filter_has_the_frequencies_of_its_spread() -> None:
    small = noise(3, 1, 3, 3)
    spread = torch.zeros(3, 1, 5, 5)
    spread[:, :, ::2, ::2] = small
    dilated, plain = filters(network(small, 2, dilation=2)), filters(network(spread, 2))
    assert torch.allclose(dilated.above, plain.above) and dilated.peak.equal(plain.peak)


def test_twins_are_those_of_plain_loops() -> None:
    weights = noise(6, 2, 4, 3)
    weights[4] = -2.5 * weights[1]
    weights[5] = 0
    weights[5, :, 1:, :2] = weights[2, :, :-1, 1:]  # one down, one to the left
    result = filters(network(weights))
    array = weights.double().numpy()
    padded = np.pad(array, ((0, 0), (0, 0), (3, 3), (2, 2)))
    for k in range(6):
        best = (0.0, -1, (0, 0))
        for other in set(range(6)) - {k}:
            for down in range(-3, 4):
                for right in range(-2, 3):
                    moved = np.zeros_like(array[k])
                    moved[:] = padded[other][:, 3 - down : 7 - down, 2 - right : 5 - right]
                    value = (array[k] * moved).sum() / np.linalg.norm(array[k]) / np.linalg.norm(array[other])
                    if abs(value) > abs(best[0]) + 1e-9:
                        best = (value, other, (down, right))
        assert float(result.cosine[k]) == pytest.approx(best[0], abs=1e-5)
        if abs(best[0]) < 0.999:  # a perfect pair has its twin by construction, below
            assert int(result.twin[k]) == best[1] and tuple(result.shift[k].tolist()) == best[2]
    assert int(result.twin[4]) == 1 and float(result.cosine[4]) == pytest.approx(-1)
    assert result.shift[4].tolist() == [0, 0]
    moved = [p for p in result.facts()["duplicates"] if p["filters"] == [1, 4]]  # type: ignore[attr-defined]
    assert len(moved) == 1


def test_a_moved_copy_is_a_duplicate_and_knows_where_it_went() -> None:
    weights = torch.zeros(3, 1, 9, 9)
    weights[0, :, 1:6, 1:6] = noise(1, 5, 5)
    weights[1, :, 3:8, 2:7] = -3 * weights[0, :, 1:6, 1:6]
    weights[2] = noise(1, 9, 9, seed=5)
    result = filters(network(weights))
    assert result.duplicate.tolist() == [True, True, False]
    assert result.twin[:2].tolist() == [1, 0]
    # Filter 1, moved by its twin's shift, lies on filter 0.
    assert result.shift[:2].tolist() == [[-2, -1], [2, 1]]
    assert float(result.cosine[0]) == pytest.approx(-1, abs=1e-6)


def test_filters_of_different_groups_are_no_duplicates() -> None:
    weights = noise(1, 2, 3, 3).repeat(4, 1, 1, 1)
    assert filters(network(weights)).duplicate.all()
    apart = network(noise(1, 1, 3, 3).repeat(2, 1, 1, 1), groups=2)
    result = filters(apart)
    assert not result.duplicate.any() and not result.cosine.any()


def test_dead_without_data_is_blank_or_never_above_zero() -> None:
    weights = noise(4, 3, 5, 5)
    weights[1] *= 1e-4
    low, high = -2.0, 2.0  # pixels 0 and 1 with mean 0.5 and std 0.25
    greatest = torch.where(weights > 0, weights * high, weights * low).sum((1, 2, 3))
    bias = torch.tensor([0.0, 1.0, -float(greatest[2]) - 0.01, -float(greatest[3]) + 0.01])
    net = network(weights, bias=bias)
    result = filters(net)
    assert result.dead.tolist() == [False, True, True, False]
    # The bound is reached by the picture made for the filter.
    best = torch.where(weights > 0, torch.tensor(high), torch.tensor(low))
    reached = net.module[0](best).diagonal().flatten()  # type: ignore[index]
    assert result.bound is not None and torch.allclose(result.bound, reached, atol=1e-4)


def test_dead_with_data_is_what_never_fires() -> None:
    net = network(noise(6, 3, 5, 5), 2, bias=torch.tensor([0.0, -30.0, -30.0, 0.0, -60.0, 5.0]))
    pictures = [noise(3, 40, 40, seed=k) for k in range(5)]
    result = filters(net, images=pictures, batch=2)
    maps = torch.stack([net.module[:2](p[None])[0] for p in pictures])  # type: ignore[index]
    share = [(maps[:, k] > 0).float().mean().item() for k in range(6)]
    assert result.fires is not None and np.allclose(result.fires.numpy(), share)
    assert result.pictures == 5 and (result.fires == 0).any()
    assert result.dead.equal(torch.tensor(share) == 0)
    assert filters(net).fires is None and not filters(net).dead.any()


def test_rms_is_in_the_papers_input_scale_and_clips_as_training_does() -> None:
    scale = 255 * 0.25  # a pixel of [0, 255] is 1 / (255 × std) of what the network gets
    weights = noise(5, 3, 7, 7)
    weights *= torch.tensor([0.05, 0.09, 0.1, 0.2, 0.11]).view(-1, 1, 1, 1) * scale
    weights /= noise(5, 3, 7, 7).pow(2).mean((1, 2, 3), keepdim=True).sqrt()
    net = network(weights)
    result = filters(net)
    assert torch.allclose(result.rms, torch.tensor([0.05, 0.09, 0.1, 0.2, 0.11]), rtol=1e-4)
    assert result.saturated.tolist() == [False, False, True, True, True]
    assert result.dominance == pytest.approx(2.0, rel=1e-4)
    count = renormalise(net.module, 0.1, scale)
    first = net.module[0].weight  # type: ignore[index]
    assert count >= 2 and torch.allclose(result.clipped(), first, rtol=1e-4)  # type: ignore[arg-type]
    assert torch.allclose(filters(net, radius=0.05).clipped(0.2), result.clipped())


def test_a_batch_norm_behind_the_convolution_is_folded_in() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    norm = module[1]
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.copy_(noise(4))
    norm.running_var.copy_(noise(4, seed=1).abs() + 0.5)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -2.0, 0.0, 0.5]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 0.0]))
    result = filters(Network(module.train(), 16, (0.5,) * 3, (0.25,) * 3))
    assert module.training
    module.eval()
    x = noise(2, 3, 16, 16)
    zero = module[:2](x * 0)
    assert torch.allclose(nn.functional.conv2d(x, result.weights), module[:2](x) - zero, atol=1e-4)
    assert result.dead.tolist() == [False, False, True, False]


def test_two_networks_and_another_layer() -> None:
    torch.manual_seed(0)
    one, two = network(noise(4, 3, 7, 7), 2), network(noise(6, 3, 11, 11), 4)
    result = filters(one, two)
    assert result.other == filters(two) and len(result.networks()) == 2
    deep = filters(one, layer="2")
    assert deep.layer == "2" and tuple(deep.weights.shape) == (2, 4, 1, 1) and deep.input_scale == (1.0,) * 4
    assert filters(one, layer="conv1") == filters(one) == filters(one, layer=one.module[0])  # type: ignore[index]
    bare = filters(one.module)
    assert bare.bound is None and torch.allclose(bare.rms, one.module[0].weight.pow(2).mean((1, 2, 3)).sqrt())  # type: ignore[index, operator]


def test_errors() -> None:
    net = network(noise(2, 3, 3, 3))
    with pytest.raises(UnknownNameError, match="conv1"):
        filters(net, layer="conv2")
    with pytest.raises(DeconvvizValueError, match="no convolution"):
        filters(Network(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 2)), 4, (0.5,) * 3, (1.0,) * 3))
    with pytest.raises(DeconvvizValueError, match="is no convolution"):
        filters(Network(nn.Sequential(nn.Conv2d(3, 2, 3), nn.MaxPool2d(2)), 8), layer="1")
    with pytest.raises(UnsupportedOperatorError, match="no plain 2-d"):
        filters(Network(nn.Sequential(nn.ConvTranspose2d(3, 2, 3)), 8, (0.5,) * 3, (1.0,) * 3))
    with pytest.raises(DeconvvizTypeError, match="str"):
        filters("zfnet")  # type: ignore[arg-type]
    with pytest.raises(DeconvvizValueError, match="similar"):
        filters(net, similar=0)
    with pytest.raises(DeconvvizValueError, match="two networks"):
        filters(net, net, layer=net.module[0])  # type: ignore[index]
    with pytest.raises(DeconvvizValueError, match="images"):
        filters(net, images=[])
    with pytest.raises(DeconvvizValueError, match="radius"):
        filters(net).clipped(0)
