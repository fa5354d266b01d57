"""A trained network as a teacher: what it sees in every picture, computed once, and looked up for any crop."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from deconvviz.data.pictures import Pictures
from deconvviz.errors import DeconvvizValueError, UnknownNameError, WeightsError, suggest
from deconvviz.models import registry
from deconvviz.models.recipes import Teaching
from deconvviz.network.load import load
from deconvviz.network.network import Network
from deconvviz.network.weights import load_state, read_weights
from deconvviz.training.scaffold import Guess, ends_of
from deconvviz.training.views import normalise

_BATCH = 32


def load_teacher(name: str, weights: str | os.PathLike[str] | None) -> Network:
    """The network `name` of the zoo or of timm, in eval mode, with the weights of a file.

    A network of the zoo takes what `deconvviz.load` takes, a network of timm a file: its own state dict, or
    one with other names for the same tensors in the same order. Raises `UnknownNameError`, `WeightsError`, and
    `DeconvvizValueError` if timm is not installed.
    """
    if name in registry.names():
        return load(name, weights)
    try:
        import timm
    except ImportError as error:
        raise DeconvvizValueError(f"the teacher '{name}' is not in the zoo, and timm is not installed") from error
    if not timm.is_model(name):
        known = [*registry.names(), *timm.list_models()]
        raise UnknownNameError(f"unknown teacher '{name}'; allowed: a name of the zoo or of timm{suggest(name, known)}")
    if weights is None:
        raise WeightsError(f"the teacher {name} needs the file of its weights")
    module = timm.create_model(name, pretrained=False)
    _load_in_order(module, Path(weights))
    facts: Any = module.pretrained_cfg
    return Network(module.eval(), facts["input_size"][1:], facts["mean"], facts["std"])


def _load_in_order(module: nn.Module, path: Path) -> None:
    """Load a state dict by its names, or, if it has others, by the order of its tensors and their shapes."""
    state, own = read_weights(path)[0], module.state_dict()
    shapes = [tuple(value.shape) for value in state.values()]
    if state.keys() != own.keys() and shapes == [tuple(value.shape) for value in own.values()]:
        state = dict(zip(own, state.values(), strict=True))
    load_state(module, state, str(path))


class Teacher:
    """The maps and class scores of a trained network, for crops of the pictures it has looked at.

    `network` sees each picture of `indices` once, squeezed to its input size; its last maps stay, in half
    precision. Those of a crop are read from its area, whatever its colours or erasures. A linear classifier, fitted to
    the mean maps (embeddings) of whole pictures, scores the classes. `shown` is
    called with the numbers of pictures looked at and of all.
    """

    def __init__(
        self,
        network: Network,
        data: Pictures,
        indices: Sequence[int],
        teaching: Teaching,
        shown: Callable[[int, int], None] | None = None,
    ) -> None:
        self.teaching = teaching
        self._row = {index: row for row, index in enumerate(indices)}
        self._maps = _maps_of(network, [data.pixels[i] for i in indices], shown)
        self._weight, self._bias = fit_linear(
            self._maps.float().mean((2, 3)), data.classes[torch.tensor(indices)], len(data.labels)
        )

    @property
    def width(self) -> int:
        """Length of an embedding."""
        return self._maps.shape[1]

    def look(self, indices: Sequence[int], places: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps (N, width, *size) of the crops `places` (N, 4): left, top, right, bottom in shares of the pictures
        `indices`. Where left and right are exchanged, the crop is a mirror image."""
        maps = self._maps[[self._row[i] for i in indices]].float()
        scale = maps.new_tensor([maps.shape[3], maps.shape[2]] * 2)
        mirrored = places[:, 0] > places[:, 2]
        upright = torch.where(mirrored[:, None], places[:, [2, 1, 0, 3]], places)
        boxes = torch.cat([torch.arange(len(maps)).float()[:, None], upright * scale], 1)
        seen: Tensor = roi_align(maps, boxes, size, sampling_ratio=1, aligned=True)
        return torch.where(mirrored[:, None, None, None], seen.flip(3), seen)

    def scores(self, embeddings: Tensor) -> Tensor:
        """Class logits (N, classes) of embeddings (N, width)."""
        return F.linear(embeddings, self._weight, self._bias)

    def likely(self, maps: Tensor) -> Tensor:
        """Class probabilities (N, classes), softened by the temperature, of crops with these maps."""
        return (self.scores(maps.mean((2, 3))) / self.teaching.temperature).softmax(1)

    def loss(self, logits: Tensor, student: Guess, labelled: Tensor, maps: Tensor, likely: Tensor) -> Tensor:
        """The loss of a student with these logits (N, classes) and what its head makes of its features.

        `labelled` is the loss of the labels; `maps` and `likely` are this teacher's, of the same crops.
        """
        how = self.teaching
        guess = (logits / how.temperature).log_softmax(1)
        # The gradient of a softened probability shrinks with the square of the temperature.
        divergence = F.kl_div(guess, likely, reduction="batchmean") * how.temperature**2
        loss = (1 - how.soft) * labelled + how.soft * divergence
        loss = loss + how.maps * (1 - F.cosine_similarity(student.maps, maps, dim=1).mean())
        if student.vector is None:
            return loss
        return loss + how.embedding * (1 - F.cosine_similarity(student.vector, maps.mean((2, 3)), dim=1).mean())


@torch.no_grad()
def _maps_of(network: Network, pictures: Sequence[Tensor], shown: Callable[[int, int], None] | None) -> Tensor:
    """The last maps (N, C, h, w), float16, of pictures squeezed to the input size of `network`."""
    size = list(network.card.input_size)
    kept: list[Tensor] = []
    found: list[Tensor] = []
    layer = ends_of(network.module, torch.zeros(1, network.card.channels, *size)).maps
    handle = layer.register_forward_hook(lambda _, __, y: found.append(y.half()))
    try:
        for start in range(0, len(pictures), _BATCH):
            part = [_squeezed(p, size, network.card.channels) for p in pictures[start : start + _BATCH]]
            network.module(normalise(torch.stack(part), network.card))
            kept.append(found[-1])
            found.clear()
            if shown is not None:
                shown(start + len(part), len(pictures))
    finally:
        handle.remove()
    return torch.cat(kept)


def _squeezed(picture: Tensor, size: list[int], channels: int) -> Tensor:
    """`picture` (C, h, w) uint8 as the teacher takes it: (channels, *size), 0..1."""
    resized = TF.resize(picture, size, interpolation=InterpolationMode.BICUBIC, antialias=True).float() / 255
    if resized.shape[0] == channels:
        return resized  # type: ignore[no-any-return]
    return resized.mean(0, keepdim=True).expand(channels, -1, -1)  # type: ignore[no-any-return]


def fit_linear(x: Tensor, classes: Tensor, count: int, decay: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Weight (count, D) and bias (count,) of a softmax classifier of `x` (N, D), by L-BFGS.

    `decay` times the squared norm of the weights of standardised inputs is added to the mean loss.
    """
    mean, deviation = x.mean(0), x.std(0).clamp_min(1e-3 * float(x.std()) + 1e-12)
    z = (x - mean) / deviation
    weight = torch.zeros(count, x.shape[1], requires_grad=True)
    bias = torch.zeros(count, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(F.linear(z, weight, bias), classes) + decay * weight.pow(2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    weight, bias = weight.detach(), bias.detach()
    return weight / deviation, bias - weight @ (mean / deviation)
