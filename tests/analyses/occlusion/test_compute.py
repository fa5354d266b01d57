"""`occlude` against oracles that share none of its code: the plain loop over covered pictures, captum."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from captum.attr import Occlusion as Captum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

import deconvviz
from deconvviz import DeconvvizError, Network, UnknownNameError
from deconvviz.analyses.occlusion.compute import occlude
from deconvviz.analyses.occlusion.result import Occlusion
from deconvviz.engine.recorder import record
from deconvviz.engine.replay.steps import plan
from deconvviz.engine.replay.winograd import Winograd, suits
from deconvviz.models import registry

TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5}


pytestmark = pytest.mark.usefixtures("one_thread")


# The oracle ----------------------------------------------------------------------------------------------------------


def starts(length: int, window: int, stride: int) -> list[int]:
    """Every place that fits, and the last one that touches the border."""
    found = list(range(0, length - window + 1, stride))
    return found if found[-1] == length - window else [*found, length - window]


def places(x: Tensor, window: tuple[int, int], stride: tuple[int, int]) -> list[tuple[int, int]]:
    rows, cols = (starts(n, w, s) for n, w, s in zip(x.shape[-2:], window, stride, strict=True))
    return [(r, c) for r in rows for c in cols]


def covered(x: Tensor, origin: tuple[int, int], window: tuple[int, int], fill: Any, mask: Tensor | None) -> Tensor:
    """The picture (1, C, H, W) with the pixels of a window replaced by a colour (C,), a number or a picture."""
    out, values = x.clone(), torch.as_tensor(fill, dtype=x.dtype)
    values = (values if values.dim() == 3 else values.view(-1, 1, 1)).expand(x.shape[1:])
    piece = (slice(origin[0], origin[0] + window[0]), slice(origin[1], origin[1] + window[1]))
    old, new = out[0][(slice(None), *piece)].clone(), values[(slice(None), *piece)]
    hidden = torch.ones(window, dtype=torch.bool) if mask is None else mask
    out[0][(slice(None), *piece)] = torch.where(hidden[: old.shape[1], : old.shape[2]], new, old)
    return out


@torch.no_grad()
def plain(model: nn.Module, x: Tensor, o: Occlusion, fill: Any, mask: Tensor | None = None) -> Tensor:
    """The plain loop: the network on every covered picture."""
    pictures = [covered(x, (int(r), int(c)), o.window, fill, mask) for r, c in o.origins]
    return torch.cat([model(torch.cat(pictures[k : k + 32])) for k in range(0, len(pictures), 32)])


def difference(o: Occlusion, want: Tensor) -> float:
    assert not o.logits.requires_grad and o.logits.shape == want.shape
    scale = max(float(want.abs().max()), float(o.baseline.abs().max()), 1e-300)
    return float((o.logits - want).abs().max()) / scale


def one(*arguments: Any, **options: Any) -> Occlusion:
    result = occlude(*arguments, **options)
    assert isinstance(result, Occlusion)
    return result


def settle(model: nn.Module, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Random weights, biases and statistics that let a change of the input through to the logits; eval mode."""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            p.data.normal_(0, 0.1, generator=g)
        elif p.dim() > 1:
            p.data.normal_(0, (2 / p[0].numel()) ** 0.5, generator=g)
        else:
            p.data.uniform_(0.5, 1, generator=g)
    for name, b in model.named_buffers():
        if name.endswith("running_mean"):
            b.normal_(0, 0.2, generator=g)
        elif name.endswith("running_var"):
            b.uniform_(0.8, 1.2, generator=g)
        elif name.endswith("num_batches_tracked"):
            b.zero_()
    return model.to(dtype).eval()


def picture(channels: int = 3, h: int = 21, w: int = 26, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(1, channels, h, w, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# Random networks -----------------------------------------------------------------------------------------------------

WIDTH = 4  # maps between blocks


class Do(nn.Module):
    """A function as a module, with the modules that it uses."""

    def __init__(self, function: Callable[..., Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.parts)


RELUS: list[Callable[[], nn.Module]] = [
    nn.ReLU,
    lambda: nn.ReLU(inplace=True),
    lambda: Do(F.relu),
    lambda: Do(lambda x: (x + 0).relu_()),
    lambda: Do(lambda x: x.clamp(min=0)),
    lambda: Do(lambda x: F.relu(x, inplace=True)),
]
POINTWISE: list[Callable[[], nn.Module]] = [
    nn.SiLU, nn.GELU, nn.ReLU6, nn.Hardswish, nn.Tanh, lambda: nn.LeakyReLU(0.1), lambda: nn.ELU(inplace=True),
    lambda: Do(lambda x: x * torch.sigmoid(x)), lambda: Do(lambda x: x / 2 + 0.5), nn.Dropout,
]  # fmt: skip


def relu(g: random.Random) -> nn.Module:
    return g.choice(RELUS)()


def conv(g: random.Random) -> nn.Module:
    kernel = g.choice([1, 2, 3, 5, (1, 3), (3, 1), (2, 5)])
    pad, bias = g.choice([0, 1, (2, 0), (0, 1)]), g.random() < 0.5
    options = {"stride": g.choice([1, 1, 2, 3, (2, 1)]), "dilation": g.choice([1, 1, 2, (1, 2)])}
    return nn.Sequential(
        nn.Conv2d(WIDTH, WIDTH, kernel, padding=pad, groups=g.choice([1, 1, 2, WIDTH]), bias=bias, **options), relu(g)
    )  # type: ignore[arg-type]


def same(g: random.Random, kernel: int | None = None) -> nn.Conv2d:
    k = kernel or g.choice([1, 3, 5])
    return nn.Conv2d(WIDTH, WIDTH, k, padding=k // 2, bias=g.random() < 0.5)


def residual(g: random.Random) -> nn.Module:
    body = nn.Sequential(same(g), nn.BatchNorm2d(WIDTH), relu(g), same(g), nn.BatchNorm2d(WIDTH))
    last = relu(g)
    return Do(lambda x, body, last: last(x + body(x)), body, last)


def shortcut(g: random.Random) -> nn.Module:
    """A stride in both branches, as at a ResNet's stages."""
    body = nn.Conv2d(WIDTH, WIDTH, 3, 2, 1)
    return Do(lambda x, body, side: F.relu(body(x).add_(side(x))), body, nn.Conv2d(WIDTH, WIDTH, 1, 2))


def concat(g: random.Random) -> nn.Module:
    pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), same(g, 1))
    return Do(
        lambda x, *parts: parts[-1](torch.cat([p(x) for p in parts[:-1]], 1)),
        nn.Sequential(same(g, 1), relu(g)), nn.Sequential(same(g, 3), relu(g), same(g, 3)), pool,
        nn.Conv2d(3 * WIDTH, WIDTH, 1),
    )  # fmt: skip


def dense(g: random.Random) -> nn.Module:
    mix = nn.Sequential(nn.BatchNorm2d(2 * WIDTH), relu(g), nn.Conv2d(2 * WIDTH, WIDTH, 1))
    return Do(lambda x, more, mix: mix(torch.cat([x, more(x)], 1)), same(g, 3), mix)


def max_pool(g: random.Random) -> nn.Module:
    k = g.choice([2, 3])
    return nn.MaxPool2d(k, g.choice([1, 2, k]), g.choice([0, 1]), g.choice([1, 1, 2]), ceil_mode=g.random() < 0.5)


def avg_pool(g: random.Random) -> nn.Module:
    k, counted = g.choice([2, 3]), g.random() < 0.5
    return nn.AvgPool2d(k, g.choice([1, 2]), g.choice([0, 1]), ceil_mode=g.random() < 0.5, count_include_pad=counted)


def gate(g: random.Random) -> nn.Module:
    """Squeeze and excitation: a global gate."""
    parts = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(WIDTH, 2, 1), nn.ReLU(), nn.Conv2d(2, WIDTH, 1))
    return Do(lambda x, parts: x * parts(x).sigmoid(), parts)


def norm(g: random.Random) -> nn.Module:
    made: list[nn.Module] = [
        nn.BatchNorm2d(WIDTH), nn.LocalResponseNorm(3, alpha=0.5), nn.GroupNorm(2, WIDTH), nn.InstanceNorm2d(WIDTH),
        Do(lambda x: F.layer_norm(x, x.shape[1:])), Do(lambda x: F.local_response_norm(x, 5, k=2)),
        Do(lambda x: x / (x.pow(2).mean((2, 3), keepdim=True) + 1).sqrt()),
    ]  # fmt: skip
    return g.choice(made)


def reshaped(g: random.Random) -> nn.Module:
    made: list[nn.Module] = [
        nn.ChannelShuffle(2),
        nn.ZeroPad2d((1, 0, 2, 1)), nn.ReflectionPad2d((0, 1, 1, 0)), nn.ReplicationPad2d(1),
        nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.AdaptiveAvgPool2d((5, 4)), nn.AdaptiveMaxPool2d((3, 4)),
        Do(lambda x: x[:, :, 1:, :-1]), Do(lambda x: x[:, :, ::2]), Do(lambda x: x.flip(3)), Do(lambda x: x.mT),
        Do(lambda x: torch.cat([F.relu(part) for part in x.chunk(2, 1)][::-1], 1)),
        Do(lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)),
        Do(lambda x: F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2)), Do(lambda x: torch.maximum(x, -x)),
        Do(lambda x: x.flatten(2).reshape(x.shape)), Do(lambda x: torch.stack([x, x * 2], 2).sum(2)),
    ]  # fmt: skip
    return g.choice(made)


def pointwise(g: random.Random) -> nn.Module:
    return g.choice(POINTWISE)()


BLOCKS: dict[str, Callable[[random.Random], nn.Module]] = {
    f.__name__: f
    for f in (conv, residual, shortcut, concat, dense, max_pool, avg_pool, gate, norm, reshaped, pointwise)
}


def heads(width: int, flat: int, classes: int) -> dict[str, nn.Module]:
    read, relu = nn.Linear(width, classes), nn.ReLU(inplace=True)
    return {
        "average": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), read),
        "mean": Do(lambda x, read: read(x.mean((2, 3))), read),
        "maximum": Do(lambda x, read: read(x.amax((2, 3))), read),
        "connected": nn.Sequential(nn.Flatten(), nn.Linear(flat, 7), relu, nn.Dropout(), nn.Linear(7, classes)),
        "adaptive": nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(4 * width, classes)),
        "convolution": Do(lambda x, last: last(x).mean([2, 3]), nn.Conv2d(width, classes, 1)),
        "view": Do(lambda x, read: read(x.contiguous().view(x.size(0), -1)).log_softmax(1), nn.Linear(flat, classes)),
    }


def build(channels: int, size: tuple[int, int], blocks: list[tuple[str, int]], head: str, seed: int) -> nn.Module:
    """The stem, those of the blocks that the map is large enough for, and the head."""
    x = torch.zeros(1, channels, *size)
    stem = nn.Conv2d(channels, WIDTH, 3, 1 + seed % 2, 1)
    parts: list[nn.Module] = [nn.Sequential(stem, nn.ReLU())]
    x = parts[0](x)
    for name, block_seed in blocks:
        block = BLOCKS[name](random.Random(block_seed)).eval()
        try:
            with torch.no_grad():
                y = block(x.clone())
        except (RuntimeError, ValueError):
            continue
        if y.shape[1] == WIDTH and 0 < y[0].numel() < 6000 and bool(y.isfinite().all()):
            parts.append(block)
            x = y
    return settle(nn.Sequential(*parts, heads(x.shape[1], x[0].numel(), 3 + seed % 4)[head]), seed)


HEADS = list(heads(1, 1, 1))
SIDES = st.integers(5, 24)
SEEDS = st.integers(0, 10_000)


@st.composite
def cases(draw: st.DrawFn) -> tuple[nn.Module, Tensor, dict[str, Any]]:
    channels, size = draw(st.sampled_from([1, 3])), (draw(SIDES), draw(SIDES))
    blocks = draw(st.lists(st.tuples(st.sampled_from(list(BLOCKS)), SEEDS), max_size=7))
    model = build(channels, size, blocks, draw(st.sampled_from(HEADS)), draw(SEEDS))
    window = tuple(draw(st.one_of(st.integers(1, n), st.sampled_from([1, n]))) for n in size)
    # At most 7 by 7 positions.
    stride = tuple(draw(st.integers(max(1, (n - w) // 6), n + 3)) for n, w in zip(size, window, strict=True))
    mask = None
    if draw(st.booleans()):
        mask = torch.rand(window, generator=torch.Generator().manual_seed(draw(SEEDS))) < 0.6
    fill = draw(st.sampled_from(["grey", 0.7, [0.3, -1.2, 2.0][:channels]]))
    x = picture(channels, *size, seed=draw(SEEDS))
    return model, x, {"window": window, "stride": stride, "mask": mask, "fill": fill, "batch": draw(st.integers(1, 20))}


EXAMPLES = settings(
    max_examples=80, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)  # fmt: skip


@EXAMPLES
@given(cases())
def test_the_answer_is_that_of_the_plain_loop(case: tuple[nn.Module, Tensor, dict[str, Any]]) -> None:
    model, x, options = case
    o = one(model, x, **options)
    assert o.origins.tolist() == [list(p) for p in places(x, options["window"], options["stride"])]
    assert o.shape[0] * o.shape[1] == len(o) and o.window == options["window"] and o.stride == options["stride"]
    fill = 0.0 if options["fill"] == "grey" else options["fill"]
    assert difference(o, plain(model, x, o, fill, options["mask"])) <= 1e-11
    with torch.no_grad():
        torch.testing.assert_close(o.baseline, model(x)[0], rtol=0, atol=1e-11 * float(o.baseline.abs().max()))


# Which way a step goes is a matter of sizes; so small pictures take every way: share of a whole map that is taken as
# all of it, price of differences, size from which sums are taken in place, most blocks of windows copied one by one.
WAYS = {
    "differences": (0.95, 1e-9, 0, 64), "differences by index": (0.95, 1e-9, 0, 0),
    "windows": (10.0, 1e9, 10**9, 64), "whole maps": (0.3, 1e9, 10**9, 0),
    "tiles": (0.95, 1e9, 10**9, 64), "tiles on whole maps": (0.0, 1e9, 10**9, 64),
}  # fmt: skip


@contextmanager
def going(way: str) -> Iterator[None]:
    nearly, ragged, large, runs = WAYS[way]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deconvviz.engine.costs.NEARLY_WHOLE", nearly)
        patch.setattr("deconvviz.engine.costs.DIFFERENCE", ragged)
        patch.setattr("deconvviz.engine.costs.LARGE_SUM", large)
        patch.setattr("deconvviz.engine.costs.COPIED_BLOCKS", runs)
        if way.startswith("tiles"):
            # Not in float32 only, and however few the maps are.
            patch.setattr(
                "deconvviz.engine.replay.steps.suits", lambda weight, *options: suits(weight.float(), *options)
            )
            patch.setattr(Winograd, "price", lambda self, count, height, width, padding=(0, 0): 1e-3 * height * width)
        yield


@pytest.mark.parametrize("way", WAYS)
@settings(EXAMPLES, max_examples=40)
@given(case=cases())
def test_every_way_gives_the_same(way: str, case: tuple[nn.Module, Tensor, dict[str, Any]]) -> None:
    model, x, options = case
    with going(way):
        o = one(model, x, **options)
    fill = 0.0 if options["fill"] == "grey" else options["fill"]
    assert difference(o, plain(model, x, o, fill, options["mask"])) <= 1e-11


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "googlenet", "densenet121"])
def test_every_way_through_real_networks(way: str, name: str) -> None:
    options = {"init_weights": False} if name == "googlenet" else {}
    model = settle(empty(getattr(torchvision.models, name), num_classes=10, **options))
    with going(way):
        assert_exact(model, picture(3, 64, 73), 1e-11, window=(16, 9), stride=16)


@settings(EXAMPLES, max_examples=20)
@given(cases())
def test_in_float32_to_its_rounding(case: tuple[nn.Module, Tensor, dict[str, Any]]) -> None:
    model, x, options = case
    fill = 0.0 if options["fill"] == "grey" else options["fill"]
    exact = plain(model, x, one(model, x, **options), fill, options["mask"])
    model, x = model.float(), x.float()
    o = one(model, x, **options)
    assert o.logits.dtype == torch.float32
    want = plain(model, x, o, fill, options["mask"])
    # A norm over a map that is nearly constant makes rounding large, in the plain loop as well.
    rounding = float((want - exact).abs().max() / exact.abs().max())
    assert difference(o, want) <= max(1e-5, 10 * rounding)


@pytest.mark.parametrize("wide", [1, 256])
def test_what_is_infinite_on_the_picture_itself(wide: int) -> None:
    """Covering what makes a map overflow must give the finite answer, not infinity less infinity."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(1, wide, 1, bias=False), nn.Conv2d(wide, wide, 3, padding=1)
    model = nn.Sequential(first, second, nn.Sigmoid(), nn.Flatten(), nn.Linear(wide * 144, 3)).eval()
    with torch.no_grad():
        first.weight.fill_(1e38)
        second.weight.abs_()
    x = torch.zeros(1, 1, 12, 12)
    x[0, 0, 3, 4] = 1e3
    o = one(model, x, window=4, stride=2)
    want = plain(model, x, o, 0.0, None)
    assert want.isfinite().all() and len(want.unique(dim=0)) > 1
    torch.testing.assert_close(o.logits, want)


def test_large_sums_of_half_precision_are_not_taken_for_infinite() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)).half().eval()
    with torch.no_grad():
        rec = record(model, torch.full((1, 1, 40, 40), 1e3, dtype=torch.float16))
        assert rec.output is not None and rec.values[0].sum().isinf()
        assert [step.reach for step in plan(rec, (rec.output,))] == [(2, 2), (2, 2)]


def linear_around(block: nn.Module, size: tuple[int, int] = (14, 17)) -> nn.Module:
    """The block after a convolution alone, so that it meets negative numbers, and every pixel of it counts."""
    stem = nn.Conv2d(3, WIDTH, 3, padding=1)
    with torch.no_grad():
        flat = int(block.eval()(stem(torch.randn(1, 3, *size))).numel())
    return settle(nn.Sequential(stem, block, nn.Flatten(), nn.Linear(flat, 5)))


@torch.no_grad()
def alone(model: nn.Module, o: Occlusion) -> Tensor:
    """The network on one covered picture at a time."""
    return torch.cat([model(o.covered(k)[None]) for k in range(len(o))])


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_alone(name: str) -> None:
    for seed in range(8):
        model = linear_around(BLOCKS[name](random.Random(seed)))
        o = one(model, picture(3, 14, 17), window=(3, 4), stride=(4, 5), fill=(2, 0, -2))
        assert difference(o, alone(model, o)) <= 1e-11, seed


@pytest.mark.parametrize(
    "block",
    [
        nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 1, 1), nn.MaxPool2d(2, 2, 1, ceil_mode=True), nn.MaxPool2d(3, 3, 1, 2),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True), nn.AvgPool2d(3, 2, 1, True, False), nn.AvgPool2d(2, divisor_override=3),
        nn.BatchNorm2d(WIDTH, track_running_stats=False), nn.InstanceNorm2d(WIDTH, affine=True), nn.GroupNorm(1, WIDTH),
        nn.Conv2d(WIDTH, 2, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(WIDTH, 4, 3, padding="same", dilation=3),
        nn.Conv2d(WIDTH, 4, (1, 7), (1, 3), (0, 5)), nn.Conv2d(WIDTH, 4, 5, 4), nn.Conv2d(WIDTH, 4, 1, 3),
        nn.Softmax(1), nn.Softmax2d(), nn.LocalResponseNorm(2), nn.PReLU(WIDTH), nn.AdaptiveAvgPool2d((14, 17)),
        nn.AdaptiveMaxPool2d(4), nn.UpsamplingNearest2d(scale_factor=2), nn.PixelShuffle(2), nn.Unflatten(1, (2, 2)),
        Do(lambda x: x - x.mean((1, 2, 3), keepdim=True)), Do(lambda x: x.roll(3, 2)),
        Do(lambda x: torch.cat([x, x.flip(2)], 2)), Do(lambda x: x[:, :, 5:9]), Do(lambda x: x[:, :, 7]),
        Do(lambda x: x.amax(2)), Do(lambda x: x * x.flip(1)), Do(lambda x: x + x[:, :1]),
        Do(lambda x: F.pad(x, (-1, 2, 3, -2), value=0.5)), Do(lambda x: x / (1 + x.abs())), Do(lambda x: 2 - x),
        Do(lambda x: x * torch.linspace(0, 1, 17, dtype=x.dtype)),
        Do(lambda x: x * torch.linspace(0, 1, 14, dtype=x.dtype).view(14, 1)),
        Do(lambda x: x + torch.linspace(0, 1, 14 * 17, dtype=x.dtype).view(14, 17)),
        Do(lambda x: F.conv2d(x, torch.ones(17, 4, 1, 1, dtype=x.dtype)) * torch.linspace(0, 1, 17, dtype=x.dtype)),
        nn.Sequential(nn.Conv2d(WIDTH, 17, 1), nn.BatchNorm2d(17)), Do(lambda x: x.sum(1, keepdim=True).expand_as(x)),
    ],
    ids=lambda block: block._get_name(),
)  # fmt: skip
def test_operators_alone(block: nn.Module) -> None:
    model = linear_around(block)
    x = picture(3, 14, 17)
    for window, stride in (((3, 4), (4, 5)), ((1, 1), (6, 7)), ((14, 2), (1, 6)), ((14, 17), (1, 1))):
        o = one(model, x, window=window, stride=stride, fill=(2, 0, -2))
        want = alone(model, o)
        assert difference(o, want) <= 1e-11
        assert float((want - o.baseline).abs().max()) > 1e-3 * float(o.baseline.abs().max())


# The zoo, torchvision's families -------------------------------------------------------------------------------------

SMALL = [n for n in registry.names() if n == "lenet" or n.endswith(("_28", "_32"))]


@contextmanager
def patched_initialisation() -> Iterator[None]:
    """Within it, `torch.nn.init` does nothing."""
    names = [n for n in dir(nn.init) if n.endswith("_") and not n.startswith("_")]
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)
        yield


def empty(build: Callable[..., nn.Module], *arguments: Any, **options: Any) -> nn.Module:
    """The network without the time that its own initialisation takes."""
    with patched_initialisation():
        return build(*arguments, **options)


def assert_exact(model: nn.Module, x: Tensor, tolerance: float, **options: Any) -> None:
    o = one(model, x, fill=0.5, **options)
    want = plain(model, x, o, 0.5)
    assert difference(o, want) <= tolerance
    change = float((want - o.baseline).abs().max() / o.baseline.abs().max())
    assert change > 100 * tolerance, "the network sees the occluder"


@pytest.mark.parametrize("name", SMALL)
def test_every_small_network_of_the_zoo(name: str) -> None:
    card, model = registry.card(name), settle(empty(registry.build, name), dtype=torch.float32)
    x = picture(card.channels, *card.input_size, dtype=torch.float32)
    assert_exact(model, x, 1e-5, window=(8, 9), stride=card.input_size[0])


# VGG's fully connected layers fill a gigabyte; the zoo has its small form.
FAMILIES = [
    "alexnet", "squeezenet1_1", "googlenet", "inception_v3", "resnet18", "densenet121",
    "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x0_5", "mnasnet0_5", "regnet_y_400mf",
    "convnext_tiny",
]  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_torchvision(name: str) -> None:
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = settle(empty(getattr(torchvision.models, name), num_classes=10, **options))
    side = 75 if name == "inception_v3" else 64
    assert_exact(model, picture(3, side, side + 9), 1e-11, window=(16, 9), stride=side - 16)


# Fills, masks, batches -----------------------------------------------------------------------------------------------


def small(dtype: torch.dtype = torch.float64) -> nn.Module:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5),
    )  # fmt: skip
    return settle(model, dtype=dtype)


def net() -> Network:
    return Network(small(torch.float32), 24, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), list("abcde"), {"5": "4"})


def test_blur_shows_the_blurred_picture() -> None:
    model, x = small(), picture()
    o = one(model, x, window=(8, 12), stride=5, fill="blur")
    blurred = x[0]
    for dim, side in ((1, 8), (2, 12)):
        reach, sigma = math.ceil(3 * side / 4), side / 4
        offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
        weights = torch.exp(-(offsets**2) / (2 * sigma**2))
        # Mirrored at the border, without the border pixel itself.
        n = x.shape[1 + dim]
        index = (torch.arange(n)[:, None] + offsets.long()).abs()
        index = torch.where(index >= n, 2 * (n - 1) - index, index)
        kernel = torch.zeros(n, n, dtype=torch.float64)
        kernel.scatter_add_(1, index, weights.expand(n, -1) / weights.sum())
        blurred = torch.tensordot(kernel, blurred, ([1], [dim])).movedim(0, dim)
    torch.testing.assert_close(o.fill_values, blurred, rtol=1e-6, atol=1e-7)
    assert difference(o, plain(model, x, o, o.fill_values)) <= 1e-11


def test_noise_has_the_pictures_own_mean_and_deviation_and_a_seed() -> None:
    model, x = small(), picture(3, 60, 70) * torch.tensor([1.0, 2.0, 5.0]).view(3, 1, 1) + 3
    first, again, other = (one(model, x, window=20, stride=20, fill="noise", seed=seed) for seed in (4, 4, 5))
    assert first == again and not torch.equal(first.fill_values, other.fill_values)
    spread = x[0].std((1, 2))
    assert bool(((first.fill_values.mean((1, 2)) - x[0].mean((1, 2))).abs() < 0.1 * spread).all())
    assert bool(((first.fill_values.std((1, 2)) / spread - 1).abs() < 0.1).all())
    assert difference(first, plain(model, x, first, first.fill_values)) <= 1e-11


@pytest.mark.parametrize("fill", [0, -1.5, (0.1, 0.2, 0.3), torch.tensor([3.0, 0.0, -3.0])])
@pytest.mark.parametrize("positions", ["all", "captum"])
def test_numbers_and_colours_in_input_scale(fill: Any, positions: str) -> None:
    model, x = small(), picture()
    mask = torch.eye(7, 9, dtype=torch.bool)
    o = one(model, x, window=(7, 9), stride=4, fill=fill, mask=mask, positions=positions)
    assert difference(o, plain(model, x, o, fill, mask)) <= 1e-11
    k = len(o) - 1
    where = (int(o.origins[k, 0]), int(o.origins[k, 1]))
    assert torch.equal(o.covered(k), covered(x, where, (7, 9), fill, mask)[0])
    assert one(model, x, window=(7, 9), stride=4, fill=fill, mask=mask.numpy(), positions=positions) == o


@pytest.mark.parametrize("fill", ["grey", "mean"])
def test_grey_is_the_mean_colour(fill: str) -> None:
    grey = net().preprocess(Image.new("RGB", (24, 24), (128, 102, 77)))
    assert float(grey.abs().max()) < 0.02
    o = one(net(), picture(dtype=torch.float32), window=8, fill=fill)
    assert o.fill == fill and not o.fill_values.any() and o.fill_values.shape == (3, 1, 1)


def test_a_batch_of_pictures_is_a_list_and_each_may_have_its_target() -> None:
    model, x = small(), torch.cat([picture(seed=n) for n in range(3)])
    found = occlude(model, x, target=[0, 3, 2], window=6, stride=7)
    assert isinstance(found, list) and [o.target for o in found] == [0, 3, 2]
    for n, o in enumerate(found):
        assert o == one(model, x[n], target=o.target, window=6, stride=7) and torch.equal(o.image, x[n])
    assert found == occlude(model, list(x), target=[0, 3, 2], window=6, stride=7)
    assert [o.target for o in occlude(model, x, window=6)] == model(x).argmax(1).tolist()  # type: ignore[union-attr]
    assert isinstance(occlude(model, x[:1], window=6), Occlusion)


def test_pictures_and_labels_go_through_the_network() -> None:
    noise = torch.randint(0, 256, (30, 40, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    o = one(net(), Image.fromarray(noise.numpy()), target="d", window=8, layer="5")
    assert (
        o.target == 3 and o.labels == tuple("abcde") and o.mean == (0.5, 0.4, 0.3) and o.model["name"] == "Sequential"
    )
    x = net().preprocess(Image.fromarray(noise.numpy()))
    same = one(net(), x, target=3, window=8, layer="5")
    # Of a picture it is known besides what the network does not see of it, and what it makes of it.
    assert o.whole is not None and same.whole is None and torch.equal(o.image, x[0])
    assert dataclasses.replace(o, whole=None, region=None, answer=None) == dataclasses.replace(same, answer=None)


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
def test_batches_change_nothing(batch: int) -> None:
    model, x = small(), picture()
    o = one(model, x, window=(5, 8), stride=3, batch=batch)
    assert difference(o, plain(model, x, o, 0)) <= 1e-11


def test_progress_counts_every_position() -> None:
    seen: list[tuple[int, int]] = []
    o = one(small(), picture(), window=5, stride=3, batch=8, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen}) and seen[-1] == (len(o), len(o))
    assert len(seen) >= len(o) / 8 and {total for _, total in seen} == {len(o)}


# The layer -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["1", "3", "5", "6", "8"])
def test_activity_is_the_sum_of_the_strongest_map(layer: str) -> None:
    model, x = small(), picture()
    o = one(model, x, window=(6, 9), stride=4, layer=layer, mask=torch.eye(6, 9, dtype=torch.bool), fill=1.5)
    maps: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _m, _i, out: maps.append(out.clone()))
    with torch.no_grad():
        model(x)
        unit = int(maps[0].reshape(maps[0].shape[1], -1).amax(1).argmax())
        maps.clear()
        want = plain(model, x, o, 1.5, o.mask)
    handle.remove()
    assert o.unit == unit and o.layer == layer and difference(o, want) <= 1e-11
    sums = torch.cat(maps)[:, unit].reshape(len(o), -1).sum(1)
    assert o.activity is not None and o.activity.shape == o.shape and float(sums.std()) > 0
    torch.testing.assert_close(o.activity.flatten(), sums, rtol=0, atol=1e-11 * float(sums.abs().max()))
    assert o.projection == deconvviz.project(model, x, layer, units=[unit])


def test_without_a_layer_there_is_no_activity() -> None:
    o = one(small(), picture(), window=6)
    assert o.layer is o.alias is o.unit is o.activity is o.projection is None


def test_an_alias_is_kept() -> None:
    o = one(net(), picture(dtype=torch.float32), window=6, layer="5")
    assert o.alias == "5" and o.name == "5" and o.projection is not None and o.projection.layer == o.layer


# captum --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "stride", "positions"),
    [((6, 7), (5, 4), "captum"), ((5, 6), (4, 5), "all"), ((1, 1), (1, 1), "captum"), ((21, 26), (3, 3), "captum"),
     ((8, 8), (8, 8), "captum"), ((21, 5), (1, 2), "captum")],
)  # fmt: skip
@pytest.mark.parametrize("fill", [0.0, (0.5, -1.0, 2.0)])
def test_attribution_is_captums(
    window: tuple[int, int], stride: tuple[int, int], positions: str, fill: float | tuple[float, ...]
) -> None:
    model, x = small(), picture()
    o = one(model, x, target=3, window=window, stride=stride, fill=fill, positions=positions)
    baseline = fill if isinstance(fill, float) else torch.tensor(fill, dtype=x.dtype).view(1, 3, 1, 1).expand_as(x)
    want = Captum(model).attribute(
        x, (3, *window), (3, *stride), baselines=baseline, target=3, perturbations_per_eval=16
    )
    scale = float(want.abs().max())
    assert scale > 0.01
    # captum answers in float32.
    for found, wanted in ((o.attribution(), want[0]), (o.heatmap(), want[0, 1])):
        torch.testing.assert_close(found.float(), wanted.detach(), rtol=0, atol=1e-6 * scale)


def test_captums_last_window_is_cut_where_ours_is_shifted_back() -> None:
    cut, shifted = (one(small(), picture(3, 20, 20), window=6, stride=4, positions=p) for p in ("captum", "all"))
    assert cut.origins[-1].tolist() == [16, 16] and shifted.origins[-1].tolist() == [14, 14]
    assert not bool(cut.heatmap().isnan().any() or shifted.heatmap().isnan().any())
    gaps = one(small(), picture(3, 20, 20), window=2, stride=6)
    assert gaps.origins[:4, 1].tolist() == [0, 6, 12, 18] and bool(gaps.heatmap()[:, 2:6].isnan().all())
    assert not bool(gaps.heatmap()[18:, 18:].isnan().any())


# What is refused, and what stays as it was ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 22}, "window is 22×22; allowed: no larger than the picture, 21×26"),
        ({"window": (5, 27)}, "no larger than the picture"),
        ({"window": 0}, "window is 0"),
        ({"window": True}, "window is True"),
        ({"window": (1, 2, 3)}, "pair"),
        ({"window": 2.5}, "window is 2.5"),
        ({"stride": 0}, "stride is 0"),
        ({"stride": "8"}, "stride is '8'"),
        ({"fill": "gray"}, "did you mean 'grey'"),
        ({"fill": (1, 2)}, "fill has 2 values"),
        ({"fill": float("nan")}, "fill"),
        ({"fill": [None]}, "fill"),
        ({"mask": torch.ones(3, 3, dtype=torch.bool)}, "mask"),
        ({"mask": torch.ones(6, 6)}, "mask"),
        ({"positions": "al"}, "did you mean 'all'"),
        ({"target": 5}, "allowed: 0 to 4"),
        ({"target": "cat"}, "target"),
        ({"batch": 0}, "batch is 0"),
        ({"layer": "99"}, "99"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DeconvvizError, match=re.escape(message)) as raised:
        occlude(small(), picture(), **{"window": 6, **options})
    assert "\n" not in str(raised.value)


def test_more_errors() -> None:
    with pytest.raises(DeconvvizError, match="wrap it in Network"):
        occlude(small(), "a.jpg", window=6)
    with pytest.raises(DeconvvizError, match="maps of them"):
        occlude(Do(lambda x, m: m(x).flatten(2), small()[:4]), picture(), window=6)  # type: ignore[index]
    with pytest.raises(DeconvvizError, match="2 classes for 3 pictures"):
        occlude(small(), picture().repeat(3, 1, 1, 1), [0, 1], window=6)
    with pytest.raises(UnknownNameError, match="did you mean"):
        occlude(net(), picture(dtype=torch.float32), window=6, layer="55")


def everything(model: nn.Module) -> list[Any]:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    state: list[Any] = [(n, t.data_ptr(), t._version, t.tolist(), t.requires_grad) for n, t in tensors]
    state += [(n, t.grad is None) for n, t in model.named_parameters()]
    state += [(m.training, sorted(vars(m)), len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    return [state, torch.is_grad_enabled(), torch.get_rng_state().tolist(), torch.get_default_dtype()]


@pytest.mark.parametrize("stop", [None, KeyboardInterrupt, RuntimeError])
def test_the_model_is_left_as_it_was(stop: type[BaseException] | None) -> None:
    model, x = small(), picture()
    model.train()
    model[1].eval()  # type: ignore[index]
    before, image = everything(model), x.clone()

    def progress(done: int, total: int) -> None:
        if stop is not None and done > 5:
            raise stop

    call = partial(occlude, model, x, window=6, stride=5, layer="4", batch=4, fill="noise", progress=progress)
    if stop is None:
        assert isinstance(call(), Occlusion)
    else:
        with pytest.raises(stop):
            call()
    assert everything(model) == before and torch.equal(x, image)


def test_a_model_in_train_mode_answers_as_in_eval() -> None:
    model, x = small(), picture()
    want = one(model, x, window=6)
    model.train()
    assert one(model, x, window=6) == want


class Apart(nn.Module):
    """Takes the picture apart by channels first, as GoogLeNet does: whole maps from the first operator on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.top = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([torch.unsqueeze(x[:, c], 1) * (c + 1) for c in range(3)], 1)
        return self.top(self.conv(x).relu().mean((2, 3)))  # type: ignore[no-any-return]


def test_a_picture_that_is_taken_apart_first() -> None:
    torch.manual_seed(0)
    model, x = Apart().eval(), torch.randn(1, 3, 12, 12)
    found = occlude(model, x, window=4, stride=4, fill=0.0)
    assert isinstance(found, Occlusion)
    with torch.no_grad():
        plain = torch.cat([model(covered(x, place, (4, 4), 0.0, None)) for place in places(x, (4, 4), (4, 4))])
    torch.testing.assert_close(found.logits, plain)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda y: {"out": y, "aux": y[:, :2]}, r"dict of 'out' \(1, 4\), 'aux' \(1, 2\); .* output='out' or 'aux'"),
        (lambda y: (y, [y + 1]), r"tuple of \[0\] \(1, 4\), \[1\] list of \[0\] \(1, 4\); .* output='0' or '1.0'"),
        (lambda y: y[0], r"this one returns \(4,\)"),
    ],
)
def test_parts_of_an_output_are_named(returned: Callable[[Tensor], Any], words: str) -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 21 * 26, 4))
    model = Do(lambda x, part: returned(part(x)), linear)
    with pytest.raises(deconvviz.DeconvvizValueError, match=words):
        occlude(model, picture(dtype=torch.float32), window=5)


class Output(dict[str, Any]):
    """As those of `transformers`: a dictionary with more than logits."""


@pytest.mark.parametrize(
    ("returned", "output"),
    [
        (lambda y: {"out": y, "aux": y[:, :2]}, "out"),
        (lambda y: (y * 2, {"scores": [y]}), "1.scores.0"),
        (lambda y: (y, None), None),  # the only one
        (lambda y: Output(logits=y, hidden=y.view(1, 4, 1, 1).expand(1, 4, 2, 2)), None),  # the only one that can be
        (lambda y: [y.view(1, 4, 1, 1)], None),
    ],
)
def test_an_output_is_named_or_the_only_one(returned: Callable[[Tensor], Any], output: str | None) -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 21 * 26, 4))
    x = picture(dtype=torch.float32)
    wanted = occlude(linear, x, window=5)
    found = occlude(Do(lambda x, part: returned(part(x)), linear), x, window=5, output=output)
    assert isinstance(wanted, Occlusion) and isinstance(found, Occlusion)
    torch.testing.assert_close(found.logits, wanted.logits)
    assert found.target == wanted.target and found.baseline.shape == (4,)
    net = deconvviz.Network(Do(lambda x, part: returned(part(x)), linear), output=output)
    kept = occlude(net, x, window=5)
    assert isinstance(kept, Occlusion) and torch.equal(kept.logits, found.logits)
    with pytest.raises(UnknownNameError, match="output is 'aus'; the model returns"):
        occlude(net, x, window=5, output="aus")


def dense() -> nn.Module:
    """A segmenting net: 3 classes at each of 11 by 13 places."""
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), nn.ReLU(), nn.Conv2d(5, 3, 3, padding=1)).double().eval()


def test_dense_outputs_by_mean_place_and_mask() -> None:
    model, x = dense(), picture()
    shape = model(x).shape[2:]
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[2:5, 3] = True
    for where in (None, (4, 7), mask):
        target: Any = 1 if where is None else (1, where)
        found = occlude(model, x, target, window=(6, 5), stride=4)
        assert isinstance(found, Occlusion) and found.target == 1
        with torch.no_grad():
            maps = torch.cat([model(covered(x, place, (6, 5), 0.0, None)) for place in places(x, (6, 5), (4, 4))])
            own = model(x)

        def read(y: Tensor, where: Any = where) -> Tensor:
            flat = y.flatten(2) if where is None else y[:, :, mask] if where is mask else y[:, :, 4:5, 7]
            return flat.mean(2)

        torch.testing.assert_close(found.logits, read(maps))
        torch.testing.assert_close(found.baseline, read(own)[0])
    several = occlude(model, x.repeat(2, 1, 1, 1), (1, (4, 7)), window=6)
    assert isinstance(several, list) and [o.target for o in several] == [1, 1]
    pair = occlude(model, x.repeat(2, 1, 1, 1), (1, 2), window=6)
    assert isinstance(pair, list) and [o.target for o in pair] == [1, 2]


def test_places_that_are_none() -> None:
    model, x = dense(), picture()
    for where, words in (((99, 0), "outside the 11×13"), (torch.zeros(2, 2, dtype=torch.bool), "mask"), ("x", "mask")):
        with pytest.raises(DeconvvizError, match=words):
            occlude(model, x, (1, where), window=6)  # type: ignore[arg-type]
    with pytest.raises(DeconvvizError, match="the output has none"):
        occlude(small(), x, (1, (0, 0)), window=6)


def test_panel_c_is_drawn_by_the_method_asked_for() -> None:
    x = picture()
    found = occlude(small(), x, window=9, layer="0", method="guided")
    assert isinstance(found, Occlusion) and found.projection is not None and found.unit is not None
    assert found.projection.policy["method"] == "guided"
    assert torch.equal(
        found.projection.pixels, deconvviz.project(small(), x, "0", [found.unit], method="guided").pixels
    )
    with pytest.raises(UnknownNameError, match="method"):
        occlude(small(), x, window=9, layer="0", method="guidet")
