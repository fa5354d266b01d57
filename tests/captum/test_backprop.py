"""Deconvolution and guided backpropagation: captum's own answers where it knows all ReLUs, its twin's where not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import captum.attr
import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
import torchvision
from torch import Tensor, nn

import deconvviz
import deconvviz.captum
from deconvviz import DeconvvizTypeError, DeconvvizValueError, DeconvvizWarning, UnsupportedOperatorError

# captum says of its own classes that they hang hooks on the model, and ask the inputs for gradients.
pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU", "ignore:Input Tensor")

METHODS = ["Deconvolution", "GuidedBackprop"]


def theirs(method: str, model: nn.Module, *more: Any) -> Any:
    return getattr(captum.attr, method)(model, *more)


def ours(method: str, model: Any, *more: Any) -> Any:
    return getattr(deconvviz.captum, method)(model, *more)


def numbers(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Where captum is right ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["alexnet", "vgg11_bn", "resnet18", "squeezenet1_1", "shufflenet_v2_x0_5"])
def test_networks_that_captum_handles(name: str, method: str, one_thread: None) -> None:
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None).eval().double()
    x = numbers(2, 3, 64, 64)
    answer = theirs(method, model).attribute(x.clone(), target=[3, 5])
    found = ours(method, model).attribute(x, target=[3, 5])
    assert answer.any() and found.dtype == x.dtype
    torch.testing.assert_close(found, answer, rtol=1e-9, atol=0)


class Several(nn.Module):
    """Of a picture, a vector and a number that is no tensor; classes in a grid."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv, self.first, self.norm = nn.Conv2d(2, 3, 3), nn.ReLU(), nn.BatchNorm2d(3)
        self.side, self.second = nn.Linear(5, 12), nn.ReLU()
        self.last = nn.Linear(12, 12)

    def forward(self, x: Tensor, v: Tensor, times: float = 1, flat: bool = False) -> Tensor:
        h = self.first(self.norm(self.conv(x))).mean(3).flatten(1) * times
        out: Tensor = self.last(self.second(h + self.side(v)))
        return out if flat else out.view(-1, 3, 4)


INPUTS = (numbers(3, 2, 6, 6), numbers(3, 5, seed=2))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("target", "more"),
    [
        ((1, 2), None), ([(0, 1), (1, 2), (2, 3)], 2.0), (3, (0.5, True)), (torch.tensor(3), (0.5, True)),
        (torch.tensor([3]), (0.5, True)), (torch.tensor([3, 0, 11]), (0.5, True)), ([3, 0, 11], (1, True)),
    ],
)  # fmt: skip
def test_targets_and_several_inputs(method: str, target: Any, more: Any) -> None:
    model = Several().double().eval()
    answer = theirs(method, model).attribute(tuple(x.clone() for x in INPUTS), target, more)
    found = ours(method, model).attribute(INPUTS, target, more)
    assert isinstance(found, tuple) and all(a.any() for a in answer)
    torch.testing.assert_close(found, answer, rtol=1e-12, atol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("at_input", [False, True])
@pytest.mark.parametrize(
    ("layer", "selector"),
    [
        ("norm", (1, 2, 3)), ("norm", (1, slice(0, 3), slice(None, None, 2))), ("last", 4),
        ("norm", lambda value: value[:, 0].amax((1, 2))), ("second", (slice(2, 7),)),
    ],
)  # fmt: skip
def test_neurons(method: str, layer: str, selector: Any, at_input: bool) -> None:
    model = Several().double().eval()
    # What comes into these has the shape of what comes out.
    part = model.get_submodule(layer)
    x, v = INPUTS
    found = ours(f"Neuron{method}", model, part).attribute(INPUTS, selector, None, at_input)
    if layer == "norm":  # which the vector has no part in: captum refuses it as an input
        answer = theirs(f"Neuron{method}", model, part).attribute(x.clone(), selector, v, at_input)
        assert not found[1].any()
        torch.testing.assert_close(found[0], answer, rtol=1e-12, atol=0)
    else:
        answer = theirs(f"Neuron{method}", model, part).attribute((x.clone(), v.clone()), selector, None, at_input)
        torch.testing.assert_close(found, answer, rtol=1e-12, atol=0)


@pytest.mark.parametrize("method", ["deconvnet", "guided"])
def test_times_the_activation_it_is_the_projection(method: str) -> None:
    torch.manual_seed(0)
    model = torchvision.models.vgg11_bn(weights=None).eval().double()
    x = numbers(1, 3, 64, 64)
    layer = model.features[13]
    p = deconvviz.project(model, x, layer, top=2, method=method)
    neuron = ours("NeuronDeconvolution" if method == "deconvnet" else "NeuronGuidedBackprop", model, layer)
    for unit, place, activation, pixels in zip(p.units, p.places, p.activations, p.pixels, strict=True):
        found = neuron.attribute(x, (int(unit), *place.tolist()))
        torch.testing.assert_close(activation * found[0], pixels, rtol=1e-9, atol=1e-12)


# Where captum is not --------------------------------------------------------------------------------------------------


def into_parts(x: Tensor) -> Tensor:
    """A ReLU on one half of the maps, in place, and on the other a bound."""
    first, second = x.clone(), x.clone()
    first[:, :2].relu_()
    second[:, 2:].clamp_(min=0)
    return torch.cat([first[:, :2], second[:, 2:]], 1)


SPELLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "F.relu": F.relu,
    "F.relu, in place": lambda x: F.relu(x, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "x.relu": lambda x: x.relu(),
    "x.relu_": lambda x: x.relu_(),
    "nn.ReLU, reused": nn.ReLU(),
    "nn.ReLU, in place": nn.ReLU(inplace=True),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "nn.Threshold": nn.Threshold(0, 0.0),
    "clamp": lambda x: x.clamp(0),
    "clamp, by name": lambda x: torch.clamp(input=x, min=0.0),
    "clamp_": lambda x: x.clamp_(min=0),
    "clip": lambda x: torch.clip(x, 0, None),
    "clamp_min": lambda x: torch.clamp_min(x, 0),
    "clamp_min_": lambda x: x.clamp_min_(0),
    "maximum": lambda x: torch.maximum(x, torch.zeros(())),
    "maximum, turned round": lambda x: torch.maximum(torch.zeros_like(x), x),
    "max": lambda x: torch.max(x, torch.zeros_like(x)),
    "hardtanh": lambda x: F.hardtanh(x, 0, 1e9),
    "through views": lambda x: torch.cat([half.relu_() for half in (x.clone()[:, :2], x.clone()[:, 2:])], 1),
    "written into a part": into_parts,
    "recomputed": lambda x: torch.utils.checkpoint.checkpoint(F.relu, x, use_reentrant=False),  # type: ignore[no-any-return]
}


class Spelt(nn.Module):
    """Three layers with a ReLU behind two, and a skip around one."""

    def __init__(self, first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.c = nn.Linear(4, 3)
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(self.a(x))
        out: Tensor = self.c((self.second(self.b(h)) + h).mean((2, 3)))
        return out


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("spelling", list(SPELLINGS))
def test_every_spelling_of_relu(spelling: str, method: str) -> None:
    twin = Spelt(nn.ReLU(), nn.ReLU()).double()
    x = numbers(3, 2, 7, 7)
    answer = theirs(method, twin).attribute(x.clone(), target=[0, 2, 1])
    relu = SPELLINGS[spelling]
    found = ours(method, Spelt(relu, relu).double()).attribute(x, target=[0, 2, 1])
    torch.testing.assert_close(found, answer, rtol=1e-12, atol=0)


class Bounded(torch.autograd.Function):
    """A ReLU6 with the DeconvNet's backward pass, or that of guided backpropagation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, guided: bool) -> Tensor:
        """The input between 0 and 6."""
        ctx.save_for_backward(x)
        ctx.guided = guided
        return x.clamp(0, 6)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """What is positive; guided, where the input is between the bounds."""
        (x,) = ctx.saved_tensors
        passed = gradients[0] * (gradients[0] > 0)
        return (passed * ((x > 0) & (x < 6)) if ctx.guided else passed), None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "relu", [F.relu6, nn.ReLU6(inplace=True), lambda x: x.clamp(0, 6), lambda x: torch.clip_(x, 0.0, 6.0)]
)
def test_relu6(relu: Callable[[Tensor], Tensor], method: str) -> None:
    def oracle(x: Tensor) -> Tensor:
        return Bounded.apply(x, method == "GuidedBackprop")  # type: ignore[no-any-return, no-untyped-call]

    x = (numbers(2, 2, 7, 7) * 9).requires_grad_()
    (answer,) = torch.autograd.grad(Spelt(oracle, oracle).double()(x)[:, 1].sum(), x)
    found = ours(method, Spelt(relu, relu).double()).attribute(x, target=1)
    torch.testing.assert_close(found, answer, rtol=1e-12, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_relu_is_left_to_autograd(method: str) -> None:
    def others(x: Tensor) -> Tensor:
        x = torch.maximum(x, x * 0.5 - 1).clamp(-1, 2).clamp(max=1.5) + torch.maximum(x, torch.full_like(x, 0.5))
        return F.threshold(x, 0.3, 0) * torch.sigmoid(x) + x.max(3, keepdim=True)[0]

    x = numbers(2, 2, 7, 7).requires_grad_()
    (answer,) = torch.autograd.grad(Spelt(others, others).double()(x)[:, 1].sum(), x)
    torch.testing.assert_close(ours(method, Spelt(others, others).double()).attribute(x, target=1), answer)


@pytest.mark.parametrize("method", METHODS)
def test_googlenet_whose_relus_are_functions(method: str, one_thread: None) -> None:
    torch.manual_seed(0)
    model = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False).eval().double()
    x = numbers(1, 3, 64, 64)
    found = ours(method, model).attribute(x, target=7)
    missed = theirs(method, model).attribute(x.clone(), target=7)
    gradient = captum.attr.Saliency(model).attribute(x.clone(), target=7, abs=False)
    torch.testing.assert_close(missed, gradient, rtol=1e-9, atol=0)  # captum sees none of the 57
    # The same network with modules.
    blocks = {name: m for name, m in model.named_modules() if type(m).__name__ == "BasicConv2d"}
    for name, block in blocks.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, nn.Sequential(block.conv, block.bn, nn.ReLU()))
    assert len(blocks) == 57
    answer = theirs(method, model).attribute(x.clone(), target=7)
    torch.testing.assert_close(found, answer, rtol=1e-9, atol=0)


class Known(nn.Module):
    """A ReLU6 whose backward pass is written out."""

    def __init__(self, guided: bool) -> None:
        super().__init__()
        self.guided = guided

    def forward(self, x: Tensor) -> Tensor:
        return Bounded.apply(x, self.guided)  # type: ignore[no-any-return, no-untyped-call]


@pytest.mark.parametrize("method", METHODS)
def test_mobilenet_whose_relus_are_bounded(method: str, one_thread: None) -> None:
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v2(weights=None).eval().double()
    x = numbers(1, 3, 64, 64)
    found = ours(method, model).attribute(x, target=7)
    missed = theirs(method, model).attribute(x.clone(), target=7)
    gradient = captum.attr.Saliency(model).attribute(x.clone(), target=7, abs=False)
    torch.testing.assert_close(missed, gradient, rtol=1e-9, atol=0)  # captum sees none of the 35
    relus = [name for name, m in model.named_modules() if isinstance(m, nn.ReLU6)]
    for name in relus:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, Known(method == "GuidedBackprop"))
    assert len(relus) == 35
    leaf = x.requires_grad_()
    (answer,) = torch.autograd.grad(model(leaf)[0, 7], leaf)
    assert answer.any()
    torch.testing.assert_close(found, answer, rtol=1e-9, atol=0)


def test_a_skip_past_the_relu_is_not_rectified() -> None:
    class Past(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            y = x * 1
            return (self.relu(y) - y).sum((1, 2, 3))

    x = -torch.ones(1, 1, 2, 2)
    assert theirs("GuidedBackprop", Past()).attribute(x.clone()).eq(0).all()
    assert ours("GuidedBackprop", Past()).attribute(x).eq(-1).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_skip_past_the_relu_counts(method: str) -> None:
    class Past(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            y = x * 1
            return (y + 3 * self.relu(y)).sum((1, 2, 3))

    x = torch.ones(1, 1, 2, 2)
    # captum's hook writes over what came past the ReLU.
    assert theirs(method, Past()).attribute(x.clone()).eq(3 if method == "Deconvolution" else 4).all()
    assert ours(method, Past()).attribute(x).eq(4).all()


def test_other_activations_are_named() -> None:
    model = Spelt(nn.GELU(), nn.SiLU()).double()
    with pytest.warns(DeconvvizWarning, match="GuidedBackprop rectifies at ReLUs, and this model also has gelu, silu"):
        ours("GuidedBackprop", model).attribute(numbers(1, 2, 7, 7), target=0)


def test_a_compiled_model_and_a_network() -> None:
    model = Spelt(F.relu, F.relu).double()
    x = numbers(1, 2, 7, 7)
    answer = ours("Deconvolution", model).attribute(x, target=1)
    torch.testing.assert_close(ours("Deconvolution", torch.compile(model)).attribute(x, target=1), answer)
    torch.testing.assert_close(ours("Deconvolution", deconvviz.Network(model)).attribute(x, target=1), answer)
    torch.testing.assert_close(ours("Deconvolution", nn.DataParallel(model)).attribute(x, target=1), answer)


# Left as it was -------------------------------------------------------------------------------------------------------


class Trained(nn.Module):
    """In train mode, with statistics that a pass changes, a gradient, a hook of the user's."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.conv, self.norm, self.relu, self.last = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Linear(3, 4)
        self.fails = False
        self.conv.weight.grad = torch.ones_like(self.conv.weight)
        self.conv.register_forward_hook(lambda *_: None)

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.norm(self.conv(x)))
        if self.fails:
            raise KeyError("the model's own")
        return self.last(h.mean((2, 3)))  # type: ignore[no-any-return]


def state(model: nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = {"modes": [m.training for m in model.modules()]}
    for name, m in model.named_modules():
        found[name] = [dict(hooks) for key, hooks in sorted(vars(m).items()) if "hooks" in key and hooks is not None]
    tensors = [*model.named_parameters(), *model.named_buffers()]
    found |= {name: (t.tolist(), t.requires_grad, None if t.grad is None else t.grad.tolist()) for name, t in tensors}
    return found


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("method", [*METHODS, "NeuronDeconvolution", "NeuronGuidedBackprop"])
def test_model_and_inputs_stay_as_they_are(method: str, fails: bool) -> None:
    model = Trained().double()
    answer = theirs("GuidedBackprop", Trained().double()).attribute(numbers(4, 2, 6, 6), target=1)
    model.fails = fails
    before = state(model)
    x = numbers(4, 2, 6, 6)
    attribution = ours(method, model, *((model.norm,) if "Neuron" in method else ()))
    choice = (0, 1, 1) if "Neuron" in method else 1
    with torch.inference_mode():
        if fails:
            with pytest.raises(KeyError, match="the model's own"):
                attribution.attribute(x, choice)
        else:
            found = attribution.attribute(x, choice)
            assert method != "GuidedBackprop" or torch.allclose(found, answer)  # by its own statistics of this batch
    assert state(model) == before and not x.requires_grad and x.grad is None
    assert torch._C._len_torch_dispatch_stack() == torch._C._len_torch_function_stack() == 0


# What does not fit ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (12, "index 12 is out of bounds for dimension 1 with size 12"),
        ((1, 2, 3), "Cannot choose target column"),
        (None, "allowed: one for each example"),
        ([1, 2], "Target list length does not match output"),
        ("cat", "Target type <class 'str'> is not valid"),
    ],
)
def test_targets_that_do_not_fit(target: Any, line: str) -> None:
    with pytest.raises(DeconvvizValueError, match=line) as caught:
        ours("Deconvolution", Several().double()).attribute(INPUTS, target, (1, True))
    assert isinstance(caught.value, AssertionError) and isinstance(caught.value, IndexError)
    assert "\n" not in str(caught.value)


def test_other_things_that_do_not_fit() -> None:
    model = Several().double()
    with pytest.raises(DeconvvizTypeError, match="inputs\\[1\\] is torch.int64; allowed: floating point"):
        ours("Deconvolution", model).attribute((INPUTS[0], torch.ones(3, 5, dtype=torch.int64)), (0, 0))
    with pytest.raises(DeconvvizTypeError, match="inputs is a str; allowed: a tensor"):
        ours("Deconvolution", model).attribute("image.jpg", (0, 0))
    with pytest.raises(DeconvvizTypeError, match="model is a function; allowed: a torch.nn.Module or a Network"):
        ours("GuidedBackprop", F.relu)
    with pytest.raises(DeconvvizTypeError, match="layer is a str; allowed: a torch.nn.Module"):
        ours("NeuronDeconvolution", model, "norm")
    with pytest.raises(DeconvvizValueError, match="Forward hook did not obtain any outputs"):
        ours("NeuronDeconvolution", model, nn.ReLU()).attribute(INPUTS, 0)
    with pytest.raises(UnsupportedOperatorError, match="does not depend on the inputs"):
        ours("Deconvolution", Spelt(lambda x: x.detach(), F.relu).double()).attribute(numbers(1, 2, 7, 7), 0)
    with pytest.warns(FutureWarning, match="deprecated"):
        script = torch.jit.script(nn.Sequential(nn.ReLU()))
    with pytest.raises(UnsupportedOperatorError, match="script module"):
        ours("Deconvolution", script).attribute(numbers(1, 2), 0)
