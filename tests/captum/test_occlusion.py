"""Occlusion: captum's own numbers, whether it goes incrementally or by plain passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import captum.attr
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import deconvviz
import deconvviz.captum.occlusion
from deconvviz import DeconvvizTypeError, DeconvvizValueError
from deconvviz.captum import Occlusion

X = torch.randn(2, 3, 17, 14, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def incremental(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Whether each attribution went incrementally."""
    went: list[bool] = []
    own = deconvviz.captum.occlusion._incremental

    def watched(*given: Any) -> Tensor | None:
        found = own(*given)
        went.append(found is not None)
        return found

    monkeypatch.setattr(deconvviz.captum.occlusion, "_incremental", watched)
    yield went


class Net(nn.Module):
    """A functional ReLU, one in place, BatchNorm, overlapping pools, fully connected layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(5)
        nn.init.normal_(self.norm.running_mean)  # type: ignore[arg-type]  # a buffer
        self.out = nn.Linear(6 * 3 * 2, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = F.max_pool2d(F.relu(self.norm(self.a(x))), 3, 2)
        return self.out(self.b(h).relu_().flatten(1))  # type: ignore[no-any-return]


def check(model: Any, x: Any, *given: Any, **more: Any) -> None:
    answer = captum.attr.Occlusion(model).attribute(x, *given, **more)
    found = Occlusion(model).attribute(x, *given, **more)
    assert type(found) is type(answer)
    for a, b in zip(*((v if isinstance(v, tuple) else (v,)) for v in (found, answer)), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype and b.any()
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("window", "strides"),
    [
        ((3, 5, 4), (3, 3, 4)),  # the last is cut, below and to the right
        ((3, 5, 4), 3), ((1, 3, 3), None), ((1, 4, 4), (1, 2, 3)), ((2, 4, 4), (1, 3, 3)), ((2, 4, 4), (2, 4, 4)),
        ((3, 17, 14), 5), ((3, 1, 14), (3, 1, 14)), ((3, 6, 5), (1, 5, 5)), (((3, 6, 5),), ((3, 6, 5),)),
    ],
)  # fmt: skip
def test_windows_and_strides(window: Any, strides: Any, incremental: list[bool]) -> None:
    check(Net().eval().double(), X, window, strides, target=2, perturbations_per_eval=50)
    assert incremental == [True]


@pytest.mark.parametrize(
    "target", [0, torch.tensor(1), torch.tensor([2]), [3, 0], torch.tensor([3, 0]), (1,), [(3,), (1,)]]
)
@pytest.mark.parametrize(
    "baselines",
    [None, 0.5, 2, X.flip(0), X[:1].flip(3), torch.ones(3, 1, 1).double(), torch.zeros(2, 1, 1, 1).double(), (0.25,)],
)  # fmt: skip
def test_targets_and_baselines(target: Any, baselines: Any, incremental: list[bool]) -> None:
    check(Net().eval().double(), X, (3, 6, 5), (3, 4, 5), baselines, target)
    assert incremental == [True]


def test_inputs_as_a_tuple_and_ones_that_want_gradients(incremental: list[bool]) -> None:
    x = X.clone().requires_grad_()
    check(Net().eval().double(), (x,), ((3, 6, 5),), (3,), 0.5, 1)
    assert (
        incremental == [True] and not Occlusion(Net().eval().double()).attribute(x, (3, 6, 5), target=0).requires_grad
    )


class Dense(nn.Module):
    """A map of every class, or one number."""

    def __init__(self, single: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.single = nn.Conv2d(3, 5, 3, padding=1), single

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = F.relu(self.a(x))
        return h.amax((1, 2, 3)) if self.single else h


def test_maps_and_single_numbers(incremental: list[bool]) -> None:
    check(Dense(False).eval().double(), X, (3, 6, 5), (3, 4, 5), target=(2, 3, 4))
    check(Dense(False).eval().double(), X, (3, 6, 5), (3, 4, 5), target=[(2, 3, 4), (1, 6, 7)])
    check(Dense(True).eval().double(), X, (3, 6, 5), (3, 4, 5))
    assert incremental == [True] * 3


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "mobilenet_v3_small"])
def test_networks(name: str, incremental: list[bool], one_thread: None) -> None:
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None).eval().double()
    x = torch.randn(1, 3, 64, 72, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    check(model, x, (3, 24, 20), (3, 16, 20), target=5, perturbations_per_eval=16)
    assert incremental == [True]


# By plain passes ------------------------------------------------------------------------------------------------------


class Pair(nn.Module):
    """Of two pictures, and a number that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor, y: Tensor, times: float = 1) -> Tensor:
        return self.net(x * times + y)  # type: ignore[no-any-return]


class Thinking(nn.Module):
    """What it does depends on what it sees."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3)) if x.mean() > 0 else x.amax((1, 2, 3))


PLAIN: dict[str, tuple[Any, Any, Callable[[], tuple[Any, ...]]]] = {
    "several inputs": (Pair(), (X, X.flip(0)), lambda: (((3, 6, 5), (1, 17, 14)), ((3, 4, 5), (1, 1, 1)), (0.5, 0), 1)),
    "more arguments": (Pair(), X, lambda: ((3, 6, 5), (3, 4, 5), None, 1, (X.flip(0), 2.0))),
    "train mode": (Net().train(), X, lambda: ((3, 6, 5), (3, 4, 5), None, 1)),
    "a function": (lambda x: x.amax((2, 3)), X, lambda: ((3, 6, 5), (3, 4, 5), None, 1)),
    "vectors": (nn.Linear(7, 3), X.flatten(1)[:, :7], lambda: ((2,), 2, None, 1)),
    "branches": (Thinking(), X[:1], lambda: ((3, 6, 5), (3, 4, 5))),
    "ints": (lambda x: x.sum((1, 2, 3)), (X * 9).long(), lambda: ((3, 6, 5), (3, 4, 5))),
}


@pytest.mark.parametrize("case", list(PLAIN))
def test_what_cannot_go_incrementally(case: str, incremental: list[bool]) -> None:
    model, x, given = PLAIN[case]
    if isinstance(model, nn.Module):
        model.double()
        model.train(case == "train mode")
    before = {k: v.clone() for k, v in model.state_dict().items()} if case == "train mode" else {}
    found = Occlusion(model).attribute(x, *given())
    assert True not in incremental
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    answer = captum.attr.Occlusion(model).attribute(x, *given())
    torch.testing.assert_close(found, answer)


def test_a_network(incremental: list[bool]) -> None:
    model = Net().eval().double()
    found = Occlusion(deconvviz.Network(model)).attribute(X, (3, 6, 5), (3, 4, 5), target=1)
    torch.testing.assert_close(found, captum.attr.Occlusion(model).attribute(X, (3, 6, 5), (3, 4, 5), target=1))
    assert incremental == [True]


def test_train_mode_that_changes_nothing(incremental: list[bool]) -> None:
    model = nn.Sequential(Net().eval()).double()
    assert model.training
    check(model, X, (3, 6, 5), (3, 4, 5), target=1)
    dropping = nn.Sequential(Net().eval(), nn.Dropout(0.9)).double()
    Occlusion(dropping).attribute(X, (3, 6, 5), (3, 4, 5), target=1)
    assert incremental == [True, False] and model.training


def test_it_is_what_occlude_calls_captums(one_thread: None) -> None:
    model = Net().eval().double()
    o = deconvviz.occlude(model, X[:1], target=1, window=(6, 5), stride=(4, 5), positions="captum")
    found = Occlusion(model).attribute(X[:1], (3, 6, 5), (3, 4, 5), target=1)
    torch.testing.assert_close(found[0], o.attribution().float())


# What does not fit ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        ((3, 6), None), ((3, 18, 5), None), ((3, 6, 5), (3, 7, 5)), ((3, 6, 5), (3, 4)), ((3, 6, 5), None, None, [1]),
        ((3, 6, 5), None, None, (1, 2, 3)), ((3, 6, 5), None, None, 9), ((3, 6, 5), None, None, 1, None, 0),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(given: Any) -> None:
    model = Net().eval().double()
    with pytest.raises((AssertionError, IndexError)):
        captum.attr.Occlusion(model).attribute(X, *given)
    with pytest.raises(DeconvvizValueError) as caught:
        Occlusion(model).attribute(X, *given)
    assert isinstance(caught.value, AssertionError) and "\n" not in str(caught.value)


def test_inputs_that_are_none() -> None:
    with pytest.raises(DeconvvizTypeError, match="inputs is a str; allowed: a tensor, or a tuple of tensors"):
        Occlusion(Net()).attribute("image.jpg", (3, 6, 5))


def test_errors_of_the_model_are_its_own() -> None:
    def fails(x: Tensor) -> Tensor:
        raise AssertionError("the model's own")

    with pytest.raises(AssertionError, match="the model's own") as caught:
        Occlusion(fails).attribute(X, (3, 6, 5))
    assert type(caught.value) is AssertionError
    with pytest.raises(NotImplementedError):
        Occlusion(Net()).attribute_future()


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    Occlusion(Net().eval().double()).attribute(X, (3, 6, 5), target=1, show_progress=True)
    assert "Occlusion attribution: 100%" in capsys.readouterr().err
    Occlusion(Net().eval().double()).attribute(X, (3, 6, 5), target=1)
    assert capsys.readouterr().err == ""
