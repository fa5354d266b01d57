"""Sanity checks of projections: weights drawn anew, another picture, another unit, another picture's switches.

Adebayo et al. 2018 (randomisation of weights); Mahendran and Vedaldi 2016, Nie et al. 2018 (what deconvolution shows).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deconvviz.analyses.given import answer_of, whole_of
from deconvviz.analyses.projection.compute import (
    check_how,
    first_units,
    pixels_of,
    places_of,
    switches_to,
    unit_numbers,
)  # fmt: skip
from deconvviz.analyses.sanity.measures import MEASURES, alike, cosines
from deconvviz.analyses.sanity.randomise import ASTRAY, DRAWN, Copy, steps_to
from deconvviz.analyses.sanity.result import Sanity
from deconvviz.engine.geometry import boxes
from deconvviz.engine.layers import FoundLayer, layer_maps
from deconvviz.engine.recording import Recording
from deconvviz.engine.rules import Walk, rule_of
from deconvviz.errors import DeconvvizValueError, UnsupportedOperatorError, check_counts
from deconvviz.network.finite import check_value
from deconvviz.network.network import Network, check_sizes
from deconvviz.network.preprocessing import Picture, Pictures
from deconvviz.progress import Progress, heard

_NEIGHBOURS = 4  # other units that each is compared with
_SHOWN = 2  # units whose projections are kept to be looked at
_DRAWN = 4  # random layers at which they are


def sanity(
    model: Network | nn.Module,
    image: Picture,
    layer: str | nn.Module,
    units: int | Sequence[int] | Tensor | None = None,
    method: str = "deconvnet",
    others: Pictures | None = None,
    place: tuple[int, int] | Sequence[Sequence[int]] | Tensor | None = None,
    top: int = 9,
    most: int = 16,
    overlap: str = "add",
    attention: str = "refused",
    seed: int = 0,
    batch: int = 64,
    progress: Progress = None,
) -> Sanity:
    """Say whether projections of units of `layer` in one picture depend on what they are said to show.

    `image`, `layer`, `units` (numbers, or None for the `top` strongest), `place`, `method`, `overlap`, `attention` and
    `batch` are those of `project`. Each unit is sent back from one place, also where it is compared with others, and
    whether it fires there or not: seeded with 1, below the layer's own rectifier.

    *Weights*: they are drawn anew in a copy, by torch's own initialisation of each layer (else shuffled), from the
    layer down to the picture, cumulatively and each layer alone. A norm goes with the layer before it. Layers above
    have no part in a projection, so they stay. At most `most` of the layers, evenly chosen, are looked at; the cascade
    draws all of them. *Pictures*: `others` (as `Network.inputs` takes them); None: this one mirrored, and turned round.
    *Units*: the four others that respond most at the unit's place. *Switches*: the unit's whole map in this picture
    sent back through the switches of another, and the other's through the switches of this one.

    Returns a `Sanity`. Raises the errors of `project`, and `DeconvvizValueError` for a layer without parameters below,
    or other pictures of another size. The model is left exactly as it was.

    >>> s = deconvviz.sanity(deconvviz.load("zfnet"), "image.jpg", "conv2", units=[7, 8])
    >>> s.cascading.shape, 0 <= s.between_pictures <= 1
    (torch.Size([2, 2, 4]), True)
    """
    check_how(None, top, method, overlap, batch, attention, None, None)
    check_counts(most=most)
    net = Network.of(model)
    x = net.preprocess(image)
    with heard(progress, "passes") as report:
        sender = _Sender(net, layer, (method, overlap, attention), batch)
        first = sender.pass_of(net, x)
        chosen = _chosen(net, first, units, top, place)
        steps = steps_to(first.rec, first.found.value, net.plain, net.card.aliases)
        if not steps:
            raise DeconvvizValueError("no layer with parameters leads there: there is nothing to randomise")
        shown = _evenly(len(steps), most)
        inputs, companions = _companions(net, x, others)
        counter = _Counter(report, 1 + len(inputs) + 2 * len(shown))
        base = sender.pixels(first, chosen.units, chosen.places)
        counter.tick()
        neighbours = _neighbours(sender, first, chosen)
        pictures = [_compared(sender, first, sender.pass_of(net, other), chosen) for other in _told(inputs, counter)]
        copied = Copy(net.plain, seed)
        twin = net.carried(copied.module)

        def again() -> Tensor:
            return sender.pixels(sender.pass_of(twin, x), chosen.units, chosen.places)

        before = []
        cascading = []
        for k, step in enumerate(steps):
            before += copied.randomise(step)
            if k in shown:
                cascading.append(again())
                counter.tick()
        if sender.pass_of(twin, x).maps.equal(first.maps) and first.maps.any():
            raise UnsupportedOperatorError(ASTRAY)
        copied.restore(before)
        independent = []
        for k in shown:
            before = copied.randomise(steps[k])
            independent.append(again())
            copied.restore(before)
            counter.tick()
    drawn = [(steps[shown[k]].name, cascading[k]) for k in _evenly(len(shown), _DRAWN)]
    names, examples = _examples(base, drawn, neighbours, pictures)
    given: dict[str, Any] = {}
    if not isinstance(image, Tensor):
        given = {**whole_of(net, image), "answer": answer_of(net, x)}
    return Sanity(
        layer=first.found.path, alias=first.found.alias, units=chosen.units, places=chosen.places,
        activations=chosen.activations, boxes=chosen.boxes, layers=tuple(steps[k].name for k in shown),
        measures=MEASURES, cascading=_similarities(base, cascading, chosen.boxes),
        independent=_similarities(base, independent, chosen.boxes),
        unit_chance=_similarities(base, neighbours, chosen.boxes).nanmean(0),
        picture_chance=_similarities(base, [p.pixels for p in pictures], chosen.boxes).nanmean(0),
        other_pictures=_mean([cosines(base, p.pixels) for p in pictures]),
        other_units=_mean([cosines(base, n) for n in neighbours], len(base)),
        other_signal=_mean([p.signal for p in pictures]), other_switches=_mean([p.switches for p in pictures]),
        switches=switches_to(first.rec, first.found.value)[0], companions=companions, examples=examples,
        example_names=names, image=x[0], labels=net.card.labels,
        policy={
            "method": method, "overlap": overlap, "seed": seed, "drawn": DRAWN, "layers": len(steps),
            "compared": "inside the receptive field; cosines in the whole picture; what sends nothing back left out",
        },
        **given, **net.provenance(),
    )  # fmt: skip


def _evenly(count: int, most: int) -> list[int]:
    """At most so many of the numbers 0 to `count` - 1, the first and the last among them."""
    return [round(float(k)) for k in np.linspace(0, count - 1, min(most, count))]


@dataclass
class _Pass:
    """One recorded pass as far as the layer, and its maps (C, h, w)."""

    rec: Recording
    found: FoundLayer
    walk: Walk
    net: Network

    @property
    def maps(self) -> Tensor:
        return layer_maps(self.rec, self.found)

    @property
    def start(self) -> int:
        """The value that units are sent back from: below the layer's own rectifier.

        It would silence a unit that does not fire in another picture or with other weights; of one that fires it
        changes the strength alone.
        """
        op = self.rec.producer.get(self.found.value)
        below = op is not None and self.rec.beyond is None and rule_of(op).role == "activation" and len(op.inputs) == 1
        return op.inputs[0] if op is not None and below else self.found.value


@dataclass
class _Sender:
    """Sends units of one layer back, in whatever network and picture."""

    net: Network
    layer: str | nn.Module
    policy: tuple[str, str, str]
    batch: int

    def pass_of(self, net: Network, x: Tensor) -> _Pass:
        """Record a picture as far as the layer; in a copy the layer is the one of the same path."""
        layer = self.layer
        if not isinstance(layer, str) and net is not self.net:
            layer = next(path for path, m in self.net.plain.named_modules() if m is layer)
        rec, found = net.record_to(x, layer, self.policy)
        return _Pass(rec, found, Walk(rec, *self.policy, prepared={}), net)

    def pixels(self, one: _Pass, units: Tensor, places: Tensor, maps: Tensor | None = None) -> Tensor:
        """The projections (K, C, H, W), not scaled by the activations, of units at places, or of whole maps."""
        return pixels_of(one.net, one.walk, one.start, units, places, maps, self.batch).cpu()


@dataclass
class _Chosen:
    """The units in question, where each is strongest, how strong, and its receptive field there."""

    units: Tensor
    places: Tensor
    activations: Tensor
    boxes: Tensor


@dataclass
class _Compared:
    """Another picture: the same units at the same places, and |cosines| with maps and switches exchanged."""

    pixels: Tensor
    signal: Tensor
    switches: Tensor
    drawn: tuple[Tensor, Tensor]


class _Counter:
    def __init__(self, report: Callable[[int, int], object] | None, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def tick(self) -> None:
        """One pass more is done."""
        self._done += 1
        if self._report is not None:
            self._report(self._done, self._total)


def _told(inputs: Sequence[Tensor], counter: _Counter) -> Any:
    for one in inputs:
        yield one
        counter.tick()


def _chosen(net: Network, one: _Pass, units: Any, top: int, place: Any) -> _Chosen:
    maps = one.maps
    if not net.allow_nonfinite:
        check_value(one.rec, one.found.value, f"'{one.found.alias or one.found.path or 'the output'}'")
    index = first_units(maps, top).units if units is None else unit_numbers(units, maps)
    own = maps[index.to(maps.device)].float().cpu()
    if place is None:
        at = own.flatten(1).argmax(1)
        places = torch.stack([at // maps.shape[2], at % maps.shape[2]], 1)
    else:
        places = places_of(place, len(index), maps.shape[1], maps.shape[2])
    activations = own[torch.arange(len(index)), places[:, 0], places[:, 1]]
    fields = torch.tensor([[0, 0, *one.rec.values[0].shape[2:]]]).repeat(len(index), 1)
    if one.rec.values[one.found.value].dim() == 4:
        fields = boxes(one.rec, one.found.value, [(int(r), int(c)) for r, c in places.tolist()])
    return _Chosen(index, places, activations, fields)


def _companions(net: Network, x: Tensor, others: Pictures | None) -> tuple[list[Tensor], tuple[str, ...]]:
    """Other pictures (1, C, H, W), and what they are called."""
    if others is None:
        return [x.flip(3), x.flip(2, 3)], ("this picture mirrored", "this picture turned round")
    inputs, names = net.inputs(others)
    check_sizes([x, inputs[:1]])
    kept = [(one[None], name) for one, name in zip(inputs, names, strict=True) if not one.equal(x[0])]
    if not kept:
        raise DeconvvizValueError("others holds this picture alone; allowed: at least one other, or None")
    return [one for one, _ in kept], tuple(name for _, name in kept)


def _neighbours(sender: _Sender, one: _Pass, chosen: _Chosen) -> list[Tensor]:
    """For each unit others at its place, those that respond most: some projections (K, C, H, W) of one other each."""
    rows, columns = chosen.places.T
    there = one.maps[:, rows, columns].float().cpu()
    there[chosen.units, torch.arange(len(chosen.units))] = -torch.inf
    count = min(_NEIGHBOURS, len(there) - 1)
    order = torch.sort(there, dim=0, descending=True, stable=True).indices[:count]
    return [sender.pixels(one, units, chosen.places) for units in order]


def _compared(sender: _Sender, one: _Pass, other: _Pass, chosen: _Chosen) -> _Compared:
    index = chosen.units.to(one.maps.device)
    own, another = one.maps[index], other.maps[index]
    whole = sender.pixels(one, chosen.units, chosen.places, own)
    by_signal = sender.pixels(one, chosen.units, chosen.places, another)
    by_switches = sender.pixels(other, chosen.units, chosen.places, own)
    return _Compared(
        sender.pixels(other, chosen.units, chosen.places), cosines(whole, by_signal), cosines(whole, by_switches),
        (by_signal[:_SHOWN], by_switches[:_SHOWN]),
    )  # fmt: skip


def _similarities(base: Tensor, others: Sequence[Tensor], fields: Tensor) -> Tensor:
    """How alike each unit's projection is to its partner in `others`, in its receptive field, (len(others), K, M)."""
    found = base.new_full((len(others), len(base), len(MEASURES)), torch.nan, dtype=torch.float64)
    for n, other in enumerate(others):
        for k, (top, left, bottom, right) in enumerate(fields.tolist()):
            found[n, k] = alike(base[k, :, top:bottom, left:right], other[k, :, top:bottom, left:right])
    return found


def _mean(several: Sequence[Tensor], count: int = 0) -> Tensor:
    """The mean (K,) of some (K,) but for NaN; NaN for each of `count` units where there are none."""
    return torch.stack(list(several)).nanmean(0) if several else torch.full((count,), torch.nan, dtype=torch.float64)


def _examples(
    base: Tensor, random: Sequence[tuple[str, Tensor]], neighbours: Sequence[Tensor], pictures: Sequence[_Compared]
) -> tuple[tuple[str, ...], Tensor]:
    """Names and projections (U, E, C, H, W) of the first units, to be looked at."""
    found = [("untouched", base), *((f"random to {name}", pixels) for name, pixels in random)]
    found += [("another unit", neighbours[0])] if neighbours else []
    first = pictures[0]
    found += [("another picture", first.pixels), ("its signal, these switches", first.drawn[0]),
              ("this signal, its switches", first.drawn[1])]  # fmt: skip
    return tuple(name for name, _ in found), torch.stack([pixels[:_SHOWN].float() for _, pixels in found], 1)
