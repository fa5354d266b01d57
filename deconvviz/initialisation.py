"""Data-dependent initialisation: filters are cluster centres of the data's own patches.

Layer by layer: patches are contrast-normalised and PCA-whitened, clustered by spherical k-means, and the
centres mapped back through the whitening (Coates & Ng, "Learning Feature Representations with K-means", 2012).
Responses are scaled to unit deviation on the data (Krähenbühl et al., "Data-dependent Initializations of
Convolutional Neural Networks", 2016), and the bias is set so that a given share of them fires.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError

_BATCH = 32


@dataclass(frozen=True)
class Response:
    """Mean and deviation (maps,) of a convolution's output on the data, its new bias included."""

    mean: Tensor
    deviation: Tensor


class _Reached(BaseException):
    """Ends a forward pass early: everything after the layer is not needed."""


def spherical_kmeans(points: Tensor, count: int, rounds: int = 25, seed: int = 0) -> Tensor:
    """`count` unit vectors (count, D) that the directions of `points` (N, D) gather around.

    A centre that fewer than five points choose starts again at a random point. Raises `DeconvvizValueError`
    if there are fewer points than centres.
    """
    if len(points) < count:
        raise DeconvvizValueError(f"{len(points)} patches are too few for {count} filters; give more pictures")
    g = torch.Generator().manual_seed(seed)
    points = F.normalize(points, dim=1)
    centres = points[torch.randperm(len(points), generator=g)[:count]].clone()
    for _ in range(rounds):
        nearness, chosen = (points @ centres.T).max(1)
        sums = torch.zeros_like(centres).index_add_(0, chosen, points * nearness.clamp_min(0)[:, None])
        lonely = torch.bincount(chosen, minlength=count) < 5
        if lonely.any():
            sums[lonely] = points[torch.randperm(len(points), generator=g)[: int(lonely.sum())]]
        centres = F.normalize(sums, dim=1)
    return centres


def patches(x: Tensor, kernel: tuple[int, int], count: int, generator: torch.Generator) -> Tensor:
    """`count` random patches of each map stack of `x` (N, C, H, W), as rows (N * count, C * h * w)."""
    height, width = kernel
    rows = []
    for stack in x:
        top = torch.randint(0, stack.shape[1] - height + 1, (count,), generator=generator)
        left = torch.randint(0, stack.shape[2] - width + 1, (count,), generator=generator)
        windows = stack.unfold(1, height, 1).unfold(2, width, 1)[:, top, left]
        rows.append(windows.transpose(0, 1).reshape(count, -1))
    return torch.cat(rows)


def contrast_normalised(rows: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Rows without their mean, divided by their deviation plus `share` of its median; and the deviations."""
    centred = rows - rows.mean(1, keepdim=True)
    deviation = centred.std(1, keepdim=True)
    return centred / (deviation + share * deviation.median() + 1e-12), deviation[:, 0]


def whitening(rows: Tensor, dimensions: int, regulariser: float = 0.1) -> tuple[Tensor, Tensor]:
    """Mean (D,) and PCA whitening (D, d) of rows (N, D); `regulariser` is in mean eigenvalues."""
    mean = rows.mean(0)
    centred = rows - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
    kept = min(dimensions, rows.shape[1])
    scale = (values[-kept:].clamp_min(0) + regulariser * values.mean()).clamp_min(1e-12).sqrt()
    return mean, vectors[:, -kept:] / scale


def filters(x: Tensor, conv: nn.Conv2d, *, first: bool, dimensions: int, seed: int) -> Tensor:
    """Filters of the shape of `conv.weight`, of unknown scale, learned from its inputs `x` (N, C, H, W).

    In the `first` layer more patches are taken and those of low contrast (sky, walls) are left out.
    """
    g = torch.Generator().manual_seed(seed)
    height, width = conv.kernel_size
    rows = patches(x, (height, width), 200 if first else 100, g)
    normal, deviation = contrast_normalised(rows, 0.3 if first else 0.1)
    mean, back = whitening(normal, dimensions)
    points = (normal - mean) @ back
    if first:
        points = points[deviation > deviation.median() * 0.5]
    learned = (back @ spherical_kmeans(points, conv.out_channels, seed=seed).T).T
    # The contrast normalisation takes the mean of every patch away: so do the filters.
    return (learned - learned.mean(1, keepdim=True)).view_as(conv.weight)


def scale_responses(x: Tensor, conv: nn.Conv2d, fire: float) -> Response:
    """Scale `conv` to unit deviation on its inputs `x`, and set its bias so that the share `fire` is above 0."""
    with torch.no_grad():
        conv.weight.copy_(F.normalize(conv.weight.flatten(1), dim=1).view_as(conv.weight))
        if conv.bias is not None:
            conv.bias.zero_()
        sample = _responses(x, conv)
        deviation = sample.std(1).clamp_min(1e-12)
        conv.weight.div_(deviation[:, None, None, None])
        sample = sample / deviation[:, None]
        bias = -torch.quantile(sample, 1 - fire, dim=1)
        if conv.bias is None:
            return Response(sample.mean(1), sample.std(1))
        conv.bias.copy_(bias)
        return Response(sample.mean(1) + bias, sample.std(1))


def _responses(x: Tensor, conv: nn.Conv2d, places: int = 20_000) -> Tensor:
    """Responses (maps, places), evenly taken from all pictures."""
    share = max(places // max(len(x), 1), 1)
    columns = []
    for part in x.split(_BATCH):
        maps = conv(part).flatten(2)
        step = max(maps.shape[2] // share, 1)
        # An odd stride visits rows and columns alike.
        columns.append(maps[:, :, :: step | 1].transpose(0, 1).flatten(1))
    return torch.cat(columns, 1)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _input_of(model: nn.Module, layer: nn.Module, x: Tensor) -> Tensor:
    """What `layer` is given when `model` runs on `x`."""
    found: list[Tensor] = []

    def stop(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.append(given[0].detach().clone())
        raise _Reached

    handle = layer.register_forward_pre_hook(stop)
    try:
        for part in x.split(_BATCH):
            try:
                model(part)
            except _Reached:
                continue
            raise DeconvvizValueError("a convolution is not reached by the network's forward pass")
    finally:
        handle.remove()
    return torch.cat(found)


def convolutions(model: nn.Module, x: Tensor) -> dict[str, nn.Conv2d]:
    """The convolutions of `model` by path, in the order in which they run on `x` (1, C, H, W)."""
    order: dict[str, nn.Conv2d] = {}
    names = {module: name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    handles = [m.register_forward_pre_hook(lambda m, _: order.setdefault(names[m], m) and None) for m in names]
    try:
        with torch.no_grad(), _evaluating(model):
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return order


def initialise(
    model: nn.Module, x: Tensor, *, fire: float = 0.3, dimensions: int = 300, seed: int = 0
) -> dict[str, Response]:
    """Initialise every convolution of `model` from the normalised pictures `x` (N, C, H, W), in place.

    `fire`: the share of positive responses. `dimensions`: of the whitened patches. Returns each
    convolution's response by its path. About 600 pictures serve a ZFNet. Raises `DeconvvizTypeError` if `x`
    is not a float tensor of rank 4, `DeconvvizValueError` for a grouped convolution or too few patches.
    """
    if not isinstance(x, Tensor) or x.dim() != 4 or not x.is_floating_point():
        raise DeconvvizTypeError("initialise takes normalised pictures: a float tensor (N, C, H, W)")
    if not 0 < fire < 1:
        raise DeconvvizValueError(f"fire is {fire}; allowed: a share between 0 and 1")
    done: dict[str, Response] = {}
    with torch.no_grad(), _evaluating(model):
        for index, (name, conv) in enumerate(convolutions(model, x[:1]).items()):
            if conv.groups != 1:
                raise DeconvvizValueError(f"'{name}' is a grouped convolution; only plain ones can be initialised")
            given = _input_of(model, conv, x)
            learned = filters(given, conv, first=index == 0, dimensions=dimensions, seed=seed + index)
            conv.weight.copy_(learned)
            done[name] = scale_responses(given, conv, fire)
    return done
