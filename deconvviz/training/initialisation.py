"""Data-dependent initialisation: filters from the pictures themselves, before any label is seen.

After Coates & Ng, "Learning feature representations with k-means" (2012), and Krähenbühl et al.,
"Data-dependent initializations of convolutional neural networks" (2016). From there layer 1 shows edges and
colours at once, and the projections of high layers show parts of objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvviz.errors import DeconvvizValueError
from deconvviz.training.first_layer import first_filters

_BATCH = 32
_SAMPLES = 20_000


@dataclass(frozen=True)
class Response:
    """Mean and deviation (maps,) of a layer's responses to the pictures, before its ReLU."""

    mean: Tensor
    std: Tensor


class _Reached(Exception):
    """The forward pass has come to the layer that is asked for; the rest is of no interest."""


def initialise(
    model: nn.Module,
    inputs: Tensor,
    *,
    seed: int = 0,
    patches: int = 100,
    dims: int = 300,
    rounds: int = 25,
    fire: float = 0.3,
    shown: Callable[[int, int], None] | None = None,
) -> dict[str, Response]:
    """Set the weights and biases of the convolutions of `model`, in place, in the order they run.

    `inputs` (N, C, H, W): preprocessed pictures, some hundreds. The first layer's filters are those of `first_layer`.
    For the others `patches` patches are taken of what each picture gives there, contrast-normalised, whitened with
    their `dims` strongest components, and clustered in `rounds` rounds of spherical k-means. Each response then has
    unit deviation and is positive at a share `fire` of all places. Grouped convolutions, those without a bias and those
    the pictures do not reach keep their weights. `shown` is called with the numbers of layers done and of all.
    Returns the responses by layer name. The mode is put back.
    Raises `DeconvvizValueError` for inputs or settings that are not allowed.
    """
    if inputs.dim() != 4 or len(inputs) == 0:
        raise DeconvvizValueError(f"inputs have shape {tuple(inputs.shape)}; allowed: (N, C, H, W), N > 0")
    if not 0 < fire < 1:
        raise DeconvvizValueError(f"fire is {fire}; allowed: a share between 0 and 1")
    generator = torch.Generator().manual_seed(seed)
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            done: dict[str, Response] = {}
            order = _in_order(model, inputs[:1])
            for name, conv in order:
                if shown is not None:
                    shown(len(done), len(order))
                x = _inputs_of(model, conv, inputs)
                if done:
                    filters = _filters(x, conv, patches, dims, rounds, generator)
                else:
                    filters = first_filters(x, conv, generator)
                done[name] = _fit(conv, filters, x, fire, generator)
            return done
    finally:
        for module, mode in modes:
            module.training = mode


def _in_order(model: nn.Module, x: Tensor) -> list[tuple[str, nn.Conv2d]]:
    """The convolutions with a bias and without groups, in the order of their first call."""
    names = {m: n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    order: dict[nn.Module, None] = {}
    handles = [m.register_forward_pre_hook(lambda m, _: order.setdefault(m)) for m in names]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    convs = [(names[m], m) for m in order if isinstance(m, nn.Conv2d)]
    return [(name, m) for name, m in convs if m.groups == 1 and m.bias is not None]


@contextmanager
def _hooked(module: nn.Module, hook: Callable[[nn.Module, tuple[Tensor, ...]], None]) -> Iterator[None]:
    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _inputs_of(model: nn.Module, conv: nn.Conv2d, inputs: Tensor) -> Tensor:
    """What `conv` is given (N, C, H, W) for `inputs`."""
    found: list[Tensor] = []

    def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        found.append(args[0].clone())  # a later in-place operation may write to it
        raise _Reached

    with _hooked(conv, hook):
        for batch in torch.split(inputs, _BATCH):
            try:
                model(batch)
            except _Reached:
                continue
    return torch.cat(found)


def _patches(x: Tensor, conv: nn.Conv2d, count: int, generator: torch.Generator) -> Tensor:
    """(N * count, C * kh * kw): patches at random places of x (N, C, H, W)."""
    (kh, kw), (dh, dw) = conv.kernel_size, conv.dilation
    high, wide = (kh - 1) * dh + 1, (kw - 1) * dw + 1
    if x.shape[2] < high or x.shape[3] < wide:  # only padding lets the filter fit
        x = F.pad(x, (0, max(wide - x.shape[3], 0), 0, max(high - x.shape[2], 0)))
    n, _, h, w = x.shape
    ys = torch.randint(0, h - high + 1, (n, count, 1, 1), generator=generator)
    xs = torch.randint(0, w - wide + 1, (n, count, 1, 1), generator=generator)
    ys = ys + torch.arange(kh).view(1, 1, kh, 1) * dh
    xs = xs + torch.arange(kw).view(1, 1, 1, kw) * dw
    picture = torch.arange(n).view(n, 1, 1, 1)
    taken = x[picture.to(x.device), :, ys.to(x.device), xs.to(x.device)]  # (N, count, kh, kw, C)
    return taken.permute(0, 1, 4, 2, 3).reshape(n * count, -1)


def _filters(
    x: Tensor,
    conv: nn.Conv2d,
    count: int,
    dims: int,
    rounds: int,
    generator: torch.Generator,
) -> Tensor:
    """(maps, C * kh * kw): centroids of the whitened patches, mapped back to the patches' own space."""
    patches = _patches(x, conv, count, generator)
    flat = patches - patches.mean(1, keepdim=True)
    contrast = flat.std(1, keepdim=True)
    flat = flat / (contrast + contrast.median() * 0.1 + 1e-8)
    centred = flat - flat.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    keep = min(dims, len(values))
    shrink = (values[-keep:].clamp_min(0) + 0.1 * values.mean() + 1e-12).rsqrt()
    whiten = vectors[:, -keep:] * shrink
    filters: Tensor = spherical_kmeans(centred @ whiten, conv.out_channels, rounds, generator) @ whiten.T
    return filters - filters.mean(1, keepdim=True)  # the patches' mean was taken away, so is the filters'


def spherical_kmeans(points: Tensor, count: int, rounds: int, generator: torch.Generator) -> Tensor:
    """`count` unit vectors (count, D): the directions that `points` (N, D) cluster around.

    A centroid with fewer than 5 points starts again from a random one.
    """
    x = F.normalize(points, dim=1)

    def some(n: int) -> Tensor:
        return x[torch.randint(0, len(x), (n,), generator=generator).to(x.device)]

    order = torch.randperm(len(x), generator=generator)[:count].to(x.device)
    centres = torch.cat([x[order], some(count - len(order))])
    for _ in range(rounds):
        near, which = (x @ centres.T).max(1)
        sums = torch.zeros_like(centres).index_add_(0, which, x * near[:, None].clamp_min(0))
        few = torch.bincount(which, minlength=count) < 5
        if few.any():
            sums[few] = some(int(few.sum()))
        centres = F.normalize(sums, dim=1)
    return centres


def _fit(conv: nn.Conv2d, filters: Tensor, x: Tensor, fire: float, generator: torch.Generator) -> Response:
    """Scale `filters` into `conv` for unit deviation and set the bias so that a share `fire` is positive."""
    assert conv.bias is not None
    conv.weight.copy_(filters.view_as(conv.weight))
    conv.bias.zero_()
    parts = [conv(batch).transpose(0, 1).flatten(1) for batch in torch.split(x, _BATCH)]
    each = max(_SAMPLES // len(parts), 1)
    parts = [p[:, torch.randperm(p.shape[1], generator=generator)[:each].to(p.device)] for p in parts]
    y = torch.cat(parts, 1)
    std = y.std(1).clamp_min(1e-8)
    conv.weight.div_(std.view(-1, 1, 1, 1))
    y = y / std[:, None]
    conv.bias.copy_(-torch.quantile(y.float(), 1 - fire, dim=1).to(y))
    return Response(y.mean(1) + conv.bias, torch.ones_like(std))
