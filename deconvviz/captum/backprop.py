"""Deconvolution and guided backpropagation with captum's signatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from captum._utils.common import _run_forward, _verify_select_neuron
from captum._utils.gradient import _forward_layer_eval
from captum.attr._utils.attribution import GradientAttribution, NeuronAttribution
from captum.log import log_usage
from torch import Tensor, nn

from deconvviz.captum.calls import ArgumentError, Model, ModelTypeError, module_of, tensors_of
from deconvviz.captum.rectify import AsRelus, Rectified
from deconvviz.engine.holding import held
from deconvviz.engine.passes import buffers_kept, eager, unwrap
from deconvviz.errors import UnsupportedOperatorError, in_one_line, warn

Inputs = Any  # a tensor, or a tuple of tensors; so are attributions
Selected = Callable[[Model, tuple[Tensor, ...]], Tensor]


def _attributed(model: nn.Module, inputs: Inputs, selected: Selected, masked: bool, name: str) -> Inputs:
    """The signal at `inputs` of what is `selected` of a pass: one number for each example."""
    unwrap(model)  # which says what autograd would not show
    given = tensors_of(inputs)
    for n, x in enumerate(given):
        if not x.is_floating_point():
            raise ModelTypeError(f"inputs[{n}] is {x.dtype}; allowed: floating point, which a signal can reach")
    # Nothing of the caller's is asked for gradients, and a model may write into what it is given.
    with torch.inference_mode(False), torch.enable_grad(), held(model), buffers_kept(model), eager:
        leaves = tuple(x.detach().clone().requires_grad_() for x in given)
        call = Model(model, lambda a: a.clone() if any(a is leaf for leaf in leaves) else a)
        with call.arguments(), AsRelus():
            what = selected(call, leaves)
        if what.numel() != (what.shape[0] if what.dim() else 1):
            raise ArgumentError(
                f"{tuple(what.shape)} numbers are selected; allowed: one for each example (give a target, or one that "
                "says more)"
            )
        signals = _sent(what, leaves, masked, name)
    return signals if isinstance(inputs, tuple) else signals[0]


def _sent(what: Tensor, leaves: tuple[Tensor, ...], masked: bool, name: str) -> tuple[Tensor, ...]:
    """What comes back to each input, zero where it has no part in it."""
    mode = Rectified(masked)
    found: Sequence[Tensor | None] = [None] * len(leaves)
    try:
        with mode:
            if what.requires_grad:
                found = torch.autograd.grad(what.sum(), leaves, allow_unused=True)
    except RuntimeError as error:
        raise UnsupportedOperatorError(f"autograd cannot differentiate this pass ({in_one_line(error)})") from error
    if all(g is None for g in found):
        raise UnsupportedOperatorError("what is selected does not depend on the inputs in a way that autograd knows")
    if mode.others:
        warn(
            f"{name} rectifies at ReLUs, and this model also has {', '.join(sorted(mode.others))}: through them goes "
            "the plain derivative; deconvviz.project rectifies there too",
            stacklevel=6,
        )
    return tuple(torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True))


class _Backprop(GradientAttribution):  # type: ignore[misc]  # captum has no annotations
    """A target sent back to the inputs."""

    _masked: bool

    def __init__(self, model: nn.Module) -> None:
        self.model = module_of(model)
        GradientAttribution.__init__(self, self.model)

    def _attribute(self, inputs: Inputs, target: Any, additional_forward_args: Any) -> Inputs:
        def selected(model: Model, leaves: tuple[Tensor, ...]) -> Tensor:
            found: Tensor = _run_forward(model, leaves, target, additional_forward_args)
            return found

        return _attributed(self.model, inputs, selected, self._masked, type(self).__name__)


class Deconvolution(_Backprop):
    """The DeconvNet (Zeiler & Fergus 2014) as captum has it: autograd, but a ReLU passes the positive part of a signal.

    `captum.attr.Deconvolution`, with ReLUs in every spelling: modules, functions, in place, ReLU6, `clamp(min=0)`.
    Everything else is autograd's: BatchNorm in its own mode, gates differentiated (`deconvviz.project` has the
    DeconvNet's own way through them). `model` is a module or a `Network`.

    Raises `DeconvvizTypeError` for something else.
    """

    _masked = False

    @log_usage(part_of_slo=True)  # type: ignore[untyped-decorator]  # captum has no annotations
    def attribute(self, inputs: Inputs, target: Any = None, additional_forward_args: Any = None) -> Inputs:
        """The signal of `target` at each of `inputs`, in their shapes.

        `inputs`: a tensor (N, …), or a tuple of them for a model of several. `target`: a class for all N examples (int,
        or a tensor with one), one for each (list, or tensor (N,)), an index into more dimensions (tuple), or one for
        each (list of tuples); None if the model gives one number an example. `additional_forward_args` follow the
        inputs in the call.

        Raises `DeconvvizValueError` (also an `AssertionError` and `IndexError`, as captum and torch say it) for a
        target that does not fit, `DeconvvizTypeError` for inputs that no signal can reach, and
        `UnsupportedOperatorError` where autograd cannot differentiate. The model and the inputs are left as they were.

        >>> net = deconvviz.load("zfnet")
        >>> deconvviz.captum.Deconvolution(net.module).attribute(net.preprocess("image.jpg"), target=3).shape
        torch.Size([1, 3, 224, 224])
        """
        return self._attribute(inputs, target, additional_forward_args)


class GuidedBackprop(_Backprop):
    """Guided backpropagation (Springenberg et al. 2015): as `Deconvolution`, stopped besides where a ReLU was shut.

    `captum.attr.GuidedBackprop`, with ReLUs in every spelling.
    """

    _masked = True

    @log_usage(part_of_slo=True)  # type: ignore[untyped-decorator]  # captum has no annotations
    def attribute(self, inputs: Inputs, target: Any = None, additional_forward_args: Any = None) -> Inputs:
        """As `Deconvolution.attribute`.

        >>> net = deconvviz.load("zfnet")
        >>> deconvviz.captum.GuidedBackprop(net.module).attribute(net.preprocess("image.jpg"), target=3).shape
        torch.Size([1, 3, 224, 224])
        """
        return self._attribute(inputs, target, additional_forward_args)


class _NeuronBackprop(NeuronAttribution, GradientAttribution):  # type: ignore[misc]  # captum has no annotations
    """A neuron of a layer sent back to the inputs."""

    _masked: bool

    def __init__(self, model: nn.Module, layer: nn.Module, device_ids: list[int] | None = None) -> None:
        self.model = module_of(model)
        if not isinstance(layer, nn.Module):
            raise ModelTypeError(f"layer is a {type(layer).__name__}; allowed: a torch.nn.Module, a part of the model")
        NeuronAttribution.__init__(self, self.model, layer, device_ids)
        GradientAttribution.__init__(self, self.model)

    def _attribute(self, inputs: Inputs, selector: Any, additional_forward_args: Any, at_input: bool) -> Inputs:
        def selected(model: Model, leaves: tuple[Tensor, ...]) -> Tensor:
            values = _forward_layer_eval(
                model, leaves, self.layer, additional_forward_args, device_ids=self.device_ids,
                attribute_to_layer_input=at_input, grad_enabled=True,
            )  # fmt: skip
            found: Tensor = _verify_select_neuron(values, selector)
            return found

        return _attributed(self.model, inputs, selected, self._masked, type(self).__name__)


class NeuronDeconvolution(_NeuronBackprop):
    """The DeconvNet of one neuron of `layer`, a module of `model`; otherwise as `Deconvolution`.

    `captum.attr.NeuronDeconvolution`. Times the activation it is what `deconvviz.project` gives for that place of a
    unit, in a network without gates, LRN and activations other than ReLUs; `project` does many units in one pass.
    `device_ids` are those of a DataParallel.
    """

    _masked = False

    @log_usage(part_of_slo=True)  # type: ignore[untyped-decorator]  # captum has no annotations
    def attribute(
        self,
        inputs: Inputs,
        neuron_selector: Any,
        additional_forward_args: Any = None,
        attribute_to_neuron_input: bool = False,
    ) -> Inputs:
        """The signal of a neuron at each of `inputs`, in their shapes.

        `neuron_selector`: an int for a layer (N, F); a tuple of ints and slices, one for each dimension behind the
        first, where slices mean the sum; or a callable of the layer's value that gives one number for each example.
        `attribute_to_neuron_input` takes what comes into the layer in the place of what comes out. The rest, and what
        is raised: see `Deconvolution.attribute`.

        >>> net = deconvviz.load("zfnet")
        >>> neuron = deconvviz.captum.NeuronDeconvolution(net.module, net.module.conv2)
        >>> neuron.attribute(net.preprocess("image.jpg"), (4, 1, 2)).shape
        torch.Size([1, 3, 224, 224])
        """
        return self._attribute(inputs, neuron_selector, additional_forward_args, attribute_to_neuron_input)


class NeuronGuidedBackprop(_NeuronBackprop):
    """Guided backpropagation of one neuron of `layer`: as `NeuronDeconvolution`, by `GuidedBackprop`."""

    _masked = True

    @log_usage(part_of_slo=True)  # type: ignore[untyped-decorator]  # captum has no annotations
    def attribute(
        self,
        inputs: Inputs,
        neuron_selector: Any,
        additional_forward_args: Any = None,
        attribute_to_neuron_input: bool = False,
    ) -> Inputs:
        """As `NeuronDeconvolution.attribute`.

        >>> net = deconvviz.load("zfnet")
        >>> neuron = deconvviz.captum.NeuronGuidedBackprop(net.module, net.module.conv2)
        >>> neuron.attribute(net.preprocess("image.jpg"), (4, 1, 2)).shape
        torch.Size([1, 3, 224, 224])
        """
        return self._attribute(inputs, neuron_selector, additional_forward_args, attribute_to_neuron_input)
