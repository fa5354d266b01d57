"""Recording a forward pass: values, module calls, in-place writes, stopping, refusals."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms

from deconvviz import occlude, project
from deconvviz.engine.layers import find_layer, record_to
from deconvviz.engine.passes import unwrap
from deconvviz.engine.recorder import record
from deconvviz.engine.recording import Recording
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnknownNameError, UnsupportedOperatorError


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Net(nn.Module):
    """A ReLU that writes in place and is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.ran: list[str] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        self.ran.append("first half")
        x = self.pool(self.relu(self.conv2(x)))
        self.ran.append("second half")
        return x


def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


IMAGE = torch.randn(1, 3, 10, 9, generator=torch.Generator().manual_seed(1))


def value(rec: Recording, module: nn.Module, layer: str | nn.Module, **aliases: str) -> Tensor:
    return rec.values[find_layer(rec, module, layer, aliases).value]


def names(rec: Recording) -> list[str]:
    return [op.name for op in rec.ops]


# What is recorded -----------------------------------------------------------------------------------------------------


def test_operators_values_and_modules() -> None:
    model = net()
    rec = record(model, IMAGE)
    assert names(rec) == ["convolution", "relu_", "convolution", "relu_", "max_pool2d_with_indices"]
    assert [op.module for op in rec.ops] == ["conv1", "relu", "conv2", "relu", "pool"]
    assert rec.values[0].equal(IMAGE) and rec.complete
    assert rec.output is not None and rec.values[rec.output].equal(model(IMAGE).detach())
    for op in rec.ops:
        assert all(rec.producer[v] is op for v in op.outputs if v is not None)
    assert rec.consumers(0) == rec.ops[:1]


def test_a_value_is_as_it_was_before_a_later_write() -> None:
    model = net()
    rec = record(model, IMAGE)
    conv1 = model.conv1(IMAGE).detach()
    assert value(rec, model, "conv1").equal(conv1)
    assert value(rec, model, "relu#0").equal(conv1.relu())
    conv2 = model.conv2(conv1.relu()).detach()
    assert value(rec, model, model.conv2).equal(conv2)
    assert value(rec, model, "relu#1").equal(conv2.relu())
    assert value(rec, model, "relu").equal(conv2.relu()), "the last call when none is named"


def test_filling_an_operator_gives_its_output_again() -> None:
    rec = record(net(), IMAGE)
    for op in rec.ops:
        args, kwargs = rec.fill(op)
        out = op.func(*[a.clone() if op.name == "relu_" and isinstance(a, Tensor) else a for a in args], **kwargs)
        first = out[0] if isinstance(out, tuple) else out
        assert op.outputs[0] is not None and first.equal(rec.values[op.outputs[0]])
    args, _ = rec.fill(rec.ops[0], {0: torch.zeros_like(IMAGE)})
    assert not args[0].any()


def test_what_does_not_depend_on_the_image_is_a_constant() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 4, 3)
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    normed.load_state_dict(nn.utils.parametrizations.weight_norm(plain).state_dict())
    assert names(record(nn.Sequential(normed), IMAGE)) == ["convolution"]
    masked = Function(lambda x: x * (torch.arange(9) > 3).float().exp())
    assert names(record(masked, IMAGE)) == ["mul"]
    assert names(record(Function(lambda x: x + torch.zeros_like(x)), IMAGE)) == ["add"]


def test_local_response_norm_is_one_operator() -> None:
    rec = record(nn.Sequential(nn.LocalResponseNorm(3), nn.ReLU()), IMAGE)
    assert names(rec) == ["local_response_norm", "relu"]
    assert rec.values[rec.ops[0].outputs[0] or 0].equal(F.local_response_norm(IMAGE, 3))


def test_dropout_in_a_train_mode_model_is_off() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.9), nn.ReLU()).train()
    rec = record(model, IMAGE)
    assert rec.output is not None and rec.values[rec.output].equal(model.eval()(IMAGE).detach())


def test_one_module_under_two_names() -> None:
    shared = nn.Conv2d(3, 3, 3)
    model = nn.ModuleDict({"a": shared, "b": shared})
    model.forward = lambda x: model["b"](model["a"](x))  # type: ignore[method-assign]
    rec = record(model, IMAGE)
    assert value(rec, model, "a#0").equal(shared(IMAGE).detach())
    assert value(rec, model, "b#1").equal(shared(shared(IMAGE)).detach())


# Choosing a layer -----------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, twice: bool) -> None:
        super().__init__()
        self.conv, self.bn, self.relu, self.pool = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
        self.twice = twice

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        z = self.relu(y)
        return self.pool(z + y if self.twice else z)  # type: ignore[no-any-return]


def test_an_alias_goes_on_to_the_activation() -> None:
    model = Block(twice=False).eval()
    rec = record(model, IMAGE)
    assert value(rec, model, "1", **{"1": "conv"}).equal(value(rec, model, "relu"))
    assert not value(rec, model, "conv").equal(value(rec, model, "relu"))


def test_an_alias_stops_where_a_value_is_read_twice() -> None:
    model = Block(twice=True).eval()
    rec = record(model, IMAGE)
    assert value(rec, model, "1", **{"1": "conv"}).equal(value(rec, model, "bn"))


@pytest.mark.parametrize(
    ("layer", "error", "text"),
    [
        ("conv3", UnknownNameError, "unknown layer 'conv3'; did you mean 'conv"),
        ("qqqqqq", UnknownNameError, "known are .*conv1"),
        ("", UnknownNameError, "unknown layer ''"),
        ("relu#2", DeconvvizValueError, "called 2 times; '#2' is not one of 0 to 1"),
        ("relu#x", DeconvvizValueError, "'#x'"),
        (nn.ReLU(), UnknownNameError, "not a part of the model"),
        (5, DeconvvizTypeError, "int"),
    ],
)
def test_a_wrong_layer(layer: str, error: type[Exception], text: str) -> None:
    model = net()
    with pytest.raises(error, match=text):
        find_layer(record(model, IMAGE), model, layer, {})


def test_a_layer_that_does_not_run() -> None:
    model = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Tanh()})
    model.forward = lambda x: model["a"](x)  # type: ignore[method-assign]
    with pytest.raises(DeconvvizValueError, match="'b' did not run"):
        find_layer(record(model, IMAGE), model, "b", {})


# Stopping at the layer ------------------------------------------------------------------------------------------------


def test_the_second_pass_stops_at_the_layer() -> None:
    model = net()
    first, target = record_to(model, IMAGE, "conv1", {})
    assert first.complete and model.ran == ["first half", "second half"]
    model.ran.clear()
    second, again = record_to(model, IMAGE, "conv1", {})
    assert not second.complete and model.ran == [] and again == target
    assert second.values[target.value].equal(first.values[target.value])


def test_a_changed_model_is_not_stopped_by_the_old_plan() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    record_to(model, IMAGE, "2", {})
    model[1] = nn.Tanh()
    rec, target = record_to(model, IMAGE, "2", {})
    assert rec.complete and rec.values[target.value].equal(model(IMAGE).detach())


def test_new_weights_and_pictures_are_seen() -> None:
    model = net()
    record_to(model, IMAGE, "conv2", {})
    with torch.no_grad():
        model.conv1.weight.mul_(2)
    other = torch.ones(1, 3, 12, 12)
    rec, target = record_to(model, other, "conv2", {})
    with torch.no_grad():
        assert rec.values[target.value].equal(model.conv2(model.conv1(other).relu()))


def test_a_new_module_at_an_old_address_gets_no_old_plan() -> None:
    """Plans of module objects go by path: `id` is given to the next object once the first is gone."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU()).eval()
    for _ in range(20):
        model[1], model[3] = nn.ReLU(), nn.ReLU()
        for place in (3, 1):
            rec, target = record_to(model, IMAGE, model[place], {})
            assert (target.path, rec.values[target.value].shape[1]) == (str(place), 4 if place == 1 else 5)
        gc.collect()
    with pytest.raises(UnknownNameError, match="this ReLU is not a part of the model"):
        record_to(model, IMAGE, nn.ReLU(), {})


def test_plans_do_not_keep_a_model_alive() -> None:
    model = net()
    record_to(model, IMAGE, "conv1", {})
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


# In-place writes and views --------------------------------------------------------------------------------------------


def written_through_a_view(x: Tensor) -> Tensor:
    y = x * 2
    y[:, :1].relu_()
    return y + 1


def written_into_a_constant(x: Tensor) -> Tensor:
    out = torch.zeros(1, 6, 10, 9)
    out[:, :3] = x
    return out


def written_elsewhere(x: Tensor) -> Tensor:
    """Views and their base, read and written in turn, as numbers of other shapes and orders."""
    y = (x * 2).contiguous(memory_format=torch.channels_last)
    part, turned = y[:, 1:, ::2], y.permute(0, 3, 1, 2)
    before = turned.sum()
    part.add_(x[:, :2, ::2])
    turned[:, 0].zero_()
    y[:, 2] = part[:, 0, :1]
    return y * before + turned.permute(0, 2, 3, 1)


def written_to_constants(x: Tensor) -> Tensor:
    """Fresh tensors that are filled piece by piece, with constants between."""
    out = torch.zeros(1, 6, 10, 9)
    out += 1
    early = out[:, 3:]
    out[:, :3] = x
    out[:, 4] = 5
    early[:, 2].add_(x[:, 0])
    other = torch.empty(1, 3, 10, 9)
    other.copy_(early)
    return torch.cat([out * 2, other], 1)


@pytest.mark.parametrize(
    "function", [written_through_a_view, written_into_a_constant, written_elsewhere, written_to_constants]
)
def test_writes_are_followed(function: Callable[[Tensor], Tensor]) -> None:
    """Run again on another picture the recording returns what the function does, and so does its gradient."""
    image, other = IMAGE.double(), IMAGE.double().flip(3) + 0.1
    torch.set_default_dtype(torch.float64)
    try:
        rec = record(named(function), image)
        assert rec.output is not None and rec.values[rec.output].equal(function(image))
        values: dict[int, Tensor] = {0: other}
        for op in rec.ops:
            args, kwargs = rec.fill(op, values)
            out = op.func(*[a.clone() if op.in_place and isinstance(a, Tensor) else a for a in args], **kwargs)
            values[op.output()] = out
        torch.testing.assert_close(values[rec.output], function(other), rtol=1e-12, atol=1e-12)
        model = nn.Sequential(Function(function))
        p = project(model, image, "0", units=[1, 2], method="gradient")
        leaf = image.clone().requires_grad_()
        maps = function(leaf)[0]
        for k, unit in enumerate((1, 2)):
            value = maps[unit, p.places[k, 0], p.places[k, 1]]
            (want,) = torch.autograd.grad(value, leaf, retain_graph=True)
            torch.testing.assert_close(p.pixels[k], (want * value)[0].detach())
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_result_that_is_written_elsewhere() -> None:
    """By `out=`, which autograd refuses."""

    def function(x: Tensor) -> Tensor:
        out = torch.zeros(1, 6, 10, 9)
        torch.mul(x, 3, out=out[:, 3:])
        return out * 2

    rec = record(Function(function), IMAGE)
    assert rec.output is not None and rec.values[rec.output].equal(function(IMAGE))
    assert [op.name for op in rec.ops] == ["mul", "write_over", "mul"] and not rec.fill(rec.ops[0])[1]["out"].any()


def test_a_write_that_cannot_be_followed_is_named() -> None:
    def function(x: Tensor) -> Tensor:
        out = torch.zeros(1, 3, 10, 9)
        torch._foreach_add_([out], [x])
        return out

    with pytest.raises(UnsupportedOperatorError, match=r"^operator '_foreach_add_' in layer 'odd'.* in place"):
        record(named(function), IMAGE)


def test_a_layer_before_what_cannot_be_recorded() -> None:
    """Only what follows is lost, and what is asked of that says why."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Function(lambda x: x[torch.nonzero(x)[:, 0]]), nn.ReLU())
    rec, target = record_to(model, IMAGE, "1", {})
    assert rec.values[target.value].equal(model[1](model[0](IMAGE)).detach())
    with pytest.raises(UnsupportedOperatorError, match="'nonzero' in layer '2'"):
        record_to(model, IMAGE, "3", {})
    with pytest.raises(UnknownNameError):
        record_to(model, IMAGE, "4", {})
    state = torch.get_rng_state()
    record_to(nn.Sequential(nn.ReLU(), Function(lambda x: F.dropout(x, 0.5, True))), IMAGE, "0", {})
    assert torch.get_rng_state().equal(state)


def test_what_leaves_the_recording_unseen_is_said() -> None:
    class Elsewhere(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            found: list[Tensor] = []
            thread = threading.Thread(target=lambda: found.append(x.detach().mean((2, 3))))
            thread.start()
            thread.join()
            return found[0]

    with pytest.raises(DeconvvizValueError, match="another thread, or from values that went through Python"):
        occlude(Elsewhere(), IMAGE, window=3, stride=3)
    model = nn.Sequential(Elsewhere(), nn.ReLU())
    with pytest.raises(DeconvvizValueError, match=r"layer '1' .* another thread"):
        project(model, IMAGE, "1")


def test_views_in_an_inference_block() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding="valid")

        def forward(self, x: Tensor) -> Tensor:
            with torch.inference_mode():
                return F.max_pool2d(F.relu(self.conv(x)), 2)

    model = Inner()
    rec = record(model, IMAGE)
    assert names(rec) == ["convolution", "relu", "max_pool2d_with_indices"]


def test_a_rrelu_at_rest_is_no_random_operator() -> None:
    rec = record(nn.Sequential(nn.RReLU()), IMAGE)
    assert rec.output is not None and rec.values[rec.output].equal(F.rrelu(IMAGE))


def test_sequences_and_volumes_are_told_from_pictures() -> None:
    for model, rank in ((nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU()), 1), (nn.Sequential(nn.Conv3d(3, 4, 3)), 3)):
        with pytest.raises(DeconvvizValueError, match=f"layer '0' is a {rank}-d convolution.*2-d maps") as caught:
            record(model, IMAGE)
        assert "\n" not in str(caught.value)


def named(function: Callable[[Tensor], Tensor]) -> nn.Module:
    model = nn.Sequential()
    model.add_module("odd", Function(function))
    return model


def test_a_view_made_before_a_write_keeps_its_value() -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part, self.relu = Function(lambda x: x[:, :2]), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            y = x * 1
            self.part(y)
            return self.relu(y)  # type: ignore[no-any-return]

    model = Views()
    rec = record(model, IMAGE)
    assert value(rec, model, "part").equal(IMAGE[:, :2])
    assert value(rec, model, "relu").equal(IMAGE.relu())


def test_in_place_sums_make_new_values() -> None:
    def function(x: Tensor) -> Tensor:
        y = x * 1
        y += x
        y.mul_(3)
        return y

    rec = record(Function(function), IMAGE)
    assert names(rec) == ["mul", "add_", "mul_"]
    kept = [rec.values[op.outputs[0] or 0] for op in rec.ops]
    for ours, theirs in zip(kept, [IMAGE, IMAGE + IMAGE, (IMAGE + IMAGE) * 3], strict=True):
        assert ours.equal(theirs)


# Wrapped models, refusals ---------------------------------------------------------------------------------------------


def test_wrapped_models_are_unwrapped() -> None:
    model = net()
    wrapped = torch.compile(nn.DataParallel(model))
    assert unwrap(wrapped) is model  # type: ignore[arg-type]
    assert names(record(wrapped, IMAGE)) == names(record(model, IMAGE))  # type: ignore[arg-type]


def test_a_script_module_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(nn.Conv2d(3, 4, 3), IMAGE)
    with pytest.raises(UnsupportedOperatorError, match="script module"):
        record(nn.Sequential(scripted), IMAGE)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * float(x.sum()),
        lambda x: x if x.mean() > 0 else -x,
        lambda x: x[torch.nonzero(x)[:, 0]],
        lambda x: torch.bernoulli(x.sigmoid()),
        lambda x: x if torch.allclose(x, x.flip(3)) else -x,
    ],
    ids=["float", "branch", "nonzero", "bernoulli", "allclose"],
)
def test_what_cannot_be_recorded_is_named(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"^operator '\w+' in layer 'odd'"):
        record(named(function), IMAGE)


SIZED: dict[str, Callable[[Tensor], Tensor]] = {
    "index": lambda x: x.mean((2, 3)) * x[:, :, x[0, 0] > 0].shape[2],
    "_unique2": lambda x: x.mean((2, 3)) * x.round().unique().numel(),
    "torchvision.nms": lambda x: x.mean((2, 3)) * nms(x[0, :, 0, :4].abs().cumsum(1), x[0, :, 0, 0], 0.5).numel(),
}


@pytest.mark.parametrize("name", list(SIZED))
def test_a_size_that_depends_on_the_picture_is_named(name: str) -> None:
    """It reaches Python unseen: other pictures would run with the size of this one; autograd takes it for constant."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), Function(SIZED[name]), nn.Linear(4, 2)).double().eval()
    x = IMAGE.double()
    with pytest.raises(UnsupportedOperatorError, match=rf"^operator '{name}' in layer '1' returns as many .* project"):
        occlude(model, x, window=3, stride=3)
    p = project(model, x, "2", units=[0], method="gradient")
    leaf = x.clone().requires_grad_()
    value = model(leaf)[0, 0]
    torch.testing.assert_close(p.pixels[0], (torch.autograd.grad(value, leaf)[0] * value.detach())[0])


def test_a_mask_that_only_says_where_changes_no_size() -> None:
    def masked(x: Tensor) -> Tensor:
        y = x.clone()
        y[y < 0] = 0.5
        return (y * x[:, [2, 0, 1]]).mean((2, 3))

    assert record(Function(masked), IMAGE).sized is None


def test_a_lazy_module_must_have_run() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU())
    with pytest.raises(DeconvvizValueError, match="module '0' is lazy"):
        record(model, IMAGE)
    model(IMAGE)
    assert names(record(model, IMAGE)) == ["convolution", "relu"]


def test_not_a_module() -> None:
    with pytest.raises(DeconvvizTypeError, match="got str"):
        record("zfnet", IMAGE)  # type: ignore[arg-type]


MISFITS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int], str]] = {
    "grey for colour": (net, (1, 10, 9), r"^image has 1 channels; the first convolution \('conv1'\) takes 3$"),
    "groups": (
        lambda: nn.Sequential(nn.Conv2d(4, 4, 1, groups=2)),
        (3, 5, 5),
        r"^image has 3 channels; the first convolution \('0'\) takes 4$",
    ),
    "behind a PixelUnshuffle": (
        lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 4, 1)),
        (1, 6, 6),
        r"^image has 1 channels, this network takes 3: the first convolution \('1'\) got 4 maps and takes 12$",
    ),
    "a transposed convolution": (
        lambda: nn.Sequential(nn.ConvTranspose2d(10, 8, 4), nn.ReLU()),
        (3, 1, 1),
        r"^image has 3 channels, this network takes 10, as layer '0' says$",
    ),
    "a norm first": (
        lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3)).eval(),
        (3, 6, 6),
        r"^image has 3 channels, this network takes 4, as layer '0' says$",
    ),
    "a mean taken away": (
        lambda: nn.Sequential(Function(lambda x: x - torch.ones(1, 3, 1, 1)), nn.Conv2d(3, 4, 3)),
        (4, 6, 6),
        r"^image has 4 channels, this network takes 3, as layer '0' \(sub\) says$",
    ),
    "smaller than a kernel": (
        net,
        (3, 4, 9),
        r"^an image of 4×9 does not fit this network: layer 'conv2' \(convolution\) got a map of 2×7, which is too sm",
    ),
    "smaller than a pool": (
        lambda: nn.Sequential(nn.MaxPool2d(3)),
        (3, 9, 2),
        r"^an image of 9×2 .* layer '0' \(max_pool2d_with_indices\) got a map of 9×2, which is too small$",
    ),
    "linear": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 2)),
        (3, 4, 4),
        r"^an image of 4×4 does not fit this network: layer '1' takes 12 numbers and got 48$",
    ),
}


@pytest.mark.parametrize("kind", list(MISFITS))
def test_an_image_that_does_not_fit_the_network_is_one_clear_line(kind: str) -> None:
    make, shape, text = MISFITS[kind]
    with pytest.raises(DeconvvizValueError, match=text) as caught:
        record(make(), torch.zeros(1, *shape))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_errors_of_the_model_keep_their_type() -> None:
    """A mismatch inside the model, another dtype, its own error: none of them is the image's fault."""
    cases: list[tuple[nn.Module, type[Exception], str]] = [
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(5, 4, 1)), RuntimeError, "to have 5 channels"),
        (nn.Sequential(nn.Conv2d(3, 4, 1).double()), RuntimeError, "type"),
        (Function(lambda x: x + torch.zeros(7)), RuntimeError, "must match"),
        (Function(fails), RuntimeError, "mine"),
        (Function(fails_after_an_operator), KeyError, "mine"),
    ]
    for module, error, text in cases:
        with pytest.raises(error, match=text) as caught:
            record(module, IMAGE)
        assert type(caught.value) is error


def fails(x: Tensor) -> Tensor:
    raise RuntimeError("mine")


def fails_after_an_operator(x: Tensor) -> Tensor:
    try:
        return F.max_pool2d(x, 50)
    except RuntimeError:
        raise KeyError("mine") from None


def test_a_model_that_handles_a_misfit_itself_goes_on() -> None:
    def careful(x: Tensor) -> Tensor:
        try:
            return F.max_pool2d(x, 50)
        except RuntimeError:
            return x.relu()

    assert names(record(Function(careful), IMAGE)) == ["relu"]


@pytest.mark.parametrize("method", ["numpy", "tolist"])
def test_values_handed_to_python_are_named(method: str) -> None:
    class Hands(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * float(getattr(x.mean(), method)())

    with pytest.raises(UnsupportedOperatorError, match=f"'{method}' in the model itself"):
        record(Hands(), torch.rand(1, 3, 4, 4))


def test_a_model_of_other_inputs_is_named_with_its_parts() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return x + mask

    with pytest.raises(DeconvvizTypeError, match=r"needs \(x, mask\)"):
        record(Two(), torch.rand(1, 3, 4, 4))


def test_a_buffer_that_forward_registers_goes_again() -> None:
    class Caches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.register_buffer("seen", x.mean((2, 3)))
            return x

    model = Caches()
    record(model, torch.rand(1, 3, 4, 4))
    assert not list(model.buffers())
