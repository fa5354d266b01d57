"""An occluder moved by hand against the oracle that shares none of its code: a plain pass of the covered picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import deconvviz

pytestmark = pytest.mark.usefixtures("one_thread")
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5}


@pytest.fixture(params=[0, 1], ids=["on windows", "as recorded"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways in turn, whichever is quicker here."""
    monkeypatch.setattr("deconvviz.live.occluder.quickest", lambda ways, _: ways[request.param])


class Block(nn.Module):
    """A residual block with a strided shortcut, a depthwise and a dilated convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(6, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12)
        self.deep = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.wide = nn.Conv2d(12, 12, 3, padding=2, dilation=2)
        self.short = nn.Conv2d(6, 12, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.deep(F.relu(self.norm(self.one(x)))))
        return F.relu_(self.wide(y) + self.short(x))


class Joined(nn.Module):
    """Two branches side by side, one of them an average pool, and a gate from the whole map."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.pool, self.gate = (
            nn.Conv2d(12, 8, (1, 3), padding=(0, 1)),
            nn.AvgPool2d(3, 1, 1),
            nn.Linear(20, 20),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([F.silu(self.left(x)), self.pool(x)], 1)
        return y * torch.sigmoid(self.gate(y.mean((2, 3))))[:, :, None, None]


class Tokens(nn.Module):
    """What comes as many rows, in shapes that do not begin with one picture."""

    def __init__(self) -> None:
        super().__init__()
        self.grow, self.norm = nn.Linear(6, 10), nn.LayerNorm(10)

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = self.norm(F.gelu(self.grow(x.flatten(2).transpose(1, 2)[0])))
        return rows.mean(0, keepdim=True)


def in_view(x: Tensor) -> Tensor:
    """Writes in place through a view of what lives on."""
    y = x * 1.0
    y[:, :2].relu_()
    return y


class Plain(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def ends(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 16), nn.ReLU(inplace=True), nn.Linear(16, 5)]


NETS: dict[str, Callable[[], list[nn.Module]]] = {
    "pools": lambda: [
        nn.Conv2d(3, 6, 5, 2, 2), nn.ReLU(inplace=True), nn.LocalResponseNorm(3), nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *ends(8),
    ],
    "long": lambda: [nn.Conv2d(3, 8, 3, padding=1), *[nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()] * 4, *ends(8)],
    "block": lambda: [nn.Conv2d(3, 6, 3), nn.ReLU(), Block(), Joined(), *ends(20)],
    "unpadded": lambda: [
        nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(3, 4, 3, (1, 2)), nn.Hardswish(), nn.Conv2d(4, 6, 4), *ends(6),
    ],
    "norms": lambda: [
        nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3, padding=4), nn.BatchNorm2d(6), nn.GELU(), nn.GroupNorm(2, 6), *ends(6),
    ],
    "tokens": lambda: [nn.Conv2d(3, 6, 4, 4), Tokens(), nn.Linear(10, 5)],
    "view": lambda: [nn.Conv2d(3, 6, 3), Plain(in_view), nn.Conv2d(6, 4, 3), *ends(4)],
    "split": lambda: [
        nn.Conv2d(3, 8, 3), Plain(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)), nn.Conv2d(8, 4, 3), *ends(4),
    ],
    "dense": lambda: [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 5, 1)],
}  # fmt: skip


def built(name: str, dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(*NETS[name]())
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)  # type: ignore[arg-type]  # it keeps statistics
            nn.init.uniform_(part.running_var, 0.5, 2)  # type: ignore[arg-type]  # as above
    return net.to(dtype).eval()


def covered(
    x: Tensor, at: tuple[int, int], window: tuple[int, int], fill: Any = 0.0, mask: Tensor | None = None
) -> Tensor:
    y = x.clone()
    part = y[:, :, at[0] : at[0] + window[0], at[1] : at[1] + window[1]]
    value = torch.as_tensor(fill, dtype=x.dtype).reshape(-1, 1, 1).expand(part.shape)
    part.copy_(value if mask is None else torch.where(mask, value, part))
    return y


def corners(x: Tensor, window: tuple[int, int]) -> list[tuple[int, int]]:
    """Every corner and side, and places within of every phase of the strides."""
    last = x.shape[2] - window[0], x.shape[3] - window[1]
    rows, cols = ([0, 1, n // 2, n // 2 + 1, n // 2 + 2, n // 2 + 3, n - 1, n] for n in last)
    return [(r, c) for r in rows for c in cols]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", list(NETS))
def test_equal_to_a_plain_pass_wherever_it_stands(name: str, dtype: torch.dtype) -> None:
    net, window = built(name, dtype), (7, 9)
    x = torch.randn(1, 3, 40, 37, dtype=dtype, generator=torch.Generator().manual_seed(1))
    live = deconvviz.record(net, x).occluder(window)
    for at in corners(x, window):
        with torch.no_grad():
            want = net(covered(x, at, window)).flatten(2 if name == "dense" else 1)[0]
        want = want.mean(-1) if name == "dense" else want
        there = live.at(*at)
        assert float((there.logits - want).abs().max() / want.abs().max()) < TOLERANCE[dtype], at
        assert there.origin == at and there.activity is None and there.prediction == int(want.argmax())
        assert there.probability == pytest.approx(float(want.double().softmax(0)[live.target]), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("layer", ["0", "1", "4", "5", "6", "9"])
def test_activity_of_a_layer(layer: str, dtype: torch.dtype) -> None:
    net, window = built("pools", dtype), (8, 8)
    x = torch.randn(1, 3, 40, 37, dtype=dtype, generator=torch.Generator().manual_seed(2))
    rec = deconvviz.record(net, x)
    until = net[: int(layer) + 1]
    for unit in (None, 2):
        live = rec.occluder(window, layer=layer, unit=unit)
        with torch.no_grad():
            strongest = (
                int(until(x)[0].flatten(1).amax(1).argmax()) if until(x).dim() == 4 else int(until(x)[0].argmax())
            )
            assert live.unit == (strongest if unit is None else unit)
            assert live.baseline_activity == pytest.approx(float(until(x)[0, live.unit].sum()), rel=1e-4, abs=1e-4)
            for at in ((0, 0), (11, 13), (32, 29)):
                want = float(until(covered(x, at, window))[0, live.unit].sum())
                assert live.at(*at).activity == pytest.approx(want, rel=1e-4, abs=1e-4)


def test_fills_masks_and_targets() -> None:
    net, window = built("pools", torch.float64), (6, 10)
    x = torch.randn(1, 3, 40, 37, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    rec, mask = deconvviz.record(net, x), torch.rand(6, 10) > 0.5
    for fill in (0.5, [1.0, -2.0, 0.25]):
        live = rec.occluder(window, fill, target=3, mask=mask)
        with torch.no_grad():
            want = net(covered(x, (5, 20), window, fill, mask))[0]
        there = live.at(5, 20)
        torch.testing.assert_close(there.logits, want)
        assert there.probability == pytest.approx(float(want.softmax(0)[3]))
    o = rec.occlude(window=window, stride=9, fill="blur")
    blurred = rec.occluder(window, "blur")
    torch.testing.assert_close(o.logits, torch.stack([blurred.at(*at).logits for at in o.origins.tolist()]))
    torch.testing.assert_close(blurred.baseline, o.baseline)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "mnasnet0_5", "vit_b_32"])
def test_networks_of_torchvision(name: str) -> None:
    torch.manual_seed(0)
    options = {"image_size": 96} if name.startswith("vit") else {}
    net = getattr(torchvision.models, name)(weights=None, **options).eval()
    if name.startswith("vit"):
        nn.init.normal_(net.heads.head.weight)
    x = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(4))
    live = deconvviz.record(net, x).occluder(24)
    for at in ((0, 0), (31, 40), (72, 72), (5, 72)):
        with torch.no_grad():
            want = net(covered(x, at, (24, 24)))[0]
        assert float((live.at(*at).logits - want).abs().max() / want.abs().max()) < 1e-5


def test_a_window_as_large_as_the_picture() -> None:
    net = built("block", torch.float64)
    x = torch.randn(1, 3, 20, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    live = deconvviz.record(net, x).occluder((20, 24))
    with torch.no_grad():
        torch.testing.assert_close(live.at(0, 0).logits, net(torch.zeros_like(x))[0])


def test_what_is_infinite_does_not_turn_into_nothing() -> None:
    """Infinity less infinity is not what a change makes of it: such values are computed anew."""
    net = nn.Sequential(
        Plain(lambda x: x.masked_fill(x > 40, torch.inf)), nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(),
        nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 3),
    ).double().eval()  # fmt: skip
    for part in (net[1], net[3], net[6]):
        nn.init.uniform_(part.weight, 0.1, 1)  # type: ignore[arg-type]  # it has weights
    x = torch.randn(1, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[0, 0, 4, 4] = 50
    live = deconvviz.record(net, x).occluder(5)
    for at in ((2, 2), (9, 9)):
        with torch.no_grad():
            want = net(covered(x, at, (5, 5)))[0]
        torch.testing.assert_close(live.at(*at).logits, want)
    assert not bool(live.at(9, 9).logits.isfinite().all()) and bool(live.at(2, 2).logits.isfinite().all())


def test_half_precision_answers_in_float32() -> None:
    net = built("long", torch.bfloat16)
    x = torch.randn(1, 3, 40, 37, generator=torch.Generator().manual_seed(1)).bfloat16()
    there = deconvviz.record(net, x).occluder(8).at(3, 4)
    assert there.logits.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(there.logits, net(covered(x, (3, 4), (8, 8)))[0].float(), rtol=0.05, atol=0.05)


def test_occluders_of_one_recording_share_what_is_made_ready() -> None:
    net = built("long", torch.float32)
    rec = deconvviz.record(net, torch.randn(1, 3, 40, 37))
    first = rec.occluder(8)
    made = dict(rec._replays)
    again = rec.occluder(12)
    assert {k: id(v) for k, v in made.items()} == {k: id(v) for k, v in rec._replays.items()}
    assert first.window == (8, 8) and again.window == (12, 12)
