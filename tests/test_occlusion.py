"""`occlude` against oracles that share none of its code: the plain loop over covered pictures, captum."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from captum.attr import Occlusion as Captum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deconvviz
from deconvviz import DeconvvizError, Network, UnknownNameError
from deconvviz.models import registry
from deconvviz.occlusion import occlude
from deconvviz.results import Occlusion

TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small convolutions on busy cores can take hundreds of times longer with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    """Random weights, biases and BatchNorm statistics; eval mode."""
    g = torch.Generator().manual_seed(seed)
    for m in model.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            m.weight.data = torch.randn(m.weight.shape, generator=g) * (2 / m.weight[0].numel()) ** 0.5
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
        "view": Do(lambda x, read: read(x.view(x.size(0), -1)).log_softmax(1), nn.Linear(flat, classes)),
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
        except RuntimeError:
            continue
        if y.shape[1] == WIDTH and 0 < y[0].numel() < 6000:
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
    max_examples=120, deadline=None, derandomize=True, database=None,
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
