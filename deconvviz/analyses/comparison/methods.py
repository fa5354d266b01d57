"""Ways to say which pixels a score comes from: each a signed map (H, W) of one `Question`.

A **sensitivity** is how fast the score changes with a pixel: its size says how much the pixel matters, its sign only
whether brighter or darker would raise the score. A **contribution** is a share of the score itself: what is positive
speaks for it. A **baseline** knows nothing of the network.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deconvviz.analyses.comparison.question import Question
from deconvviz.analyses.occlusion.cover import Cover, Covered, as_result, positions_of
from deconvviz.analyses.occlusion.result import mean_over_windows
from deconvviz.engine.autograd import derivatives, followed
from deconvviz.engine.backward import walk_back
from deconvviz.engine.passes import plain_mode
from deconvviz.engine.replay.replay import Replay
from deconvviz.engine.replay.run import run as replay_all
from deconvviz.engine.replay.schedule import Schedule
from deconvviz.engine.rules import Walk
from deconvviz.engine.windows import Patch, from_whole
from deconvviz.errors import DeconvvizValueError, check_choice

STEPS = 50  # of the path of integrated gradients
SAMPLES = 25  # noisy pictures of SmoothGrad,
NOISE = 0.15  # and the deviation of their noise, as a share of the picture's range
_AT_ONCE = 10  # pictures that autograd follows together
_SHARE = 7  # an occluder's side goes so often into the picture's shorter one,
_OVERLAP = 4  # and its step so often into its side


@dataclass(frozen=True)
class Method:
    """A way to explain a score: `attribute` gives (C, H, W), or (1, H, W) where it knows no channels.

    `kind` is "sensitivity", "contribution" or "baseline", `says` what a value is, in words.
    """

    attribute: Callable[[Question], Tensor]
    kind: str
    says: str


def attributions(question: Question, method: str) -> Tensor:
    """What a method says of every value of the input, (C, H, W), or of every pixel, (1, H, W); on the CPU.

    Raises `UnknownNameError`, `DeconvvizValueError` for a layer without maps or a package that is missing, and
    `UnsupportedOperatorError` where the method knows no way through the network.
    """
    check_choice("method", method, tuple(METHODS))
    with plain_mode(question.image.device.type):
        return as_result(METHODS[method].attribute(question).detach()).cpu()


def signed_map(question: Question, method: str) -> Tensor:
    """The map (H, W) of a method, in its own unit: the sum of `attributions` over the channels, with their signs."""
    return attributions(question, method).sum(0)


# Signals sent back ----------------------------------------------------------------------------------------------------


def _sent_back(method: str) -> Callable[[Question], Tensor]:
    def attribute(question: Question) -> Tensor:
        found = torch.zeros_like(question.image)
        walk = Walk(question.rec, method, "add")
        walk_back(walk, question.value, from_whole(question.derivative[None]), 0, found)
        return found[0]

    return attribute


def gradient(question: Question) -> Tensor:
    """The derivative of the score by the picture (Simonyan et al. 2014), with its signs."""
    return derivatives(question.net.plain, question.rec, question.value, question.derivative)[0][0]


def input_x_gradient(question: Question) -> Tensor:
    """The gradient times the picture (Shrikumar et al. 2016)."""
    return question.image[0] * gradient(question)


# By captum ------------------------------------------------------------------------------------------------------------

BY_CAPTUM = ("integrated-gradients", "smoothgrad")


def check_installed(methods: Collection[str]) -> None:
    """Raise `DeconvvizValueError` if one of the methods needs captum and that is not installed."""
    if any(name in BY_CAPTUM for name in methods):
        _captum()


def _captum() -> Any:
    try:
        return importlib.import_module("captum.attr")
    except ImportError as error:
        raise DeconvvizValueError(
            f"{' and '.join(BY_CAPTUM)} need the package captum: pip install 'deconvviz[compare]' ({error})"
        ) from error


def _by_captum(question: Question, call: Callable[[Any, Callable[[Tensor], Tensor]], Tensor]) -> Tensor:
    """What `call` makes of captum and of the score as a function (K,) of pictures (K, C, H, W)."""
    captum = _captum()
    seed = question.derivative[0]
    used = seed != 0  # a place that does not count may hold anything
    with followed(question.net.plain, question.rec, question.value) as value:
        return call(captum, lambda x: value(x)[:, used] @ seed[used])[0]


def integrated_gradients(question: Question) -> Tensor:
    """The picture times the mean gradient on the way to it from the mean colour (Sundararajan et al. 2017)."""

    def call(captum: Any, score: Callable[[Tensor], Tensor]) -> Tensor:
        x = question.image.clone().requires_grad_()
        found: Tensor = captum.IntegratedGradients(score).attribute(x, 0, n_steps=STEPS, internal_batch_size=_AT_ONCE)
        return found

    return _by_captum(question, call)


def smoothgrad(question: Question) -> Tensor:
    """The mean gradient of pictures with noise upon them (Smilkov et al. 2017)."""

    def call(captum: Any, score: Callable[[Tensor], Tensor]) -> Tensor:
        x = question.image.clone().requires_grad_()
        deviation = NOISE * float(question.image.max() - question.image.min())
        with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
            torch.manual_seed(question.seed)
            found: Tensor = captum.NoiseTunnel(captum.Saliency(score)).attribute(
                x, nt_type="smoothgrad", nt_samples=SAMPLES, nt_samples_batch_size=_AT_ONCE, stdevs=deviation, abs=False
            )
        return found

    return _by_captum(question, call)


# Maps of a layer, weighted --------------------------------------------------------------------------------------------


def _weighted(question: Question) -> tuple[Tensor, Tensor]:
    """Maps (C, h, w) of the question's layer, and the derivatives of the score by them."""
    if question.cam is None:
        raise DeconvvizValueError("grad-cam and layer-cam need a layer with maps (N, C, H, W); this has none")
    maps = question.rec.values[question.cam.value]
    (slopes,) = derivatives(question.net.plain, question.rec, question.value, question.derivative, [question.cam.value])
    return maps[0], slopes[0]


def _enlarged(question: Question, found: Tensor) -> Tensor:
    """What is positive of a small map (h, w), as large as the picture, (1, H, W)."""
    size = question.image.shape[2:]
    return F.interpolate(found.clamp(min=0)[None, None], size, mode="bilinear", align_corners=False)[0]


def grad_cam(question: Question) -> Tensor:
    """A layer's maps, each weighted by its mean derivative, added up; the positive part (Selvaraju et al. 2017)."""
    maps, slopes = _weighted(question)
    return _enlarged(question, (slopes.mean((1, 2), keepdim=True) * maps).sum(0))


def layer_cam(question: Question) -> Tensor:
    """A layer's maps, weighted place by place by their positive derivatives, added up (Jiang et al. 2021)."""
    maps, slopes = _weighted(question)
    return _enlarged(question, (slopes.clamp(min=0) * maps).sum(0))


# Without a derivative -------------------------------------------------------------------------------------------------


def occluder(size: tuple[int, int]) -> tuple[int, int]:
    """Side and step of the square that `occlusion` moves over a picture of this size."""
    side = max(1, round(min(size) / _SHARE))
    return side, max(1, side // _OVERLAP)


def occlusion(question: Question) -> Tensor:
    """How much the score drops, on average, under the squares of the mean colour that cover a pixel."""
    x = question.image
    side, step = occluder((x.shape[2], x.shape[3]))
    grid = positions_of(x, side, step)
    changed = Covered(x, grid, Cover(x.new_zeros(x.shape[1], 1, 1), "grey", None))
    scores = torch.empty(len(grid.origins), dtype=torch.float64)

    def take(part: NDArray[np.int64], value: int, patch: Patch) -> None:
        scores[part] = question.scores(question.answers(patch))

    replay = Replay(question.rec, (question.value,), expected=len(scores))
    rows, cols = (np.unique(grid.origins[:, axis]) for axis in (0, 1))
    for _ in replay_all(Schedule(replay, rows, cols, grid.window, 64), lambda k: changed.at(grid.origins[k]), take):
        pass
    own = question.scores(question.answers(Patch(question.rec.values[question.value], None)))
    drop = (own - scores).view(grid.shape)
    return mean_over_windows(drop, torch.from_numpy(grid.origins), torch.ones(grid.window), grid.size)[None].to(x)


def edges(question: Question) -> Tensor:
    """How steep the brightness of the picture is, by Sobel's filters: where the edges are, whatever the network."""
    net, x = question.net, question.image
    grey = (net.denormalise(x) if net.card.mean else x).mean(1, keepdim=True)
    filters = grey.new_tensor([[1.0, 2.0, 1.0]]).T @ grey.new_tensor([[1.0, 0.0, -1.0]])
    both = torch.stack([filters, filters.T])[:, None]
    slopes = F.conv2d(F.pad(grey, (1, 1, 1, 1), "replicate"), both)
    return slopes.square().sum(1).sqrt()


def random(question: Question) -> Tensor:
    """Normal noise, the same for every picture of a size."""
    generator = torch.Generator().manual_seed(question.seed)
    return torch.randn(1, *question.image.shape[2:], generator=generator, dtype=torch.float64).to(question.image.dtype)


_PER_INPUT = "change of the score per unit of the input"
_OF_SCORE = "share of the score"

METHODS: dict[str, Method] = {
    "deconvnet": Method(_sent_back("deconvnet"), "sensitivity", "signal of the score sent back, rectified on its way"),
    "guided": Method(_sent_back("guided"), "sensitivity", "gradient, rectified on its way"),
    "gradient": Method(gradient, "sensitivity", _PER_INPUT),
    "input-x-gradient": Method(input_x_gradient, "contribution", _OF_SCORE),
    "integrated-gradients": Method(integrated_gradients, "contribution", _OF_SCORE),
    "smoothgrad": Method(smoothgrad, "sensitivity", f"{_PER_INPUT}, mean under noise"),
    "grad-cam": Method(grad_cam, "contribution", "weighted sum of maps, positive part"),
    "layer-cam": Method(layer_cam, "contribution", "weighted sum of maps, positive part"),
    "occlusion": Method(occlusion, "contribution", "drop of the score if covered"),
    "edges": Method(edges, "baseline", "slope of the brightness"),
    "random": Method(random, "baseline", "noise"),
}
