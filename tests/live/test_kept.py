"""A kept recording answers as the functions of one go do, from any thread, and says when the model has changed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deconvviz
from deconvviz import DeconvvizValueError, Network, UnknownNameError, UnsupportedOperatorError

PICTURE = Path(__file__).parents[2] / "demos" / "images" / "chelsea.jpg"
pytestmark = pytest.mark.usefixtures("one_thread")


def small() -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3),
        nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5),
    )  # fmt: skip
    return body.double().eval()


def picture() -> Tensor:
    return torch.randn(1, 3, 20, 18, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def assert_equal_results(one: Any, other: Any) -> None:
    """Every field of two results."""
    assert vars(one).keys() == vars(other).keys()
    for name, value in vars(one).items():
        same = getattr(other, name)
        if isinstance(value, Tensor):
            assert torch.equal(value.nan_to_num(), same.nan_to_num()), name
        elif hasattr(value, "pixels"):
            assert_equal_results(value, same)
        else:
            assert value == same, name


@pytest.mark.parametrize("how", [
    {"layer": "5", "top": 3}, {"layer": "4", "units": [1, 7], "method": "guided"}, {"layer": "2", "seed": "map"},
    {"layer": "5", "units": "class", "target": 2, "top": 2}, {"layer": "4", "method": "gradient", "place": (1, 2)},
    {"layer": "5", "overlap": "max", "distinct": True}, {"layer": "8", "units": 3},
])  # fmt: skip
def test_projections_are_those_of_one_go(how: dict[str, Any]) -> None:
    model = small()
    rec = deconvviz.record(model, picture())
    for _ in range(2):  # the second walk takes what the first has prepared
        assert_equal_results(rec.project(**how), deconvviz.project(model, picture(), **how))


def test_a_photograph_keeps_what_is_known_of_it() -> None:
    net = deconvviz.load("zfnet")
    rec = deconvviz.record(net, PICTURE)
    p, plain = rec.project("conv5", top=2), deconvviz.project(net, PICTURE, "conv5", top=2)
    assert_equal_results(p, plain)
    assert p.whole is not None and p.answer is not None and p.answer[0] == int(rec.logits.argmax())
    assert rec.strongest("conv5", 2).tolist() == p.units.tolist()


def test_occlusion_is_that_of_one_go() -> None:
    model = small()
    rec = deconvviz.record(model, picture())
    how: dict[str, Any] = {"window": 6, "stride": 4, "layer": "5", "fill": "noise", "target": 1}
    assert_equal_results(rec.occlude(**how), deconvviz.occlude(model, picture(), **how))


def test_logits_layers_and_maps() -> None:
    model, x = small(), picture()
    rec = deconvviz.record(model, x)
    with torch.no_grad():
        torch.testing.assert_close(rec.logits, model(x)[0])
        torch.testing.assert_close(rec.maps("4"), model[:5](x)[0])
    assert [(layer.name, layer.size) for layer in rec.layers()][-1] == ("8", None)
    assert [layer.size for layer in rec.layers()][:4] == [(20, 18)] * 3 + [(10, 9)]


def written(model: nn.Sequential) -> None:
    with torch.no_grad():
        model[0].weight.mul_(2)  # type: ignore[operator,union-attr]  # a parameter


def replaced(model: nn.Sequential) -> None:
    model[4].weight = nn.Parameter(model[4].weight.detach().clone())  # type: ignore[union-attr,operator]  # as above


def buffer(model: nn.Sequential) -> None:
    model[1].running_mean.add_(1)  # type: ignore[union-attr,operator]  # a buffer


def part(model: nn.Sequential) -> None:
    model[5] = nn.Tanh()


def more(model: nn.Sequential) -> None:
    model.add_module("9", nn.ReLU())


def moved(model: nn.Sequential) -> None:
    model.float()


@pytest.mark.parametrize("change", [written, replaced, buffer, part, more, moved])
def test_a_changed_model_is_an_error(change: Any) -> None:
    model = small()
    rec = deconvviz.record(model, picture())
    live = rec.occluder(4)
    change(model)
    asked = [
        lambda: rec.logits, lambda: rec.project("4"), lambda: rec.occlude(window=4), lambda: rec.occluder(4),
        lambda: rec.strongest("4"), lambda: live.at(0, 0),
    ]  # fmt: skip
    for ask in asked:
        with pytest.raises(DeconvvizValueError, match="the model has changed since this recording was made"):
            ask()


def test_training_mode_and_gradients_are_no_change() -> None:
    model = small()
    rec = deconvviz.record(model, picture())
    before = rec.logits
    model.train()
    model[0].weight.grad = torch.ones_like(model[0].weight)  # type: ignore[arg-type,union-attr]  # a parameter
    assert torch.equal(rec.logits, before)
    assert model.training and all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_one_recording_is_asked_from_several_threads() -> None:
    net = deconvviz.load("zfnet")
    rec = deconvviz.record(net, PICTURE)
    live = rec.occluder(48, layer="conv4")
    places = [(8 * n % 176, 24 * n % 176) for n in range(12)]
    alone = [live.at(*place) for place in places]
    pixels = [rec.project("conv3", units=[n]).pixels for n in range(12)]
    fresh = deconvviz.record(net, PICTURE)  # nothing prepared
    fresh_live = fresh.occluder(48, layer="conv4")

    def ask(n: int) -> tuple[Any, Tensor]:
        return fresh_live.at(*places[n]), fresh.project("conv3", units=[n]).pixels

    with ThreadPoolExecutor(6) as pool:
        for n, (there, sent) in enumerate(pool.map(ask, range(12))):
            torch.testing.assert_close(there.logits, alone[n].logits)
            assert there.activity == pytest.approx(alone[n].activity)
            torch.testing.assert_close(sent, pixels[n])


class Halved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5 if float(x.sum()) > 0 else x


def test_what_cannot_be_recorded_is_said_where_it_is_needed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Halved(), nn.Conv2d(4, 5, 1), nn.Flatten()).double().eval()
    rec = deconvviz.record(model, picture())
    assert_equal_results(rec.project("1", top=2), deconvviz.project(model, picture(), "1", top=2))
    for ask in (lambda: rec.logits, lambda: rec.project("3"), lambda: rec.occlude(), lambda: rec.occluder(4)):
        with pytest.raises(UnsupportedOperatorError, match="reads values back into Python"):
            ask()
    with pytest.raises(UnknownNameError, match="unknown layer 'conv9'"):
        rec.project("conv9")


def test_wrong_questions() -> None:
    rec = deconvviz.record(Network(small()), picture())
    for ask, said in (
        (lambda: rec.project("4", method="x"), "method is 'x'"),
        (lambda: rec.project("4", target=1), 'target and output go with units="class"'),
        (lambda: rec.strongest("4", 0), "top is 0"),
        (lambda: rec.occluder(40), "window is 40×40"),
        (lambda: rec.occluder(4, unit=1), "unit goes with a layer"),
        (lambda: rec.occluder(4, layer="4", unit=8), "unit 8 does not exist"),
        (lambda: rec.occluder(4).at(17, 0), "row, col is 17, 0; allowed: 0 to 16 and 0 to 14"),
        (lambda: rec.occluder(4).at(0, -1), "row, col is 0, -1"),
        (lambda: rec.occluder(4).at(0.5, 0), "allowed: whole numbers"),  # type: ignore[arg-type]  # the test
    ):
        with pytest.raises(deconvviz.DeconvvizError, match=said):
            ask()
