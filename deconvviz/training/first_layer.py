"""Filters for a first convolution: shift-aligned k-means on patches low-passed to what the stride carries.

Plain k-means on patches finds every edge once for each pixel it can be moved by, and lines finer than the stride can
carry. Here each patch is compared at every shift and takes part where it fits best, either way round: "convolutional"
k-means, after Dundar, Jin and Culurciello, "Convolutional clustering for unsupervised learning" (2015), on patches
contrast-normalised and whitened as in Coates & Ng, "Learning feature representations with k-means" (2012). Of twice
as many centroids those are kept that most patches belong to, that are no near-duplicates, and that do not alias.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvviz.analyses.filters.measures import above, twins
from deconvviz.engine.rules.kernels import pair

_PATCHES = 30_000
_ROOM = 2  # pixels that a patch may be moved by, each way
_ROUNDS = 20
_SHARE = 0.3  # of the mean variance, added before whitening: more of it, more grey filters and fewer colours
_CHUNK = 4096
# |cosine| at any shift, and energy beyond what the stride carries: from the strictest on, until enough are left.
_BOUNDS = ((0.85, 0.4), (0.9, 0.45), (0.94, 0.49), (0.98, 0.8), (2.0, 2.0))


def first_filters(x: Tensor, conv: nn.Conv2d, generator: torch.Generator) -> Tensor:
    """Filters (maps, C, kh, kw) without a mean for `conv`, from the preprocessed pictures `x` (N, C, H, W)."""
    room = _ROOM if conv.dilation == (1, 1) else 0
    patches = _patches(_low_passed(x, pair(conv.stride)), conv, room, generator)
    views, whiten = _whitened(patches, conv, room)
    centroids, members = _cluster(views, 2 * conv.out_channels, generator)
    filters = centroids @ whiten.T
    filters = (filters - filters.mean(1, keepdim=True)).view(-1, *conv.weight.shape[1:])
    return filters[_choose(filters, members, conv)]


def _low_passed(x: Tensor, stride: tuple[int, int]) -> Tensor:
    """`x` blurred along each axis by a Gaussian of half the stride; a stride of 1 carries everything."""
    channels = x.shape[1]
    for axis, step in enumerate(stride):
        if step == 1:
            continue
        radius = min(2 * step, x.shape[2 + axis] - 1)
        places = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
        kernel = torch.exp(-0.5 * (2 * places / step) ** 2)
        kernel = (kernel / kernel.sum()).view((1, 1, -1, 1) if axis == 0 else (1, 1, 1, -1))
        sides = (0, 0, radius, radius) if axis == 0 else (radius, radius, 0, 0)
        x = F.conv2d(F.pad(x, sides, mode="reflect"), kernel.repeat(channels, 1, 1, 1), groups=channels)
    return x


def _patches(x: Tensor, conv: nn.Conv2d, room: int, generator: torch.Generator) -> Tensor:
    """(P, C, h, w): patches at random places, larger than the filters by `room` on each side, not the flat ones."""
    (kh, kw), (dh, dw) = conv.kernel_size, conv.dilation
    high, wide = (kh - 1) * dh + 1 + 2 * room, (kw - 1) * dw + 1 + 2 * room
    if x.shape[2] < high or x.shape[3] < wide:  # only padding lets the filter fit
        x = F.pad(x, (0, max(wide - x.shape[3], 0), 0, max(high - x.shape[2], 0)))
    n, _, h, w = x.shape
    count = math.ceil(_PATCHES / n)
    rows = torch.randint(0, h - high + 1, (n, count, 1, 1), generator=generator) + torch.arange(0, high, dh)[:, None]
    columns = torch.randint(0, w - wide + 1, (n, count, 1, 1), generator=generator) + torch.arange(0, wide, dw)
    picture = torch.arange(n).view(n, 1, 1, 1)
    taken = x[picture.to(x.device), :, rows.to(x.device), columns.to(x.device)]  # (N, count, h, w, C)
    taken = taken.permute(0, 1, 4, 2, 3).flatten(0, 1)
    contrast = _inner(taken, room).flatten(1).std(1)
    return taken[contrast >= contrast.median() * 0.5]


def _inner(patches: Tensor, room: int) -> Tensor:
    return patches[:, :, room : patches.shape[2] - room, room : patches.shape[3] - room]


def _whitened(patches: Tensor, conv: nn.Conv2d, room: int) -> tuple[Tensor, Tensor]:
    """Unit vectors (P, S, D), each patch at every shift, contrast-normalised and whitened; and what whitens (D, D)."""
    kh, kw = conv.kernel_size
    floor = _inner(patches, room).flatten(1).std(1).median() * 0.3 + 1e-8  # noise is not to be blown up

    def views(part: Tensor) -> Tensor:
        windows = part.unfold(2, kh, 1).unfold(3, kw, 1)  # (p, C, S, S, kh, kw)
        flat = windows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        flat = flat - flat.mean(2, keepdim=True)
        return flat / (flat.std(2, keepdim=True) + floor)

    middle = views(_inner(patches, room))[:, 0]
    values, vectors = torch.linalg.eigh(middle.T @ middle / len(middle))
    whiten = vectors * (values.clamp_min(0) + _SHARE * values.mean() + 1e-12).rsqrt()
    chunks = torch.split(patches, _CHUNK)
    return torch.cat([F.normalize(views(part) @ whiten, dim=2) for part in chunks]), whiten


def _cluster(views: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`count` unit vectors (count, D) that the patches of `views` (P, S, D) cluster around, and how many do (count,).

    A centroid with fewer than 10 patches starts again from a random one.
    """
    middle = views[:, views.shape[1] // 2]

    def some(number: int) -> Tensor:
        return middle[torch.randint(0, len(middle), (number,), generator=generator).to(views.device)]

    order = torch.randperm(len(middle), generator=generator)[:count].to(views.device)
    centroids = torch.cat([middle[order], some(count - len(order))])
    members = torch.zeros(count, dtype=torch.long, device=views.device)
    for _ in range(_ROUNDS):
        sums, members = torch.zeros_like(centroids), torch.zeros_like(members)
        for part in torch.split(views, _CHUNK):
            near = (part @ centroids.T).flatten(1)  # every shift with every centroid
            best = near.abs().argmax(1)
            shift, which = best // count, best % count
            fit = near.gather(1, best[:, None])  # signed: the patch may be the filter's negative
            sums.index_add_(0, which, part[torch.arange(len(part), device=part.device), shift] * fit)
            members += torch.bincount(which, minlength=count)
        few = members < 10
        if few.any():
            sums[few] = some(int(few.sum()))
        centroids = F.normalize(sums, dim=1)
    return centroids, members


def _choose(filters: Tensor, members: Tensor, conv: nn.Conv2d) -> list[int]:
    """Which of `filters` to keep: as many as `conv` has maps, by the strictest of the bounds that leave enough."""
    wasted = above(filters.cpu(), pair(conv.stride), pair(conv.dilation)).nan_to_num(2.0).tolist()
    order = members.argsort(descending=True, stable=True).tolist()
    kept: list[int] = []
    for similar, alias in _BOUNDS:
        for i in order:
            if len(kept) == conv.out_channels:
                return kept
            if i not in kept and wasted[i] <= alias and _apart(filters, i, kept, similar):
                kept.append(i)
    return kept


def _apart(filters: Tensor, i: int, kept: list[int], similar: float) -> bool:
    """Whether filter `i` is no near-duplicate of one that is kept, at any shift."""
    if not kept or similar > 1:
        return True
    return float(twins(filters[[i, *kept]].cpu(), 1)[0][0].abs()) < similar
