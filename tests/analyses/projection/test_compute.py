"""`project` against oracles that share none of its code: captum, autograd, dense matrices, plain loops."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from captum.attr import NeuronDeconvolution, NeuronGuidedBackprop
from PIL import Image
from torch import Tensor, nn

import deconvviz
from deconvviz import DeconvvizError, Network, project

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


pytestmark = pytest.mark.usefixtures("one_thread")


def relative(a: Tensor, b: Tensor) -> float:
    assert not a.requires_grad, "a result carries no graph"
    a, b = a.double(), b.detach().double()
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-300))


def settle(model: nn.Module, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Random weights, biases and BatchNorm statistics; eval mode."""
    g = torch.Generator().manual_seed(seed)
    for m in model.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            fan = m.weight[0].numel()
            m.weight.data = torch.randn(m.weight.shape, generator=g) * (2 / fan) ** 0.5
            if m.bias is not None:
                m.bias.data = torch.randn(m.bias.shape, generator=g) * 0.1
        if isinstance(m, nn.BatchNorm2d):
            assert m.running_mean is not None and m.running_var is not None
            m.running_mean.copy_(torch.randn(m.num_features, generator=g) * 0.2)
            m.running_var.copy_(torch.rand(m.num_features, generator=g) + 0.5)
        if isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)):
            m.weight.data = torch.rand(m.weight.shape, generator=g) + 0.5
            m.bias.data = torch.randn(m.bias.shape, generator=g) * 0.1
    return model.to(dtype).eval()


def picture(channels: int = 3, h: int = 21, w: int = 26, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(1, channels, h, w, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# Nets with module ReLUs, each used once, and no LRN ------------------------------------------------


def conv_relu(i: int, o: int, k: int = 3, stride: int = 1, groups: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, k, stride, k // 2 * dilation, dilation, groups), nn.ReLU())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 5, 2, 2, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.body = nn.Sequential(nn.Conv2d(6, 6, 3, 1, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, 1, 1))
        self.out = nn.ReLU()
        self.down = nn.Conv2d(6, 8, 1, 2)
        self.body2 = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))
        self.out2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        x = self.out(self.body(x) + x)
        return self.out2(self.body2(x) + self.down(x))  # type: ignore[no-any-return]


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_relu(3, 6)
        self.one, self.three, self.five = conv_relu(6, 2, 1), conv_relu(6, 3, 3), conv_relu(6, 4, 5)
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(6, 3, 1), nn.ReLU())
        self.last = nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), *conv_relu(12, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1))  # type: ignore[no-any-return]


def chain(channels: int = 3) -> nn.Module:
    return nn.Sequential(
        *conv_relu(channels, 5), nn.MaxPool2d(3, 2), *conv_relu(5, 7), nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        *conv_relu(7, 6), *conv_relu(6, 4),
    )  # fmt: skip


def grouped() -> nn.Module:
    return nn.Sequential(
        *conv_relu(3, 6, 3, stride=2), *conv_relu(6, 9, 3, groups=3),
        *conv_relu(9, 9, 3, groups=9, dilation=2), nn.MaxPool2d(2, 1, dilation=2),
        nn.Conv2d(9, 4, (3, 5), stride=(1, 2), padding=(0, 2), dilation=(2, 1)), nn.ReLU(),
    )  # fmt: skip


def averaged() -> nn.Module:
    return nn.Sequential(
        *conv_relu(3, 5), nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), *conv_relu(5, 6),
        nn.AvgPool2d(2, 2, ceil_mode=True), *conv_relu(6, 6), nn.AdaptiveAvgPool2d((3, 2)), *conv_relu(6, 4),
    )  # fmt: skip


def classifier() -> nn.Module:
    return nn.Sequential(
        *conv_relu(3, 5), nn.MaxPool2d(3, 2), *conv_relu(5, 6), nn.AdaptiveAvgPool2d(3), nn.Flatten(),
        nn.Linear(54, 11), nn.ReLU(), nn.Dropout(), nn.Linear(11, 7),
    )  # fmt: skip


NETS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "chain": (chain, ["1", "4", "5", "7", "9"]),
    "residual": (Residual, ["pool", "body.0", "out", "body2.1", "out2"]),
    "inception": (Inception, ["stem.1", "pool.1", "three.1", "last.2"]),
    "grouped": (grouped, ["3", "5", "6", "8"]),
    "averaged": (averaged, ["5", "6", "10"]),
    "classifier": (classifier, ["4", "7", "8", "10"]),
}
CASES = [pytest.param(make, layer, id=f"{name}-{layer}") for name, (make, layers) in NETS.items() for layer in layers]


def output_of(model: nn.Module, layer: str, x: Tensor) -> Tensor:
    """What a layer returns, with its graph; its own value, whatever later happens in place."""
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _m, _i, o: kept.append(o.clone()))
    with torch.enable_grad():
        model(x)
    handle.remove()
    return kept[-1]


def some_places(out: Tensor) -> tuple[list[int], list[tuple[int, int]]]:
    """Units and places: corners, a border, the middle, and the strongest of the whole layer."""
    n = out.shape[1]
    if out.dim() == 2:
        return [0, n - 1, int(out[0].argmax())], [(0, 0)] * 3
    h, w = out.shape[2:]
    unit, row, col = (int(i) for i in torch.unravel_index(out[0].argmax(), out.shape[1:]))
    places = [(0, 0), (h - 1, w - 1), (h // 2, w // 2), (0, w // 2), (h - 1, 0), (row, col)]
    return [0, n - 1, 1, 0, n // 2, unit], places


def by_captum(
    kind: type, model: nn.Module, layer: str, x: Tensor, unit: int, place: tuple[int, int], dims: int
) -> Tensor:
    index = (unit, *place) if dims == 4 else (unit,)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum announces that it sets hooks
        found = kind(model, model.get_submodule(layer)).attribute(
            x.clone(), index, attribute_to_neuron_input=False
        )  # the attribution of a seed of 1
    assert isinstance(found, Tensor)
    return found[0].detach()


def against_captum(
    kind: type,
    method: str,
    make: Callable[[], nn.Module],
    layer: str,
    dtype: torch.dtype,
    twin: nn.Module | None = None,
) -> None:
    model = settle(make(), dtype=dtype)
    x = picture(dtype=dtype)
    out = output_of(model, layer, x).detach()
    units, places = some_places(out)
    p = project(twin or model, x, layer, units=units, place=places, method=method, overlap="add")
    assert p.pixels.dtype == dtype and tuple(p.pixels.shape) == (len(units), *x.shape[1:])
    seen = False
    for k, (unit, place) in enumerate(zip(units, places, strict=True)):
        act = out[0, unit] if out.dim() == 2 else out[0, unit, place[0], place[1]]
        assert torch.equal(p.activations[k], act)
        want = act * by_captum(kind, model, layer, x, unit, place, out.dim())
        seen = seen or bool(want.any())
        if not want.any():
            assert not p.pixels[k].any()
        else:
            assert relative(p.pixels[k], want) <= TOLERANCE[dtype]
    assert seen, "every activation is zero: this case tests nothing"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize(("make", "layer"), CASES)
def test_deconvnet_is_activation_times_captum(make: Callable[[], nn.Module], layer: str, dtype: torch.dtype) -> None:
    against_captum(NeuronDeconvolution, "deconvnet", make, layer, dtype)


@pytest.mark.parametrize(("make", "layer"), CASES)
def test_guided_is_activation_times_captum(make: Callable[[], nn.Module], layer: str) -> None:
    against_captum(NeuronGuidedBackprop, "guided", make, layer, torch.float64)


# gradient is autograd, exactly ------------------------------------------------


class Gated(nn.Module):
    """A squeeze-and-excitation block between two convolutions."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.a, self.down, self.up, self.b = nn.Conv2d(3, 6, 3), nn.Linear(6, 3), nn.Linear(3, 6), nn.Conv2d(6, 4, 3)
        self.kind = kind

    def gate(self, x: Tensor) -> Tensor:
        g = self.up(F.relu(self.down(x.mean((2, 3)))))
        kinds: dict[str, Tensor] = {"sigmoid": g.sigmoid(), "hardsigmoid": F.hardsigmoid(g), "softmax": g.softmax(1)}
        return kinds[self.kind][:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        return F.relu(self.b(x * self.gate(x)))


class Twice(nn.Module):
    """One ReLU module used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.act = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3), nn.ReLU()
        self.pool = nn.MaxPool2d(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.b(self.pool(self.act(self.a(x)))))  # type: ignore[no-any-return]


def stacked(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), *middle, nn.Conv2d(6, 4, 3, 2))


SMOOTH: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "lrn": (lambda: stacked(nn.ReLU(), nn.LocalResponseNorm(5, 1e-2, 0.75, 2.0), nn.MaxPool2d(3, 2)), "4"),
    "silu": (lambda: stacked(nn.SiLU()), "2"),
    "silu_inplace": (lambda: stacked(nn.SiLU(inplace=True)), "2"),
    "gelu": (lambda: stacked(nn.GELU()), "2"),
    "gelu_tanh": (lambda: stacked(nn.GELU("tanh")), "2"),
    "hardswish": (lambda: stacked(nn.Hardswish()), "2"),
    "relu6": (lambda: stacked(nn.ReLU6(inplace=True)), "2"),
    "leaky": (lambda: stacked(nn.LeakyReLU(0.1)), "2"),
    "elu": (lambda: stacked(nn.ELU()), "2"),
    "tanh": (lambda: stacked(nn.Tanh()), "2"),
    "sigmoid": (lambda: stacked(nn.Sigmoid()), "2"),
    "softmax": (lambda: stacked(nn.Softmax(1)), "2"),
    "group_norm": (lambda: stacked(nn.GroupNorm(3, 6), nn.ReLU()), "3"),
    "instance_norm": (lambda: stacked(nn.InstanceNorm2d(6), nn.ReLU()), "3"),
    "batch_norm": (lambda: stacked(nn.BatchNorm2d(6), nn.ReLU()), "3"),
    "se_sigmoid": (lambda: Gated("sigmoid"), "b"),
    "se_hardsigmoid": (lambda: Gated("hardsigmoid"), "b"),
    "se_softmax": (lambda: Gated("softmax"), "b"),
    "upsample": (lambda: stacked(nn.ReLU(), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)), "3"),
    "nearest": (lambda: stacked(nn.ReLU(), nn.Upsample(scale_factor=2)), "3"),
    "reflection": (lambda: stacked(nn.ReLU(), nn.ReflectionPad2d(2)), "3"),
    "zero_pad": (lambda: stacked(nn.ReLU(), nn.ZeroPad2d((1, 2, 0, 3))), "3"),
    "pixel_shuffle": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.PixelShuffle(2), nn.ReLU(), nn.Conv2d(2, 4, 3)),
        "3",
    ),
}


def against_autograd(model: nn.Module, layer: str, x: Tensor, tolerance: float = 1e-12) -> None:
    x = x.clone().requires_grad_()
    out = output_of(model, layer, x)
    units, places = some_places(out)
    p = project(model, x.detach(), layer, units=units, place=places, method="gradient")
    for k, (unit, place) in enumerate(zip(units, places, strict=True)):
        y = out[0, unit] if out.dim() == 2 else out[0, unit, place[0], place[1]]
        want = y.detach() * torch.autograd.grad(y, x, retain_graph=True)[0][0]
        if want.any():
            assert relative(p.pixels[k], want) <= tolerance
        else:
            assert not p.pixels[k].any()


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_is_autograd_beyond_relu(name: str) -> None:
    make, layer = SMOOTH[name]
    against_autograd(settle(make()), layer, picture(h=13, w=16))


@pytest.mark.parametrize(("make", "layer"), CASES)
def test_gradient_is_autograd(make: Callable[[], nn.Module], layer: str) -> None:
    against_autograd(settle(make()), layer, picture())


@pytest.mark.parametrize("kind", ["sigmoid", "hardsigmoid", "softmax"])
@pytest.mark.parametrize("method", ["deconvnet", "guided"])
def test_a_gate_is_a_constant_factor(kind: str, method: str) -> None:
    model = settle(Gated(kind))
    assert isinstance(model, Gated)
    x = picture(h=13, w=16)
    with torch.no_grad():
        constant = model.gate(F.relu(model.a(x)))
    frozen = nn.Sequential(model.a, nn.ReLU(), nn.Conv2d(6, 6, 1, groups=6, bias=False), model.b)
    frozen[2].weight.data = constant.view(6, 1, 1, 1)
    got = project(model, x, "b", units=[0, 1, 2, 3], method=method)
    want = project(frozen.double().eval(), x, "3", units=[0, 1, 2, 3], method=method)
    assert torch.equal(got.places, want.places)
    assert relative(got.pixels, want.pixels) <= 1e-12


# Every spelling of ReLU ------------------------------------------------


class Spelled(nn.Module):
    """conv → act → pool → conv → act → conv → act, the activation spelled as given."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 5, 3)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.act(self.c1(x)), 3, 2)
        return self.act(self.c3(self.act(self.c2(x))))


class ModuleTwin(nn.Module):
    """The same net with one `nn.ReLU` for each place, which is what captum needs."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 5, 3)
        self.r1, self.r2, self.r3 = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.r1(self.c1(x)), 3, 2)
        return self.r3(self.c3(self.r2(self.c2(x))))  # type: ignore[no-any-return]


SPELLINGS: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "module": nn.ReLU,
    "module_inplace": lambda: nn.ReLU(inplace=True),
    "F.relu": lambda: F.relu,
    "F.relu_inplace": lambda: lambda x: F.relu(x, inplace=True),
    "torch.relu": lambda: torch.relu,
    "torch.relu_": lambda: torch.relu_,
    "x.relu": lambda: lambda x: x.relu(),
    "x.relu_": lambda: lambda x: x.relu_(),
    "clamp": lambda: lambda x: x.clamp(min=0),
    "clamp_": lambda: lambda x: x.clamp_(min=0),
    "torch.clamp": lambda: lambda x: torch.clamp(x, min=0.0),
    "clamp_min": lambda: lambda x: x.clamp_min(0),
    "threshold": lambda: lambda x: F.threshold(x, 0.0, 0.0),
    "hardtanh": lambda: lambda x: F.hardtanh(x, 0.0, 1e9),
}


@pytest.mark.parametrize("method", ["deconvnet", "guided", "gradient"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_relu_is_the_same(spelling: str, method: str) -> None:
    x = picture()
    reference = settle(ModuleTwin())
    want = project(reference, x, "c3", units=range(5), method=method)
    model = settle(Spelled(SPELLINGS[spelling]()))
    got = project(model, x, "c3", units=range(5), method=method)
    assert want.pixels.any()
    assert torch.equal(got.places, want.places)
    assert relative(got.pixels, want.pixels) <= 1e-14


@pytest.mark.parametrize("kind", [NeuronDeconvolution, NeuronGuidedBackprop])
def test_functional_relu_matches_captum_on_the_module_twin(kind: type) -> None:
    method = "guided" if kind is NeuronGuidedBackprop else "deconvnet"
    against_captum(kind, method, ModuleTwin, "c3", torch.float64, twin=settle(Spelled(F.relu)))


def test_one_module_used_twice() -> None:
    model = settle(Twice())
    x = picture()
    twin = nn.Sequential(model.a, nn.ReLU(), model.pool, model.b, nn.ReLU())  # type: ignore[arg-type]
    for name, other in (("act", "4"), ("act#1", "4"), ("act#0", "1")):
        got, want = project(model, x, name, top=4), project(twin, x, other, top=4)
        assert torch.equal(got.units, want.units)
        assert relative(got.pixels, want.pixels) <= 1e-14


# Dense matrices and plain loops ------------------------------------------------


def matrix(linear: Callable[[Tensor], Tensor], shape: tuple[int, int, int]) -> Tensor:
    """The matrix of a linear map, column by column."""
    n = shape[0] * shape[1] * shape[2]
    return linear(torch.eye(n, dtype=torch.float64).view(n, *shape)).flatten(1).T


def switches(x: Tensor, k: int, s: int, pad: int = 0) -> list[tuple[int, int, int]]:
    """(channel, flat input index) of the first maximum of each pool window, in raster order, by plain loops."""
    c, h, w = x.shape
    rows, cols = (h + 2 * pad - k) // s + 1, (w + 2 * pad - k) // s + 1
    found = []
    for ch in range(c):
        for i in range(rows):
            for j in range(cols):
                best = None
                for r in range(max(i * s - pad, 0), min(i * s - pad + k, h)):
                    for q in range(max(j * s - pad, 0), min(j * s - pad + k, w)):
                        if best is None or x[ch, r, q] > x[ch, best[0], best[1]]:
                            best = (r, q)
                assert best is not None
                found.append((ch, best[0], best[1]))
    return found


def unpool(signal: Tensor, at: list[tuple[int, int, int]], shape: tuple[int, int, int], overlap: str) -> Tensor:
    """Send pool outputs to their switches, one after the other."""
    out: dict[tuple[int, int, int], float] = {}
    for value, where in zip(signal.flatten().tolist(), at, strict=True):
        if where not in out or overlap == "overwrite":
            out[where] = value
        elif overlap == "add":
            out[where] += value
        else:
            out[where] = max(out[where], value)
    result = torch.zeros(shape, dtype=torch.float64)
    for where, value in out.items():
        result[where] = value
    return result


def one_pool_net(relu: bool = True, pad: int = 0) -> nn.Sequential:
    middle = [nn.ReLU()] if relu else []
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), *middle, nn.MaxPool2d(3, 2, pad), nn.Conv2d(3, 4, 3, padding=1))
    settle(net)
    return net


def by_matrices(net: nn.Sequential, x: Tensor, seed: Tensor, overlap: str) -> Tensor:
    """The DeconvNet of a `one_pool_net` for a whole seed (4, h, w)."""
    first, last = net[0], net[-1]
    pool = net[-2]
    assert isinstance(first, nn.Conv2d) and isinstance(last, nn.Conv2d) and isinstance(pool, nn.MaxPool2d)
    relu, pad = len(net) == 4, pool.padding
    assert isinstance(pad, int)
    with torch.no_grad():
        before = first(x)[0].relu() if relu else first(x)[0]
        pooled = pool(before[None])[0]
        m1 = matrix(lambda t: F.conv2d(t, first.weight, None, 1, 1), tuple(x.shape[1:]))  # type: ignore[arg-type]
        m2 = matrix(lambda t: F.conv2d(t, last.weight, None, 1, 1), tuple(pooled.shape))
        signal = m2.T @ seed.flatten()
        at = switches(before, 3, 2, pad)
        up = unpool(signal, at, tuple(before.shape), overlap)
        up = up.clamp(min=0) if relu else up
        return (m1.T @ up.flatten()).view(x.shape[1:])


@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("relu", [True, False], ids=["relu", "signed"])
@pytest.mark.parametrize("overlap", ["add", "overwrite", "max"])
def test_windows_equal_dense_matrices_at_every_place(overlap: str, relu: bool, pad: int) -> None:
    net = one_pool_net(relu, pad)
    x = picture(2, 11, 14)
    layer = str(len(net) - 1)
    out = net(x).detach()[0]
    h, w = out.shape[1:]
    places = [(r, c) for r in range(h) for c in range(w)]
    p = project(net, x, layer, units=[2] * len(places), place=places, overlap=overlap)
    for k, (r, c) in enumerate(places):
        seed = torch.zeros_like(out)
        seed[2, r, c] = 1
        want = out[2, r, c] * by_matrices(net, x, seed, overlap)
        assert torch.allclose(p.pixels[k], want, rtol=0, atol=1e-12 * float(want.abs().max())), (r, c)


@pytest.mark.parametrize("overlap", ["add", "overwrite", "max"])
def test_seed_map_and_seed_tensor(overlap: str) -> None:
    net = one_pool_net()
    x = picture(2, 11, 14)
    out = net(x).detach()[0]
    p = project(net, x, "3", units=[1, 3], seed="map", overlap=overlap)
    given = torch.randn(2, *out.shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    q = project(net, x, "3", units=[1, 3], seed=given, overlap=overlap)
    for k, unit in enumerate((1, 3)):
        for got, sent in ((p.pixels[k], out[unit]), (q.pixels[k], given[k])):
            seed = torch.zeros_like(out)
            seed[unit] = sent
            assert relative(got, by_matrices(net, x, seed, overlap)) <= 1e-12
    assert p.boxes.tolist() == [[0, 0, 11, 14]] * 2


# Units, places, boxes, batches ------------------------------------------------


@pytest.mark.parametrize("overlap", ["add", "overwrite", "max"])
@pytest.mark.parametrize(
    ("make", "layer"), [(chain, "9"), (Residual, "out2"), (Inception, "last.2"), (classifier, "10")]
)
def test_the_batch_changes_nothing(make: Callable[[], nn.Module], layer: str, overlap: str) -> None:
    model = settle(make())
    one, many = (project(model, picture(), layer, top=64, overlap=overlap, batch=b) for b in (1, 64))
    assert torch.equal(one.units, many.units) and torch.equal(one.boxes, many.boxes)
    assert relative(one.pixels, many.pixels) <= 1e-13


def test_the_strongest_units_at_their_first_strongest_place() -> None:
    model, x = settle(chain()), picture()
    out = output_of(model, "5", x).detach()[0]
    p = project(model, x, "5", top=3)
    peaks = sorted((-float(out[u].max()), u) for u in range(out.shape[0]))[:3]
    assert p.units.tolist() == [u for _, u in peaks]
    for k, (value, u) in enumerate(peaks):
        first = next((r, c) for r in range(out.shape[1]) for c in range(out.shape[2]) if float(out[u, r, c]) == -value)
        assert tuple(p.places[k].tolist()) == first
        assert float(p.activations[k]) == -value


def test_ties_take_the_first_in_raster_order() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.MaxPool2d(2, 1)).eval()
    model[0].weight.data.fill_(1.0)  # type: ignore[operator]
    p = project(model, torch.ones(1, 4, 5), "1")
    assert p.units.tolist() == [0, 1] and p.places.tolist() == [[0, 0], [0, 0]]
    want = torch.zeros(4, 5)
    want[0, 0] = 1
    assert torch.equal(p.pixels[0, 0], want)


def test_units_in_every_form() -> None:
    model, x = settle(chain()), picture()
    for given in (4, [4], torch.tensor([4]), (4,)):
        p = project(model, x[0], "5", units=given)
        assert p.units.tolist() == [4] and p.units.dtype == torch.int64
    assert project(model, x, "5", units=[3, 1, 3]).units.tolist() == [3, 1, 3]
    assert project(model, x, "5", top=50).units.numel() == 7
    for wrong in (7, -1, [0, 9], 1.5, "strongest", []):
        with pytest.raises(DeconvvizError):
            project(model, x, "5", units=wrong)  # type: ignore[arg-type]


def test_places_in_every_form() -> None:
    model, x = settle(chain()), picture()
    out = output_of(model, "5", x).detach()[0]
    one = project(model, x, "5", units=[0, 2], place=(1, 3))
    each = project(model, x, "5", units=[0, 2], place=torch.tensor([[1, 3], [2, 0]]))
    assert one.places.tolist() == [[1, 3], [1, 3]] and each.places.tolist() == [[1, 3], [2, 0]]
    assert float(each.activations[1]) == float(out[2, 2, 0])
    for wrong in ((-1, 0), (0, 999), (1, 2, 3), [(0, 0)] * 3, "middle", (0.5, 1.0)):
        with pytest.raises(DeconvvizError):
            project(model, x, "5", units=[0, 2], place=wrong)  # type: ignore[arg-type]


def test_logits_have_one_place_and_the_whole_image() -> None:
    model, x = settle(classifier()), picture()
    out = model(x).detach()[0]
    p = project(model, x, "10", top=7)
    assert p.units.tolist() == out.argsort(descending=True).tolist()
    assert p.places.tolist() == [[0, 0]] * 7 and p.boxes.tolist() == [[0, 0, 21, 26]] * 7
    assert torch.equal(p.activations, out.sort(descending=True).values)
    assert float(p.activations.min()) < 0, "a negative logit belongs in this test"


def test_units_that_drive_a_class() -> None:
    model, x = settle(classifier()), picture()
    for target in (0, 5):
        y = x.clone().requires_grad_()
        kept: list[Tensor] = []
        handle = model.get_submodule("4").register_forward_hook(lambda _m, _i, o: kept.append(o))  # noqa: B023
        logits = model(y)
        handle.remove()
        share = (torch.autograd.grad(logits[0, target], kept[0])[0] * kept[0]).sum((2, 3))[0]
        p = project(model, x, "4", units="class", target=target, top=3)
        assert p.units.tolist() == share.argsort(descending=True)[:3].tolist()


@pytest.mark.parametrize(("channels", "h", "w"), [(1, 21, 21), (3, 17, 40), (1, 33, 19), (4, 20, 20)])
def test_grey_colour_and_any_shape(channels: int, h: int, w: int) -> None:
    model = settle(chain(channels))
    x = picture(channels, h, w)
    p = project(model, x, "5", units=[0, 3])
    assert tuple(p.pixels.shape) == (2, channels, h, w)
    for k in range(2):
        place = tuple(p.places[k].tolist())
        one = by_captum(NeuronDeconvolution, model, "5", x, int(p.units[k]), place, 4)
        assert relative(p.pixels[k], p.activations[k] * one) <= 1e-12


def test_dtypes() -> None:
    plain = nn.Sequential(*conv_relu(3, 6), *conv_relu(6, 8), nn.AvgPool2d(2), *conv_relu(8, 4))
    model, x = settle(plain, dtype=torch.float32), picture(dtype=torch.float32)
    want = project(model, x, "6", units=[0, 1, 2, 3])
    half = project(model.bfloat16(), x.bfloat16(), "6", units=[0, 1, 2, 3], place=want.places)
    assert half.pixels.dtype == half.activations.dtype == torch.float32
    for k in range(4):
        a, b = half.pixels[k].flatten(), want.pixels[k].flatten()
        if b.any():
            assert float(F.cosine_similarity(a, b, 0)) > 0.99


# Receptive fields ------------------------------------------------


def footprint(model: nn.Module, layer: str, x: Tensor, place: tuple[int, int]) -> tuple[int, int, int, int]:
    """Bounding box of the pixels that autograd says a unit depends on."""
    x = x.clone().requires_grad_()
    y = output_of(model, layer, x)[0, :, place[0], place[1]].sum()
    (g,) = torch.autograd.grad(y, x)
    rows = g[0].abs().sum((0, 2)).nonzero().flatten().tolist()
    cols = g[0].abs().sum((0, 1)).nonzero().flatten().tolist()
    return rows[0], cols[0], rows[-1] + 1, cols[-1] + 1


def average_twin(model: nn.Module) -> nn.Module:
    """Positive weights, no biases, averages for maxima: then every pixel of a receptive field has a gradient."""
    for name, m in list(model.named_modules()):
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            m.weight.data.abs_()
            if m.bias is not None:
                m.bias.data.abs_()
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.zero_()  # type: ignore[union-attr]
            m.bias.data.abs_()
        if isinstance(m, nn.MaxPool2d) and m.dilation == 1:
            parent, _, leaf = name.rpartition(".")
            average = nn.AvgPool2d(m.kernel_size, m.stride, m.padding, m.ceil_mode)
            setattr(model.get_submodule(parent) if parent else model, leaf, average)
    return model


FIELDS = [(chain, "9"), (chain, "7"), (Residual, "out2"), (Residual, "out"), (Inception, "last.2"), (averaged, "6")]


@pytest.mark.parametrize(("make", "layer"), FIELDS)
def test_receptive_fields_are_autograds_footprint(make: Callable[[], nn.Module], layer: str) -> None:
    model, x = settle(make()), picture(h=49, w=61).abs() + 0.1
    out = output_of(model, layer, x)
    h, w = out.shape[2:]
    places = [(0, 0), (h - 1, w - 1), (h // 2, w // 2), (0, w - 1), (h // 2, 0), (1, 1)]
    boxes = project(model, x, layer, units=[0] * len(places), place=places).boxes.tolist()
    net = Network(model, input_size=(49, 61), mean=(0.5,) * 3, std=(0.25,) * 3)
    by_function = [deconvviz.receptive_field(net, layer, place) for place in places]
    twin = average_twin(settle(make()))
    for place, box, same in zip(places, boxes, by_function, strict=True):
        assert tuple(box) == same == footprint(twin, layer, x, place)


def test_the_projection_stays_inside_its_box() -> None:
    model, x = settle(Residual()), picture(h=49, w=61)
    p = project(model, x, "out", units=range(6))
    for pixels, (top, left, bottom, right) in zip(p.pixels, p.boxes.tolist(), strict=True):
        outside = pixels.clone()
        outside[:, top:bottom, left:right] = 0
        assert not outside.any()


# Errors name what was given and what is allowed ------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "deconvnett"}, "deconvnet"),
        ({"overlap": "sum"}, "overwrite"),
        ({"layer": "99"}, "99"),
        ({"seed": "activations"}, "activation"),
        ({"seed": torch.zeros(1, 2, 2)}, "shape"),
        ({"batch": 0}, "batch"),
        ({"top": 0}, "top"),
        ({"image": torch.zeros(3, 8, 8, dtype=torch.uint8)}, "uint8"),
        ({"image": torch.zeros(1, 2, 3, 8, 8)}, "(1, 2, 3, 8, 8)"),
        ({"image": "photo.jpg"}, "wrap it in Network"),
        ({"model": "zfnet"}, "model"),
    ],
)
def test_bad_arguments(given: dict[str, object], said: str) -> None:
    arguments: dict[str, object] = {"model": settle(chain()), "image": picture(), "layer": "5", **given}
    with pytest.raises(DeconvvizError, match=r"^[^\n]+$") as raised:
        project(**arguments)  # type: ignore[arg-type]
    assert said in str(raised.value)


def test_weights_in_buffers_and_none_at_all_keep_the_dtype() -> None:
    class Buffers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("w", torch.randn(4, 3, 3, 3, dtype=torch.float64))
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.relu(F.conv2d(x, self.w)))

    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    for model, layer in ((Buffers(), "relu"), (nn.Sequential(nn.AvgPool2d(2), nn.ReLU()), "1")):
        assert deconvviz.project(model, x, layer).pixels.dtype == torch.float64


def test_half_types_with_a_norm_in_float32_and_back_from_a_file(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)).bfloat16().eval()
    model[1].float()
    p = deconvviz.project(model, torch.randn(1, 3, 12, 12), "3")
    assert p.pixels.dtype == p.image.dtype == torch.float32
    assert deconvviz.Projection.load(p.save(tmp_path / "p.npz")) == p


def chain_of(pools: int, activations: int) -> nn.Module:
    torch.manual_seed(1)
    parts: list[nn.Module] = []
    for n in range(3):
        parts.append(nn.Conv2d(3, 3, 3, padding=1))
        parts += [nn.ReLU()] * (n < activations) + [nn.MaxPool2d(2)] * (n < pools)
    return nn.Sequential(*parts).eval()


@pytest.mark.parametrize(("pools", "activations", "blind"), [(2, 2, False), (1, 2, False), (0, 2, True), (0, 0, False)])
def test_the_number_of_switches_and_what_none_means(pools: int, activations: int, blind: bool) -> None:
    """Without any the deconvnet's projections of two pictures are one, up to a factor; with any they are not."""
    model = chain_of(pools, activations)
    last = str(len(model) - 1)  # type: ignore[arg-type]
    pictures = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 3
    found = []
    for x in pictures:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found.append(project(model, x, last, units=[0], place=(1, 1)))
        assert [w.category for w in caught] == [deconvviz.DeconvvizWarning] * blind
        assert all(f"no max pool lies between '{last}'" in str(w.message) for w in caught)
    assert [p.switches for p in found] == [pools, pools]
    one, two = (p.pixels.flatten() for p in found)
    same = abs(float(torch.nn.functional.cosine_similarity(one, two, dim=0)))
    assert same > 1 - 1e-6 if pools == 0 else same < 0.999
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # these follow the photograph, or nothing does
        project(model, pictures[0], last, units=[0], method="guided")
        project(model, pictures[0], "0", units=[0])


def test_units_of_a_class_in_a_dense_output() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1)).double().eval()
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    maps = model[:2](x).detach().requires_grad_(True)
    scores = model[2](maps)
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[1, 2:4] = True
    for where, score in ((None, scores[0, 3].mean()), ((2, 5), scores[0, 3, 2, 5]), (mask, scores[0, 3][mask].mean())):
        (gradient,) = torch.autograd.grad(score, maps, retain_graph=True)
        share = (gradient * maps).sum((0, 2, 3))
        found = project(model, x, "1", units="class", target=3 if where is None else (3, where), top=6)
        assert found.units.tolist() == share.argsort(descending=True, stable=True).tolist()


def test_distinct_units_are_half_a_receptive_field_apart() -> None:
    model = settle(nn.Sequential(*conv_relu(3, 4), nn.MaxPool2d(2), *conv_relu(4, 40)))
    x = picture(h=24, w=30)
    plain = project(model, x, "4", top=100)
    some = project(model, x, "4", top=100, distinct=True)
    height, width = (plain.boxes[:, 2:] - plain.boxes[:, :2]).amax(0).tolist()
    stride = 2  # one pool below
    assert (height, width) == (8, 8)
    order = plain.units.tolist()
    taken: list[int] = []
    for k in range(len(order)):  # the plain loop, in pixels
        (row, column), fires = plain.places[k].tolist(), float(plain.activations[k]) > 0
        places = [plain.places[j].tolist() for j in taken]
        apart = all(abs(row - r) * stride >= height / 2 or abs(column - c) * stride >= width / 2 for r, c in places)
        if not taken or (fires and apart):
            taken.append(k)
    assert some.units.tolist() == [order[k] for k in taken] and 1 < len(taken) < len(order)
    assert some.policy["distinct"] is True and some.policy["passed_over"] > 0
    assert "distinct" not in plain.policy
    first = project(model, x, "4", top=2, distinct=True)
    assert first.units.tolist() == some.units.tolist()[:2]
    # Units that are named, and those without a place, are what they are.
    assert project(model, x, "4", units=[0, 0], distinct=True).units.tolist() == [0, 0]


def test_distinct_says_nothing_of_logits() -> None:
    model, x = settle(classifier()), picture()
    plain, some = (project(model, x, "10", top=4, distinct=distinct) for distinct in (False, True))
    assert torch.equal(plain.units, some.units)


def test_several_pictures_give_a_list(tmp_path: Path) -> None:
    """A list, a tensor (N, C, H, W), a data set, a folder with a folder in it: each picture as if it were alone."""
    net = Network(settle(conv_relu(3, 4), dtype=torch.float32), 24, mean=(0.5,) * 3, std=(0.25,) * 3)
    x = torch.randn(3, 3, 24, 24)
    alone = [project(net, one, "0", top=2) for one in x]
    for given in (list(x), x, torch.utils.data.TensorDataset(x, torch.arange(3)), tuple(x)):
        assert project(net, given, "0", top=2) == alone
    assert isinstance(project(net, x[:1], "0", top=2), deconvviz.Projection)
    (tmp_path / "within").mkdir()
    files = [tmp_path / "a.png", tmp_path / "within" / "b.png"]
    for n, file in enumerate(files):
        Image.new("RGB", (30, 26), (90 * n, 80, 200)).save(file)
    assert project(net, tmp_path, "0", top=2) == [project(net, file, "0", top=2) for file in files]
    calls: list[tuple[int, int]] = []
    project(net, list(x), "0", top=2, batch=1, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)] * 3
