"""Explain a picture: classes, occlusion, Grad-CAM, the units that the class comes through, and checks of all that."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.analyses.comparison.methods import occluder, signed_map
from deconvviz.analyses.comparison.question import Question, ask
from deconvviz.analyses.explanation.result import Explanation, Stage
from deconvviz.analyses.explanation.stages import stages_of
from deconvviz.analyses.given import answer_in, whole_of
from deconvviz.analyses.occlusion.compute import occlude_recorded
from deconvviz.analyses.projection.compute import METHODS, project_recorded, switches_to
from deconvviz.analyses.projection.result import Projection
from deconvviz.analyses.sanity.compute import sanity
from deconvviz.analyses.sanity.randomise import steps_to
from deconvviz.analyses.sanity.result import Sanity
from deconvviz.engine.autograd import derivatives
from deconvviz.engine.layers import FoundLayer
from deconvviz.engine.passes import plain_mode
from deconvviz.engine.replay.onward import onward
from deconvviz.errors import UnsupportedOperatorError, check_choice, check_counts
from deconvviz.network.network import Network, Target
from deconvviz.network.preprocessing import Picture, Pictures
from deconvviz.progress import Progress, heard

_LAYERS = 4  # of each cascade of random weights, at most


def explain(
    model: Network | nn.Module,
    image: Picture,
    target: Target = None,
    layers: Sequence[str | nn.Module] | None = None,
    top: int = 3,
    method: str | None = None,
    window: int | Sequence[int] | None = None,
    stride: int | Sequence[int] | None = None,
    checks: bool = True,
    others: Pictures | None = None,
    output: str | None = None,
    batch: int = 64,
    progress: Progress = None,
) -> Explanation:
    """Say what a network makes of a picture, what drives that, through which units, and how far that can be believed.

    `image`, `target` (a class, None: the model's own answer), `window`, `stride` (of the occluder; None: a seventh of
    the picture, and a quarter of that) and `output` are those of `occlude`. `layers` are the stages: None takes the
    numbered aliases of the card, or, where there are none, the last layer of each size that maps have,
    of the outermost modules with such maps. Of each the
    `top` maps are taken that add most to the class's logit (Σ activation × derivative), and

    - projected by `method`, each from the place that adds most (None: the DeconvNet, or guided backpropagation where no
      max pool lies on the way and the DeconvNet would not follow the photograph);
    - set to zero one by one, for the drop of the logit: exact, by running again what lies above the layer;
    - checked by `sanity` (not if `checks` is False), with `others` as other pictures.

    Returns an `Explanation`. Raises the errors of `occlude` and `project`. The model is left exactly as it was.

    >>> e = deconvviz.explain(deconvviz.load("zfnet"), "image.jpg", layers=["conv5"], top=2, checks=False)
    >>> e.stages[0].drops.shape, e.save("page.html").name
    (torch.Size([2]), 'page.html')
    """
    check_counts(top=top, batch=batch)
    if method is not None:
        check_choice("method", method, METHODS)
    net = Network.of(model)
    x = net.preprocess(image)
    question = ask(net, x, target, output=output)
    assert question.readout is not None  # it is about a class
    rec = question.rec
    found = stages_of(net, rec, question.value, layers)
    side, step = occluder((x.shape[2], x.shape[3]))
    given = whole_of(net, image)
    with heard(progress, "parts") as report:
        done = _Parts(report, 2 + len(found))
        occlusion = occlude_recorded(
            net, rec, given, target, window or side, stride or step, "grey", None,
            batch, None, "all", 0, None, "deconvnet", output,
        )  # fmt: skip
        done.tick()
        with plain_mode(x.device.type):
            cam = None if question.cam is None else signed_map(question, "grad-cam")
        done.tick()
        stages = []
        for layer in found:
            stages.append(_stage(net, question, layer, top, method, checks, others, batch))
            done.tick()
        logits = question.readout.scores(rec.values[question.value])[0]
    return Explanation(
        logits=logits.float().cpu().clone(), target=question.number, occlusion=occlusion, cam=cam,
        cam_layer=None if question.cam is None else question.cam.path, stages=tuple(stages), image=x[0],
        labels=net.card.labels, answer=answer_in(net, rec), policy={"top": top, "checks": checks}, **given,
        **net.provenance(),
    )  # fmt: skip


class _Parts:
    def __init__(self, report: Callable[[int, int], object] | None, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def tick(self) -> None:
        """One part more is done."""
        self._done += 1
        if self._report is not None:
            self._report(self._done, self._total)


@dataclass
class _Units:
    """Units of a layer, what each adds to the class, and the place of its map that adds most."""

    numbers: Tensor
    adds: Tensor
    places: Tensor


def _stage(
    net: Network, question: Question, layer: FoundLayer, top: int, method: str | None, checks: bool, others: Any,
    batch: int,
) -> Stage:  # fmt: skip
    rec = question.rec
    units = _driving(question, layer.value, top)
    projection = _projected(question, layer, units, method or _following(question, layer), batch)
    checked = _checked(net, question, layer, units, projection, others, batch) if checks else None
    value = rec.values[layer.value]
    return Stage(
        layer.path, layer.alias, projection, units.adds, _drops(question, layer.value, units.numbers),
        int(value.shape[1]), (int(value.shape[2]), int(value.shape[3])), checked, policy={"without": "its map zero"},
        model=projection.model,
    )  # fmt: skip


def _driving(question: Question, value: int, top: int) -> _Units:
    """The maps that add most to the class: Σ activation × derivative over each."""
    with plain_mode(question.image.device.type):
        (slope,) = derivatives(question.net.plain, question.rec, question.value, question.derivative, (value,))
        shares = (slope * question.rec.values[value])[0].double().cpu()
    total = shares.sum((1, 2))
    numbers = torch.sort(total, descending=True, stable=True).indices[:top]
    at = shares[numbers].flatten(1).argmax(1)
    places = torch.stack([at // shares.shape[2], at % shares.shape[2]], 1)
    return _Units(numbers, total[numbers], places)


def _drops(question: Question, value: int, units: Tensor) -> Tensor:
    """By how much the score falls with each unit's map set to zero, (K,) float64."""
    rec, readout = question.rec, question.readout
    assert readout is not None

    def score(out: Tensor) -> float:
        return float(readout.scores(out)[0, question.number])

    drops = []
    with plain_mode(question.image.device.type):
        own = score(rec.values[question.value])
        for unit in units.tolist():
            data = rec.values[value].clone()
            data[:, unit] = 0
            drops.append(own - score(onward(rec, value, data, question.value)))
    return torch.tensor(drops, dtype=torch.float64)


def _following(question: Question, layer: FoundLayer) -> str:
    """The method that follows the photograph: the DeconvNet wherever it does."""
    return "guided" if switches_to(question.rec, layer.value)[1] else "deconvnet"


def _projected(question: Question, layer: FoundLayer, units: _Units, method: str, batch: int) -> Projection:
    """The units by `method`, or by the gradient through what that knows no way through: the policy says which."""
    for way in (method, "gradient"):
        try:
            return project_recorded(
                question.net, question.rec, layer, units.numbers, place=units.places, method=way, batch=batch
            )
        except UnsupportedOperatorError:
            if way == "gradient":
                raise
    raise AssertionError  # the loop ends in one of the two


def _checked(
    net: Network, question: Question, layer: FoundLayer, units: _Units, projection: Projection, others: Any, batch: int
) -> Sanity | None:
    """The sanity of these very projections, without pictures of its own; None for a model that cannot be copied, or a
    layer with nothing to draw anew."""
    name = layer.alias or layer.path
    if not steps_to(question.rec, layer.value, net.plain, {}):
        return None
    try:
        found = sanity(
            net, question.image, name, units.numbers, str(projection.policy["method"]), others, units.places,
            most=_LAYERS, batch=batch,
        )  # fmt: skip
    except UnsupportedOperatorError:
        return None
    return dataclasses.replace(found, examples=found.examples[:0])
