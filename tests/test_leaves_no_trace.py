"""Every public function leaves the model and torch's global state as they were, whatever happens on the way."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import deconvviz
from deconvviz import Network, project, receptive_field
from deconvviz.engine.recorder import record
from deconvviz.errors import UnknownNameError, UnsupportedOperatorError
from deconvviz.explorer.questions import Covered, Projected

HOOKS = [
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
    "_state_dict_hooks",
]


class Model(nn.Module):
    """Parts in different modes, a frozen parameter, one gradient, a hook of the user; `middle` makes trouble."""

    def __init__(self, middle: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.middle = middle
        self.drop = nn.Dropout(0.5)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(4)
        self.seen: list[str] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu1(self.bn1(self.conv1(x))))
        return self.bn2(self.conv2(self.drop(self.middle(x))))  # type: ignore[no-any-return]


def build(middle: Callable[[Tensor], Tensor]) -> Model:
    torch.manual_seed(0)
    model = Model(middle).train()
    model.bn1.eval()
    model.conv2.eval()
    model.conv1.weight.requires_grad_(False)
    model.conv2.weight.grad = torch.ones_like(model.conv2.weight)
    model.conv1.register_forward_hook(lambda m, a, out: model.seen.append("conv1"))
    return model


def state(model: nn.Module) -> dict[str, Any]:
    """Everything that could have changed, as plain values."""
    found: dict[str, Any] = {
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "function modes": torch._C._len_torch_function_stack(),
        "random": torch.get_rng_state().tolist(),
        "dtype": torch.get_default_dtype(),
        "stance": torch._dynamo.eval_frame._stance.stance,  # type: ignore[attr-defined]
    }
    for name, m in model.named_modules():
        found[f"{name} mode"] = m.training
        found[f"{name} attributes"] = sorted(vars(m))
        for kind in HOOKS:
            found[f"{name} {kind}"] = [(k, id(v)) for k, v in getattr(m, kind).items()]
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, t in tensors.items():
        grad = None if t.grad is None else (id(t.grad), t.grad.tolist())
        found[name] = (id(t), t.data_ptr(), t.tolist(), t.requires_grad, grad)
    return found


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    changed = [k for k in before.keys() | after.keys() if before.get(k) != after.get(k)]
    assert not changed


class Trouble(nn.Module):
    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error("in the middle")


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        t = x.flatten(2).transpose(1, 2)
        out: Tensor = self.attention(t, t, t, need_weights=False)[0]
        return out.transpose(1, 2).reshape(x.shape)


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum().item() > 0 else x


class BranchByBool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if (x > 0).any() else x


IMAGE = torch.randn(1, 3, 12, 10, generator=torch.Generator().manual_seed(2))


EVERY_METHOD = ("gradient", "deconvnet", "guided", "integrated-gradients", "smoothgrad", "grad-cam", "occlusion")

# Every public function that runs a model, by one call that reaches the layer bn2; a new function adds a line.
CALLS: dict[str, Callable[[nn.Module], object]] = {
    "project": lambda m: project(m, IMAGE, "bn2"),
    "project, gradient": lambda m: project(m, IMAGE, m.get_submodule("bn2"), method="gradient", seed="map"),
    "project, class": lambda m: project(Logits(m), IMAGE, "inner.bn2", units="class"),
    "occlude": lambda m: deconvviz.occlude(Logits(m), IMAGE, window=4, stride=4, layer="inner.bn2"),
    "record": lambda m: deconvviz.record(m, IMAGE).project("bn2"),
    "record, occlude": lambda m: deconvviz.record(Logits(m), IMAGE).occlude(window=4, stride=4, layer="inner.bn2"),
    "record, occluder": lambda m: deconvviz.record(Logits(m), IMAGE).occluder(4, layer="inner.bn2").at(2, 3),
    "sanity": lambda m: deconvviz.sanity(m, IMAGE, "bn2", top=2),
    "explain": lambda m: deconvviz.explain(Logits(m), IMAGE, layers=["inner.bn2"], top=2, window=4, stride=4),
    "explain, unchecked": lambda m: deconvviz.explain(Logits(m), IMAGE, top=1, window=4, stride=4, checks=False),
    "compare": lambda m: deconvviz.compare(Logits(m), IMAGE, EVERY_METHOD, steps=2, subsets=1),
    "compare, unit": lambda m: deconvviz.compare(m, IMAGE, ["guided"], layer="bn2", mode="unit", steps=2, subsets=1),
    "invariance": lambda m: deconvviz.invariance(Logits(m), IMAGE, 0, {"flip": [1]}, "inner.conv1", "inner.bn2"),
    "correspondence": lambda m: deconvviz.correspondence(m, [(IMAGE, {"a": [1, 1, 4, 4]})] * 2, ["bn2"], random=1),
    "filters": lambda m: deconvviz.filters(m, images=[IMAGE]),
    "filters, two": lambda m: deconvviz.filters(m, m),
    "evolve": lambda m: deconvviz.evolve({1: Network(m, (12, 10)), 2: m.state_dict()}, [IMAGE], "bn2", count=2),
    "probe": lambda m: deconvviz.probe(m, (IMAGE.repeat(4, 1, 1, 1), [0, 0, 1, 1]), "bn2", 1),
    "scan": lambda m: scan(m),
    "panels": lambda m: scan(m, lambda store, images: deconvviz.panels(m, store, "bn2", 0, images)),
    "panels_page": lambda m: scan(m, lambda store, images: deconvviz.panels_page(m, store, images=images)),
    "record, grid": lambda m: deconvviz.record(Logits(m), IMAGE).occluder(4, layer="inner.bn2").grid([0, 2], [3]),
    "record, contributions": lambda m: deconvviz.record(Logits(m), IMAGE).contributions("inner.bn2"),
    "explore": lambda m: explored(Logits(m)),
    "layers": lambda m: Network(m, (12, 10)).layers(),
    "receptive_field": lambda m: receptive_field(Network(m, (12, 10)), "bn2", (0, 0)),
    "preprocess": lambda m: Network(m, (12, 10)).preprocess(IMAGE),
    "weights_hash": lambda m: Network(m).weights_hash(),
    "facts": lambda m: Network(m).facts(),
    "provenance": lambda m: Network(m).provenance(),
    "inputs": lambda m: Network(m).inputs(IMAGE),
    "carried": lambda m: Network(m).carried(m),
    "adjusted": lambda m: Network(m).adjusted(input_size=8),
    "record_to": lambda m: Network(m).record_to(IMAGE, "bn2"),
    "find_layer": lambda m: Network(m).find_layer(record(m, IMAGE), "bn2"),
    "read_out": lambda m: Network(m).read_out(record(Logits(m), IMAGE), "this"),
}
# A public function of a model, pictures and layers that has no line is called with these alone.
BY_ITSELF = {
    name for name in deconvviz.__all__
    if inspect.isfunction(function := getattr(deconvviz, name)) and name not in CALLS
    and list(inspect.signature(function).parameters)[:3] == ["model", "images", "layers"]
}  # fmt: skip
CALLS.update({name: lambda m, name=name: getattr(deconvviz, name)(m, IMAGE, ["bn2"]) for name in BY_ITSELF})
# These run no forward pass, so nothing in one can fail.
NO_PASS = {"preprocess", "inputs", "weights_hash", "facts", "provenance", "carried", "adjusted"}
# These only read values, for which no operator needs a rule.
NO_RULE = {
    "record_to",
    "find_layer",
    "read_out",
    "correspondence",
    "invariance",
    "filters",
    "filters, two",
    "probe",
    "scan",
}
NO_RULE |= BY_ITSELF  # what reads layers and sends nothing back
NO_RULE |= {
    "project, gradient",
    "explain",
    "explain, unchecked",
    "occlude",
    "record, occlude",
    "record, occluder",
    "record, grid",
    "record, contributions",
    "explore",
    "layers",
    "receptive_field",
}  # and these know what to do without one


def scan(model: nn.Module, read: Callable[[deconvviz.Store, TensorDataset], object] | None = None) -> None:
    """Two pictures, into a store that goes away again; `read` makes something of it first."""
    pictures = TensorDataset(IMAGE.repeat(2, 1, 1, 1), torch.tensor([0, 1]))
    with (
        tempfile.TemporaryDirectory() as folder,
        deconvviz.scan(model, pictures, ["bn2"], top=2, store=Path(folder) / "store.sqlite", workers=0) as store,
    ):
        if read is not None:
            read(store, pictures)


def explored(model: nn.Module) -> None:
    """What a page asks."""
    net = Network(model, (12, 10), mean=(0.0,) * 3, std=(1.0,) * 3)
    with deconvviz.explore(net, IMAGE) as page:
        session = page._session
        (shown,) = session.pictures.listed()
        session.cover(shown["id"], Covered((4, 4), layer="inner.bn2", place=(2, 3)))
        session.projection(shown["id"], Projected("inner.conv1", 0))


class Logits(nn.Module):
    """A model as a part of another: its maps averaged to logits."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).mean((2, 3))  # type: ignore[no-any-return]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt("in a hook")


def with_hook(hook: Callable[..., None], before: bool) -> Model:
    """A model with a hook of the user that raises, before or after the last convolution."""
    model = build(nn.Identity())
    if before:
        model.conv2.register_forward_pre_hook(hook)
    else:
        model.conv2.register_forward_hook(hook)
    return model


# What can go wrong, by the model that does it and what is raised.
FAILURES: dict[str, tuple[Callable[[], Model], type[BaseException] | None]] = {
    "nothing": (lambda: build(nn.Identity()), None),
    "exception in the model": (lambda: build(Trouble(RuntimeError)), RuntimeError),
    "KeyboardInterrupt in the model": (lambda: build(Trouble(KeyboardInterrupt)), KeyboardInterrupt),
    "KeyboardInterrupt in a pre-hook": (lambda: with_hook(interrupt, True), KeyboardInterrupt),
    "KeyboardInterrupt in a hook": (lambda: with_hook(interrupt, False), KeyboardInterrupt),
    "operator that cannot be recorded": (lambda: build(Branch()), UnsupportedOperatorError),
    "operator without a rule": (lambda: build(Multiplied()), UnsupportedOperatorError),
}


@pytest.mark.parametrize("failure", list(FAILURES))
@pytest.mark.parametrize("call", list(CALLS))
def test_every_function_after_every_failure(call: str, failure: str) -> None:
    make, error = FAILURES[failure]
    if call in NO_PASS or (call in NO_RULE and failure == "operator without a rule"):
        error = None
    warned = call == "layers" and failure == "operator that cannot be recorded"  # it lists those before
    model = make()
    before = state(model)
    for _ in range(2):  # the second call may stop early
        if warned:
            with pytest.warns(deconvviz.DeconvvizWarning, match="up to where the recording ended"):
                CALLS[call](model)
        elif error is None:
            CALLS[call](model)
        else:
            with pytest.raises(error):
                CALLS[call](model)
        assert_same(before, state(model))


class Onlooker:
    """A hook that looks at a model from another thread, in the middle of every pass."""

    def __init__(self, look: Callable[[], dict[str, Any]]) -> None:
        self.looks = [[look]]  # two lists deep: what looks at the model itself is not replaced by a stand-in's
        self.seen: list[dict[str, Any]] = []

    def __call__(self, *_: object) -> None:
        with ThreadPoolExecutor(1) as other:
            self.seen.append(other.submit(self.looks[0][0]).result())

    def __deepcopy__(self, memo: object) -> Onlooker:
        return self


@pytest.mark.parametrize("call", list(CALLS))
def test_no_other_thread_sees_anything_of_it_meanwhile(call: str) -> None:
    model = build(nn.Identity())

    def look() -> dict[str, Any]:
        # Compilation is off for all threads meanwhile, and the generator is that of all threads.
        return {k: v for k, v in state(model).items() if k not in ("stance", "random")}

    onlooker = Onlooker(look)
    model.conv2.register_forward_hook(onlooker)
    onlooker()
    CALLS[call](model)
    assert (len(onlooker.seen) > 1) == (call not in NO_PASS)
    for seen in onlooker.seen[1:]:
        assert_same(onlooker.seen[0], seen)


def test_every_public_function_that_takes_a_model_is_walked() -> None:
    public = {name: getattr(deconvviz, name) for name in deconvviz.__all__}
    runs = {n for n, f in public.items() if inspect.isfunction(f) and "model" in inspect.signature(f).parameters}
    methods = {n for n, f in vars(Network).items() if inspect.isfunction(f) and not n.startswith("_")}
    walked = {name.partition(",")[0] for name in CALLS}
    # `denormalise` only scales the tensor that it is given; the others only read the card.
    card = {"numbered", "class_number", "check_normalises", "check_takes_pictures", "shown_region", "preparation"}
    assert runs | methods - {"denormalise", *card} == walked, "add a line to CALLS"


@pytest.mark.parametrize("layer", ["conv1", "middle", "bn2"])
@pytest.mark.parametrize("method", ["deconvnet", "guided", "gradient"])
def test_after_success(method: str, layer: str) -> None:
    model = build(nn.Identity())
    before = state(model)
    first = project(model, IMAGE, layer, top=3, method=method)
    assert_same(before, state(model))
    second = project(model, IMAGE, layer, top=3, method=method)  # stops early, by the plan of the first pass
    assert_same(before, state(model))
    assert first.pixels.equal(second.pixels)
    assert model.seen  # the hook of the user ran as it is


def test_a_model_in_train_mode_runs_in_eval() -> None:
    model = build(nn.Identity())
    trained = project(model, IMAGE, "bn2")
    assert trained.pixels.equal(project(model.eval(), IMAGE, "bn2").pixels)


@pytest.mark.parametrize("grad", [True, False])
def test_in_every_grad_mode(grad: bool) -> None:
    model = build(nn.Identity())
    plain = project(model, IMAGE, "bn2").pixels
    with torch.set_grad_enabled(grad):
        before = state(model)
        assert project(model, IMAGE, "bn2", method="gradient").pixels.requires_grad is False
        assert_same(before, state(model))
    with torch.inference_mode():
        before = state(model)
        assert project(model, IMAGE, "bn2").pixels.equal(plain)
        assert_same(before, state(model))


@pytest.mark.parametrize("error", [RuntimeError, KeyError, KeyboardInterrupt, SystemExit])
def test_after_an_exception_in_the_middle(error: type[BaseException]) -> None:
    model = build(Trouble(error))
    before = state(model)
    with pytest.raises(error, match="in the middle"):
        project(model, IMAGE, "bn2")
    assert_same(before, state(model))


def test_after_an_exception_in_a_hook_of_the_user() -> None:
    def refuse(*_: object) -> None:
        raise ValueError("from the hook")

    model = build(nn.Identity())
    model.conv2.register_forward_hook(refuse)
    before = state(model)
    with pytest.raises(ValueError, match="from the hook"):
        project(model, IMAGE, "bn2")
    assert_same(before, state(model))


def test_after_an_unknown_layer() -> None:
    model = build(nn.Identity())
    before = state(model)
    with pytest.raises(UnknownNameError, match="bn3.*did you mean 'bn"):
        project(model, IMAGE, "bn3")
    assert_same(before, state(model))


UNSUPPORTED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "attention": (Attention, "middle"),
    "item": (Branch, "middle"),
    "bool": (BranchByBool, "middle"),
    "cumprod": (lambda: Multiplied(), "middle"),
}
# What `gradient` can do all the same.
DIFFERENTIABLE = {"attention", "cumprod"}


class Multiplied(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumprod(1)


@pytest.mark.parametrize("method", ["deconvnet", "guided", "gradient"])
@pytest.mark.parametrize("kind", list(UNSUPPORTED))
def test_an_operator_without_a_rule_is_named(kind: str, method: str) -> None:
    make, where = UNSUPPORTED[kind]
    model = build(make())
    before = state(model)
    if method == "gradient" and kind in DIFFERENTIABLE:
        assert project(model, IMAGE, "bn2", method=method).pixels.any()
        assert_same(before, state(model))
        return
    with pytest.raises(UnsupportedOperatorError, match=rf"^operator '\w+' in layer '{where}[.\w]*'") as caught:
        project(model, IMAGE, "bn2", method=method)
    assert "\n" not in str(caught.value)
    assert_same(before, state(model))


def test_what_comes_after_the_layer_needs_no_rule() -> None:
    """The walk goes from the layer to the image: a product behind it is only run."""
    model = build(Multiplied())
    assert project(model, IMAGE, "pool", top=2).pixels.abs().sum() > 0


def test_a_forward_that_swallows_exceptions_still_stops() -> None:
    class Swallows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.conv(x)  # type: ignore[no-any-return]
            except Exception:
                return x

    model = build(Swallows())
    first = project(model, IMAGE, "middle.conv")
    before = state(model)
    assert project(model, IMAGE, "middle.conv").pixels.equal(first.pixels)
    assert_same(before, state(model))


def test_buffers_written_in_forward_come_back() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x

    model = build(Counts())
    before = state(model)
    project(model, IMAGE, "bn2")
    assert_same(before, state(model))


def test_the_picture_is_not_changed() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x.sub_(0.5))  # type: ignore[no-any-return]

    image = IMAGE.clone().requires_grad_(True)
    p = project(InPlace(), image, "conv")
    assert image.detach().equal(IMAGE) and image.grad is None
    assert p.image.equal(IMAGE[0])
