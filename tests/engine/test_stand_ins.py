"""Stand-ins: models that hold their parts in every way, in train mode, give what they give in eval mode, unseen."""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from deconvviz.engine.autograd import gradients
from deconvviz.engine.passes import untouched
from deconvviz.engine.recorder import record
from deconvviz.engine.stand_ins import StandIn

X = torch.randn(1, 3, 9, 8, generator=torch.Generator().manual_seed(1))
NAMES: dict[nn.Module, str] = {}  # a global of hooks
CALLED: list[str] = []


class Model(nn.Module):
    """Parts that differ between train and eval; `use` says how `forward` reaches the second of them."""

    def __init__(self, use: Callable[[Model, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(4, 3)
        self.use = use

    def dropped(self, x: Tensor) -> Tensor:
        return self.drop(self.norm(x))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self.dropped(x) if self.use is None else self.use(self, x)
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


class Slotted(Model):
    __slots__ = ("extra",)


class Closing(Model):
    def __del__(self) -> None:
        CALLED.append("closed")


class Helper:
    """Something of the user's own that holds a part."""

    def __init__(self, part: nn.Module) -> None:
        self.part = part

    def __call__(self, x: Tensor) -> Tensor:
        return self.part(x)  # type: ignore[no-any-return]


def _through(name: str, value: Callable[[Model], Any], use: Callable[[Any, Tensor], Tensor]) -> Callable[[], Model]:
    """A model that keeps `value` of itself as a plain attribute, and uses it."""

    def make() -> Model:
        model = Model(lambda m, x: use(getattr(m, name), x))
        object.__setattr__(model, name, value(model))
        return model

    return make


def _closure(m: Model) -> Callable[[Tensor], Tensor]:
    return lambda x: m.drop(m.norm(x))  # type: ignore[no-any-return]


def _default(m: Model) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor, parts: Any = (m.norm, m.drop), *, last: nn.Module = m.drop) -> Tensor:
        return last(parts[0](x))  # type: ignore[no-any-return]

    return call


def _changed(change: Callable[[Model], object], kind: type[Model] = Model) -> Callable[[], Model]:
    def make() -> Model:
        model = kind()
        change(model)
        return model

    return make


def _compiled_part(m: Model) -> None:
    m.norm = torch.compile(m.norm)  # type: ignore[assignment]


def _replaced_forward(m: Model) -> None:
    m.norm.forward = functools.partial(nn.BatchNorm2d.forward, m.norm)  # type: ignore[method-assign]


def _named_hook(m: Model) -> None:
    names = {part: name for name, part in m.named_modules()}
    m.norm.register_forward_hook(lambda part, _x, _y: CALLED.append(names[part]))


def _global_hook(m: Model) -> None:
    NAMES.update({part: name for name, part in m.named_modules()})
    m.norm.register_forward_hook(lambda part, _x, _y: CALLED.append(NAMES[part]))


HELD: dict[str, Callable[[], Model]] = {
    "by itself": Model,
    "a list": _through("parts", lambda m: [m.norm, m.drop], lambda p, x: p[1](p[0](x))),
    "nested": _through(
        "parts", lambda m: {"a": ([m.norm], {m.drop})}, lambda p, x: next(iter(p["a"][1]))(p["a"][0][0](x))
    ),
    "itself": _through("me", lambda m: m, lambda m, x: m.dropped(x)),
    "a method": _through("call", lambda m: m.dropped, lambda call, x: call(x)),
    "a closure": _through("call", _closure, lambda call, x: call(x)),
    "defaults": _through("call", _default, lambda call, x: call(x)),
    "partial": _through("call", lambda m: functools.partial(Model.dropped, m), lambda call, x: call(x)),
    "a weak reference": _through("parent", weakref.ref, lambda ref, x: ref().dropped(x)),
    "a module twice": _changed(lambda m: setattr(m, "again", m.norm)),
    "a forward of its own": _changed(_replaced_forward),
    "a hook that closes over it": _changed(_named_hook),
    "a compiled part": _changed(_compiled_part),
    "a compiled call": _changed(lambda m: m.norm.compile()),
    "DataParallel": _changed(lambda m: setattr(m, "norm", nn.DataParallel(m.norm))),
    "parametrised": _changed(lambda m: parametrizations.weight_norm(m.conv)),
    "spectral": _changed(lambda m: parametrizations.spectral_norm(m.conv)),
    "pruned": _changed(lambda m: prune.random_unstructured(m.conv, "weight", 0.5)),
}
# Where the model itself is run: what holds a part is everybody's, or not to be copied.
ITSELF: dict[str, Callable[[], Model]] = {
    "an object": _through("helper", lambda m: Helper(m.norm), lambda helper, x: helper(x)),
    "an object in an object": _through("helper", lambda m: Helper(Helper(m.norm)), lambda h, x: h(x)),  # type: ignore[arg-type]
    "an object whose random part": _through("helper", lambda m: Helper(Helper(m.drop)), lambda h, x: h(x)),  # type: ignore[arg-type]
    "a global of a hook": _changed(_global_hook),
    "slots": _changed(lambda m: None, Slotted),
    "a destructor": _changed(lambda m: None, Closing),
}


def built(make: Callable[[], Model]) -> Model:
    torch.manual_seed(0)
    model = make().train()
    model.head.eval()
    with torch.no_grad():
        for b in model.buffers():
            if b.is_floating_point() and b.numel() == 4:
                b.uniform_(0.5, 1.5)
    return model


def seen(model: nn.Module) -> dict[str, Any]:
    return {
        name: (m.training, sorted(vars(m)), list(m._forward_hooks), list(m._forward_pre_hooks),
               {k: (id(b), b.tolist()) for k, b in m._buffers.items() if b is not None})
        for name, m in model.named_modules()
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*torch.compile.*:UserWarning")
@pytest.mark.parametrize("kind", [*HELD, *ITSELF])
def test_a_model_in_train_mode_gives_what_it_gives_in_eval(kind: str) -> None:
    model = built({**HELD, **ITSELF}[kind])
    before = seen(model)
    rec = record(model, X)
    assert seen(model) == before
    found = rec.values[rec.outputs[""]]
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        wanted = model.eval()(X)
    assert found.equal(wanted)
    used = {path for path, calls in rec.calls.items() if calls}
    missed = {"drop"} if "norm)" in kind or kind == "an object" else set()
    assert {"", "conv", "head"} <= used - missed
    assert {"norm", "drop"} & used
    assert (model.conv.weight if kind not in ("parametrised", "spectral", "pruned") else model.head.weight).grad is None


@pytest.mark.parametrize("kind", list(HELD))
def test_the_stand_in_shares_parameters_and_nothing_that_a_pass_writes(kind: str) -> None:
    model = built(HELD[kind])
    twin = StandIn(model).module
    assert twin is not None and type(twin) is type(model)
    assert [n for n, _ in twin.named_modules(remove_duplicate=False)] == [
        n for n, _ in model.named_modules(remove_duplicate=False)
    ]
    assert not {id(m) for m in twin.modules()} & {id(m) for m in model.modules()}
    assert not any(m.training for m in twin.modules())
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    assert all(p is parameters[n] for n, p in twin.named_parameters())
    assert all(b is not buffers[n] and b.equal(buffers[n]) for n, b in twin.named_buffers())
    before = seen(model)
    for m in twin.modules():
        m.register_forward_hook(lambda *_: None)
        m.register_buffer("more", torch.zeros(1))
    assert seen(model) == before


@pytest.mark.parametrize("kind", ["an object", "a global of a hook", "slots", "a destructor"])
def test_what_cannot_be_copied_is_run_itself(kind: str) -> None:
    model = built(ITSELF[kind])
    CALLED.clear()
    assert StandIn(model).module is None
    gc.collect()
    assert "closed" not in CALLED
    with untouched(model) as run:
        assert run is model and not any(m.training for m in model.modules())
    assert model.training and not model.head.training


def test_a_part_that_runs_behind_the_stand_in_is_noticed_before_it_does_anything() -> None:
    model = built(ITSELF["an object in an object"])
    before = seen(model)
    assert StandIn(model).module is not None
    CALLED.clear()
    model.norm.register_forward_hook(lambda *_: CALLED.append("norm"))
    hooks = seen(model)
    record(model, X)
    assert CALLED == ["norm"]
    assert seen(model) == hooks and before["norm"][-1] == hooks["norm"][-1]
    with untouched(model) as run:
        assert run is model


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
def test_frozen_parameters_gather_no_gradients() -> None:
    def checkpointed(m: Model, x: Tensor) -> Tensor:
        return torch.utils.checkpoint.checkpoint(m.dropped, x, use_reentrant=True)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model = Model(checkpointed).train()
    given = torch.ones(4, 3, 3, 3)
    model.conv.weight.grad = given
    rec = record(model, X)
    (found,) = gradients(model, rec, rec.outputs[""], [torch.tensor([[0.0, 1.0, 0.0]])])
    assert model.conv.weight.grad is given and given.eq(1).all() and model.head.weight.grad is None
    x = X.clone().requires_grad_(True)
    model.use = None
    model.eval()(x)[0, 1].backward()
    assert x.grad is not None and torch.allclose(found, x.grad, atol=1e-7)


def test_passes_of_a_model_with_hooks_of_its_own_leave_these_alone() -> None:
    """Our hooks have a number that torch never gives: the user's stay, in their order."""
    model = built(Model)
    order: list[int] = []
    handles = [model.norm.register_forward_hook(lambda *_, n=n: order.append(n)) for n in range(3)]
    record(model, X)
    assert order == [0, 1, 2]
    for handle in handles:
        handle.remove()
    assert not model.norm._forward_hooks


@pytest.mark.parametrize("train", [True, False])
def test_what_is_remembered_in_eval_mode_is_not_left_in_a_model_in_train_mode(train: bool) -> None:
    """As timm's LeViT has it: biases are remembered in eval mode, and forgotten when `train()` is called."""
    torch.manual_seed(0)

    def biased(m: Any, x: Tensor) -> Tensor:
        if m.training:
            return m.dropped(x) + m.bias  # type: ignore[no-any-return]
        return m.dropped(x) + m.known.setdefault("cpu", m.bias.detach().clone())  # type: ignore[no-any-return]

    model: Any = Model(biased).train(train)
    model.bias, model.known = nn.Parameter(torch.ones(())), {}
    record(model, X)
    assert bool(model.known) != train
    with torch.no_grad():
        model.bias += 1  # a step of training
    if train:
        assert model.eval()(X).equal(Model.forward(model, X)) and model.known["cpu"] == 2


def test_nothing_of_a_stand_in_outlives_its_pass() -> None:
    model = built(HELD["itself"])  # which holds itself, and so does the stand-in
    record(model, X)
    gc.collect()
    before = sum(type(o) is nn.BatchNorm2d for o in gc.get_objects())
    for _ in range(5):
        record(model, X)
    gc.collect()
    assert sum(type(o) is nn.BatchNorm2d for o in gc.get_objects()) == before
