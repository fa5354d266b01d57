"""Each method against an oracle that shares none of its code: captum, autograd by hand, plain loops."""

from __future__ import annotations

import sys
from typing import Any

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deconvviz
from deconvviz.analyses.comparison.methods import METHODS, NOISE, SAMPLES, attributions, occluder, signed_map
from deconvviz.analyses.comparison.question import Question, ask

pytestmark = pytest.mark.usefixtures("one_thread")


def small() -> nn.Sequential:
    """A network in float64 with what captum knows how to treat: modules, each used once."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 5 * 5, 4),
    ).double()  # fmt: skip
    nn.init.uniform_(net[1].running_var, 0.5, 1.5)
    return net.eval()


def picture() -> Tensor:
    return torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def question(net: nn.Module, x: Tensor, **how: Any) -> Question:
    return ask(deconvviz.Network.of(net), x, **how)


def close(found: Tensor, wanted: Tensor) -> bool:
    return bool((found - wanted).abs().max() <= 1e-9 * wanted.abs().max())


BY_CAPTUM = {
    "gradient": lambda net, x: captum.attr.Saliency(net).attribute(x, target=2, abs=False),
    "input-x-gradient": lambda net, x: captum.attr.InputXGradient(net).attribute(x, target=2),
    "integrated-gradients": lambda net, x: captum.attr.IntegratedGradients(net).attribute(x, target=2),
    "deconvnet": lambda net, x: captum.attr.Deconvolution(net).attribute(x, target=2),
    "guided": lambda net, x: captum.attr.GuidedBackprop(net).attribute(x, target=2),
    "grad-cam": lambda net, x: captum.attr.LayerAttribution.interpolate(
        captum.attr.LayerGradCam(net, net[5]).attribute(x, target=2, relu_attributions=True), (20, 20), "bilinear"
    ),
}


@pytest.mark.parametrize("method", BY_CAPTUM)
@pytest.mark.filterwarnings("ignore:Setting backward hooks:UserWarning")
def test_as_captum(method: str) -> None:
    net, x = small(), picture()
    wanted = BY_CAPTUM[method](net, x.clone().requires_grad_()).detach()[0]
    found = attributions(question(net, x, target=2), method)
    assert found.dtype == torch.float64 and close(found, wanted)
    assert close(signed_map(question(net, x, target=2), method), wanted.sum(0))


def test_integrated_gradients_add_up_to_the_score() -> None:
    net, x = small(), picture()
    asked = question(net, x, target=1)
    with torch.no_grad():
        wanted = float(net(x)[0, 1] - net(torch.zeros_like(x))[0, 1])
    assert float(attributions(asked, "integrated-gradients").sum()) == pytest.approx(wanted, rel=0.02)


def test_layer_cam_by_hand() -> None:
    net, x = small(), picture()
    maps = net[:6](x).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(net[6:](maps)[0, 2], maps)
    wanted = F.interpolate((slopes.clamp(min=0) * maps).sum(1, keepdim=True).relu(), (20, 20), mode="bilinear")
    assert close(attributions(question(net, x, target=2), "layer-cam"), wanted[0].detach())


def test_the_layer_of_the_cams() -> None:
    net, x = small(), picture()
    assert question(net, x).cam == question(net, x, layer="5").cam  # before the last pool
    maps = net[:3](x).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(net[3:](maps)[0, 2], maps)
    wanted = F.interpolate(
        (slopes.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu(), (20, 20), mode="bilinear"
    )
    assert close(attributions(question(net, x, target=2, layer="2"), "grad-cam"), wanted[0].detach())


class Square(nn.Module):
    """Scores that are sums of squares: their gradient is twice the picture."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.square().flatten(1).sum(1, keepdim=True), x.flatten(1).sum(1, keepdim=True)], 1)


def test_smoothgrad_is_the_mean_gradient_under_noise() -> None:
    x = picture()
    noise = attributions(question(Square(), x, target=0), "smoothgrad") / 2 - x[0]
    deviation = NOISE * float(x.max() - x.min()) / SAMPLES**0.5
    assert float(noise.std()) == pytest.approx(deviation, rel=0.1) and abs(float(noise.mean())) < deviation / 5
    linear = attributions(question(Square(), x, target=1), "smoothgrad")
    assert close(linear, torch.ones_like(linear))


def test_smoothgrad_goes_by_its_seed_alone() -> None:
    net, x = small(), picture()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = (attributions(question(net, x, seed=n), "smoothgrad") for n in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other) and torch.equal(torch.get_rng_state(), before)


def test_occlusion_is_that_of_occlude() -> None:
    net, x = small(), picture()
    side, step = occluder((20, 20))
    wanted = deconvviz.occlude(net, x, target=2, window=side, stride=step).heatmap()
    assert close(signed_map(question(net, x, target=2), "occlusion"), wanted)


class Functional(nn.Module):
    """A ReLU that is no module, written in place, and a skip beside it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(1, 4, 3).double(), nn.Conv2d(4, 4, 3, padding=1).double()
        self.end = nn.Linear(4, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.first(x))
        x = F.relu(self.second(x)) + 3 * x
        return self.end(x.mean((2, 3)))  # type: ignore[no-any-return]


def unit_by_hand(net: Functional, x: Tensor, unit: int, place: tuple[int, int]) -> Tensor:
    return net.second(F.relu(net.first(x)))[:, unit, place[0], place[1]]  # type: ignore[no-any-return]


def test_a_unit() -> None:
    """Of `second`, as it is on return, before its ReLU."""
    net = Functional().eval()
    x = torch.randn(1, 1, 14, 14, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    asked = question(net, x, mode="unit", layer="second")
    maps = net.second(F.relu(net.first(x)))[0]
    assert asked.number == int(maps.flatten(1).amax(1).argmax()) and asked.place is not None
    assert maps[asked.number][asked.place] == maps[asked.number].max() > 0
    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(unit_by_hand(net, leaf, asked.number, asked.place)[0], leaf)
    assert close(attributions(asked, "gradient"), wanted[0])
    top, left, bottom, right = asked.box
    outside = torch.ones(14, 14, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    row, col = asked.place
    assert asked.box == (max(row - 1, 0), max(col - 1, 0), min(row + 4, 14), min(col + 4, 14))
    assert not wanted[0, 0][outside].any()
    total, count = torch.zeros(2, 14, 14, dtype=torch.float64)
    side, step = occluder((14, 14))
    for r in range(0, 15 - side, step):
        for c in range(0, 15 - side, step):
            covered = x.clone()
            covered[..., r : r + side, c : c + side] = 0
            drop = maps[asked.number][asked.place] - unit_by_hand(net, covered, asked.number, asked.place)[0]
            total[r : r + side, c : c + side] += drop.detach()
            count[r : r + side, c : c + side] += 1
    assert close(signed_map(asked, "occlusion"), total / count)


def test_edges_are_where_the_brightness_steps() -> None:
    net = deconvviz.Network(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), mean=(0.5,) * 3, std=(0.25,) * 3)
    x = torch.zeros(1, 3, 8, 8)
    x[..., 4:] = 1.0  # 0.25 of the brightness of pixels
    found = signed_map(ask(net, x), "edges")
    assert torch.allclose(found[:, 3:5], torch.tensor(1.0)) and not found[:, :3].any() and not found[:, 5:].any()


def test_random_knows_neither_picture_nor_network() -> None:
    one, two = question(small(), picture()), question(Square(), -picture())
    assert torch.equal(signed_map(one, "random"), signed_map(two, "random"))
    assert not torch.equal(signed_map(one, "random"), signed_map(question(small(), picture(), seed=1), "random"))


def test_a_dense_output() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 3)).double()
    x = picture()
    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(net(leaf)[0, 1, 4, 7], leaf)
    asked = question(net, x, target=(1, (4, 7)))
    for method in METHODS:
        assert attributions(asked, method).isfinite().all()
    assert close(attributions(asked, "gradient"), wanted[0])


class Detached(nn.Module):
    """A pass that autograd knows otherwise than by its operators."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.end = nn.Conv2d(3, 4, 3).double(), nn.Linear(4, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.end((y * y.detach().sigmoid()).mean((2, 3)))  # type: ignore[no-any-return]


def test_what_only_autograd_knows() -> None:
    net, x = Detached(), picture()
    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(net(leaf)[0, 1], leaf)
    assert close(attributions(question(net, x, target=1), "gradient"), wanted[0])
    maps = net.conv(x).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(net.end((maps * maps.detach().sigmoid()).mean((2, 3)))[0, 1], maps)
    cam = F.interpolate(
        (slopes.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu(), (20, 20), mode="bilinear"
    )
    assert close(attributions(question(net, x, target=1, layer="conv"), "grad-cam"), cam[0].detach())


def test_no_map_to_weigh() -> None:
    asked = question(nn.Sequential(nn.Flatten(), nn.Linear(1200, 2)).double(), picture())
    with pytest.raises(deconvviz.errors.DeconvvizValueError, match="need a layer with maps"):
        attributions(asked, "grad-cam")
    with pytest.raises(deconvviz.errors.DeconvvizValueError, match="has no map"):
        question(small(), picture(), layer="8")


def test_without_captum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    net, x = small(), picture()
    with pytest.raises(deconvviz.errors.DeconvvizValueError, match=r"pip install 'deconvviz\[compare\]'"):
        deconvviz.compare(net, x, ["gradient", "smoothgrad"], steps=2)
    others = [name for name in METHODS if name not in ("integrated-gradients", "smoothgrad")]
    assert deconvviz.compare(net, x, others, steps=2, subsets=2).maps.isfinite().all()
