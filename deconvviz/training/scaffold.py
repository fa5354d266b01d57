"""What exists only while training: BatchNorm and dropout as hooks, a head for a teacher, bounds on filters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvviz.errors import DeconvvizValueError
from deconvviz.training.initialisation import Response


class Norms(nn.Module):
    """BatchNorm behind convolutions and linear layers of `model` as hooks: its modules and keys stay.

    Behind every convolution but the first and every linear layer but the last, if they have a bias. A
    model with a BatchNorm of its own gets none. `responses`, of `initialise`, start the statistics so that
    the first forward pass in eval mode is unchanged.
    """

    def __init__(self, model: nn.Module, responses: Mapping[str, Response] | None = None) -> None:
        super().__init__()
        self.layers: dict[str, nn.Conv2d | nn.Linear] = {}
        self.norms = nn.ModuleDict()
        own = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
        convs: list[tuple[str, nn.Conv2d | nn.Linear]]
        lines: list[tuple[str, nn.Conv2d | nn.Linear]]
        convs = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
        lines = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
        for name, layer in [] if own else [*convs[1:], *lines[:-1]]:
            if layer.bias is None:
                continue
            norm = self._norm(layer, (responses or {}).get(name))
            self.layers[name] = layer
            self.norms[name.replace(".", "/")] = norm  # a module's name must not hold a dot
            layer.register_forward_hook(lambda _, __, y, norm=norm: norm(y))

    @staticmethod
    def _norm(layer: nn.Conv2d | nn.Linear, response: Response | None) -> nn.BatchNorm2d | nn.BatchNorm1d:
        if isinstance(layer, nn.Conv2d):
            norm: nn.BatchNorm2d | nn.BatchNorm1d = nn.BatchNorm2d(layer.out_channels)
        else:
            norm = nn.BatchNorm1d(layer.out_features)
        norm = norm.to(layer.weight)
        if response is not None:
            assert norm.running_mean is not None and norm.running_var is not None
            with torch.no_grad():
                norm.running_mean.copy_(response.mean)
                norm.running_var.copy_(response.std**2)
                norm.weight.copy_((norm.running_var + norm.eps).sqrt())
                norm.bias.copy_(response.mean)
        return norm

    def fold(self, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state` of the model with the BatchNorms of the state `own` folded in: the same function in eval
        mode."""
        folded = {key: value.clone() for key, value in state.items()}
        for name in self.layers:
            key = f"norms.{name.replace('.', '/')}"
            norm = self.norms[name.replace(".", "/")]
            assert isinstance(norm, nn.BatchNorm2d | nn.BatchNorm1d)
            scale = own[f"{key}.weight"] / (own[f"{key}.running_var"] + norm.eps).sqrt()
            weight, bias = folded[f"{name}.weight"], folded[f"{name}.bias"]
            folded[f"{name}.weight"] = weight * scale.view(-1, *[1] * (weight.dim() - 1))
            folded[f"{name}.bias"] = (bias - own[f"{key}.running_mean"]) * scale + own[f"{key}.bias"]
        return folded


@torch.no_grad()
def renormalise(model: nn.Module, radius: float, input_scale: float = 1.0) -> int:
    """Scale each convolutional filter with an RMS above `radius` back to it; the first layer's radius is
    `input_scale` times that (section 3 of the paper). Returns how many were scaled."""
    count = 0
    for k, conv in enumerate(m for m in model.modules() if isinstance(m, nn.Conv2d)):
        limit = radius * (input_scale if k == 0 else 1.0)
        rms = conv.weight.pow(2).mean((1, 2, 3), keepdim=True).sqrt()
        over = rms > limit
        conv.weight.copy_(torch.where(over, conv.weight * (limit / rms), conv.weight))
        count += int(over.sum())
    return count


def keep_but_linear(modules: nn.Module) -> None:
    """Leave everything in `modules` but the linear layers, and the norms behind them, as it is."""
    for m in modules.modules():
        if isinstance(m, nn.Conv2d):
            m.requires_grad_(False)
        elif isinstance(m, nn.BatchNorm2d):
            m.eval().requires_grad_(False)


def set_dropout(model: nn.Module, p: float | None, inputs: float) -> None:
    """Give the dropout layers of `model` the probability `p`, unless it is None, and put dropout with the
    probability `inputs` in front of its first linear layer, while training."""
    for m in model.modules():
        if isinstance(m, nn.Dropout) and p is not None:
            m.p = p
    first = next((m for m in model.modules() if isinstance(m, nn.Linear)), None)
    if first is not None and inputs > 0:
        first.register_forward_pre_hook(lambda m, args: (F.dropout(args[0], inputs, m.training), *args[1:]))


@dataclass(frozen=True)
class Ends:
    """The last module of a network whose output (N, C, H, W) still has places, and its last linear layer."""

    maps: nn.Module
    channels: int
    linear: nn.Linear | None


@torch.no_grad()
def ends_of(model: nn.Module, x: Tensor) -> Ends:
    """The ends of `model`, found in one forward pass of `x` in eval mode; the modes are put back."""
    last: dict[str, Any] = {"maps": None, "channels": 0, "linear": None}

    def look(m: nn.Module, _: object, y: object) -> None:
        if isinstance(y, Tensor) and y.dim() == 4 and y.shape[2] * y.shape[3] > 1 and m is not model:
            last.update(maps=m, channels=y.shape[1])
        elif isinstance(m, nn.Linear):
            last.update(linear=m)

    modes = [(m, m.training) for m in model.modules()]
    handles = [m.register_forward_hook(look) for m in model.modules()]
    model.eval()
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
        for m, mode in modes:
            m.training = mode
    if last["maps"] is None:
        raise DeconvvizValueError(f"{type(model).__name__} has no layer with places at size {tuple(x.shape[2:])}")
    return Ends(**last)


class Guess(NamedTuple):
    """What a head makes of a network's features: the teacher's maps (N, width, h, w), and their mean (N, width)."""

    maps: Tensor
    vector: Tensor | None


class Head(nn.Module):
    """Linear maps from what `model` computes last to the maps of a teacher, thrown away after training.

    One from the last maps, place by place, and one from what enters the last linear layer, if there is one. `x` is an
    input that tells their sizes. It keeps the values of the latest forward pass.
    """

    def __init__(self, model: nn.Module, x: Tensor, width: int) -> None:
        super().__init__()
        ends = ends_of(model, x)
        self._values: dict[str, Tensor] = {}
        ends.maps.register_forward_hook(self._keep_maps)
        self.maps = nn.Conv2d(ends.channels, width, 1)
        self.vector: nn.Linear | None = None
        if ends.linear is not None:
            ends.linear.register_forward_pre_hook(self._keep_vector)
            self.vector = nn.Linear(ends.linear.in_features, width)

    def _keep_maps(self, _: nn.Module, __: object, y: Tensor) -> None:
        self._values["maps"] = y.float()

    def _keep_vector(self, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        self._values["vector"] = args[0].float()

    def forward(self) -> Guess:
        """What is made of the inputs that `model` was given last."""
        maps: Tensor = self.maps(self._values["maps"])
        vector = None if self.vector is None else self.vector(self._values["vector"])
        self._values.clear()
        return Guess(maps, vector)
