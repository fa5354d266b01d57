"""Features of a batch: against plain forward hooks and hand-made passes, without a trace, without waste."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deconvviz.analyses.features as tested
from deconvviz import Network
from deconvviz.analyses.features import OUTPUT, features
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnknownNameError, UnsupportedOperatorError

INPUTS = torch.randn(5, 3, 12, 10, generator=torch.Generator().manual_seed(1))


class Functional(nn.Module):
    """ReLUs that no module returns, one of them in place; a contrast normalisation; logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.conv2 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3)
        self.fc = nn.Linear(6, 7)
        self.ran: list[str] = []

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 2)
        x = F.relu(self.conv2(F.local_response_norm(x, 3)))
        self.ran.append("below the logits")
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


ALIASES = {"1": "conv1", "2": "conv2"}


def net() -> Network:
    torch.manual_seed(0)
    module = Functional()
    module.bn1.running_mean = torch.randn(4)
    return Network(module.eval(), (12, 10), aliases=ALIASES)


@torch.no_grad()
def by_hand(m: Functional, x: Tensor) -> dict[str, Tensor]:
    one = m.bn1(m.conv1(x)).clamp(min=0)
    low = m.conv2(F.local_response_norm(F.max_pool2d(one, 2), 3))
    two = low.clamp(min=0)
    return {"conv1": m.conv1(x), "1": one, "conv2": low, "2": two, OUTPUT: m.fc(two.flatten(2).mean(2))}


@pytest.mark.parametrize("batch", [1, 2, 5, 64])
def test_every_kind_of_layer_against_a_pass_by_hand(batch: int) -> None:
    model = net()
    expected = by_hand(model.module, INPUTS)  # type: ignore[arg-type]
    found = features(model, INPUTS, list(expected), batch)
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


def test_the_same_again_from_the_plan_and_for_another_size() -> None:
    model = net()
    first = features(model, INPUTS, ["1", "2"])
    assert all(features(model, INPUTS, ["1", "2"])[k].equal(v) for k, v in first.items())
    larger = torch.randn(2, 3, 20, 17)
    torch.testing.assert_close(features(model, larger, ["2"])["2"], by_hand(model.module, larger)["2"])  # type: ignore[arg-type]


def test_it_stops_at_the_deepest_layer() -> None:
    model = net()
    features(model, INPUTS, ["1"])  # the plan needs one whole pass
    model.module.ran.clear()  # type: ignore[operator, union-attr]
    features(model, INPUTS, ["1"])
    assert model.module.ran == []
    features(model, INPUTS, ["1", "2"])
    features(model, INPUTS, ["1", OUTPUT])
    assert len(model.module.ran) == 2 + 1  # type: ignore[arg-type]


def test_a_module_a_call_and_the_value_before_an_in_place_write() -> None:
    relu = nn.ReLU(inplace=True)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), relu, nn.Conv2d(4, 4, 3), relu)
    seen: list[Tensor] = []
    handles = [m.register_forward_hook(lambda _m, _a, out: seen.append(out.clone())) for m in (model[0], relu)]
    model(INPUTS)
    for handle in handles:
        handle.remove()
    found = features(model, INPUTS, ["0", "1#0", relu])
    assert list(found) == ["0", "1#0", "1"]
    for value, expected in zip(found.values(), (seen[0], seen[1], seen[2]), strict=True):
        torch.testing.assert_close(value, expected.detach())


def test_values_that_nobody_asked_for_are_let_go() -> None:
    alive: list[tuple[int, weakref.ref[Tensor]]] = []

    class Watch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            alive.append((len(x), weakref.ref(y)))
            return y

    class Last(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            gc.collect()
            held.append([n for n, ref in alive if ref() is not None])
            return x + 1

    held: list[list[int]] = []
    features(nn.Sequential(Watch(), nn.ReLU(), Watch(), nn.ReLU(), Last()), INPUTS, ["4"])
    # The plan's single picture is recorded whole, and let go; of the batch nothing is held.
    assert held == [[1, 1], []]


def test_a_batch_that_runs_other_operators_than_one_picture() -> None:
    class Sized(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + 1) * 2 if len(x) > 1 else x * 2 + 2

    model = nn.Sequential(Sized(), nn.ReLU())
    torch.testing.assert_close(features(model, INPUTS, ["1"])["1"], (INPUTS * 2 + 2).relu())


def test_the_identity_and_half_precision() -> None:
    assert features(nn.Identity(), INPUTS, [OUTPUT])[OUTPUT].equal(INPUTS)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).bfloat16()
    out = features(model, INPUTS, ["1"])["1"]
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, model(INPUTS.bfloat16()).float().detach())


WRONG: list[tuple[Any, Any, dict[str, Any], type[Exception], str]] = [
    (net, INPUTS, {"layers": ["conv3"]}, UnknownNameError, "unknown layer 'conv3'.*conv"),
    (net, INPUTS, {"layers": [nn.ReLU()]}, UnknownNameError, "not a part"),
    (net, INPUTS, {"layers": ["1"], "batch": 0}, DeconvvizValueError, "batch is 0; allowed"),
    (net, INPUTS[0], {"layers": ["1"]}, DeconvvizValueError, r"\(3, 12, 10\); allowed: .*N, C, H, W"),
    (net, INPUTS[:0], {"layers": ["1"]}, DeconvvizValueError, "N from 1"),
    (net, "cat.jpg", {"layers": ["1"]}, DeconvvizTypeError, "inputs is a str"),
    (net, INPUTS.byte(), {"layers": ["1"]}, DeconvvizTypeError, "uint8"),
    (lambda: "zfnet", INPUTS, {"layers": ["1"]}, DeconvvizTypeError, "model is a str"),
    (lambda: nn.Flatten(0), INPUTS, {"layers": [OUTPUT]}, DeconvvizValueError, "one row for each picture"),
]


@pytest.mark.parametrize(("make", "inputs", "options", "error", "message"), WRONG)
def test_errors(make: Any, inputs: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        features(make(), inputs, **options)


def test_a_model_with_two_outputs_and_one_that_cannot_be_recorded() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x + 1

    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if x.sum().item() > 0 else x

    with pytest.raises(DeconvvizValueError, match="tuple of .* say which is meant"):
        features(Two(), INPUTS, [OUTPUT])
    with pytest.raises(UnsupportedOperatorError, match="data-dependent"):
        features(Branch(), INPUTS, [OUTPUT])


def test_the_model_is_left_as_it_was() -> None:
    model = net().module.train()
    model.bn1.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    features(model, INPUTS, ["conv2"])
    with pytest.raises(UnknownNameError):
        features(model, INPUTS, ["none"])
    assert model.training and not model.bn1.training and model.conv1.training
    assert all(v.equal(before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_plans_do_not_keep_a_model_alive() -> None:
    model = net().module
    features(model, INPUTS, ["conv1"])
    gone = weakref.ref(model)
    assert model in tested._TAPS
    del model
    gc.collect()
    assert gone() is None
