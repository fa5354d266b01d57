"""The DeconvNet: send units of a recorded layer back to pixels, many at once (Zeiler & Fergus 2014, section 2.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.analyses.given import answer_of, whole_of
from deconvviz.analyses.projection.result import Projection
from deconvviz.engine.autograd import derivatives, gradients
from deconvviz.engine.backward import walk_back
from deconvviz.engine.geometry import boxes, field_of
from deconvviz.engine.layers import FoundLayer, layer_maps
from deconvviz.engine.memory import check_memory, told
from deconvviz.engine.passes import plain_mode
from deconvviz.engine.readout import Readout
from deconvviz.engine.recorder import record
from deconvviz.engine.recording import Recording
from deconvviz.engine.rules import Walk, rule_of
from deconvviz.engine.windows import Signal, Windows, from_whole
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, check_choice, check_counts, warn
from deconvviz.network.finite import check_value, overflows
from deconvviz.network.network import Network, Target
from deconvviz.network.preprocessing import Pictures, several
from deconvviz.progress import Progress, Report, heard

METHODS = ("deconvnet", "guided", "gradient")
OVERLAPS = ("add", "overwrite", "max")
ATTENTIONS = ("refused", "constant")


def project(
    model: Network | nn.Module,
    image: Pictures,
    layer: str | nn.Module,
    units: int | str | Sequence[int] | Tensor | None = None,
    top: int = 9,
    place: tuple[int, int] | Sequence[Sequence[int]] | Tensor | None = None,
    seed: str | Tensor = "activation",
    method: str = "deconvnet",
    overlap: str = "add",
    batch: int = 64,
    target: Target = None,
    output: str | None = None,
    attention: str = "refused",
    progress: Progress = None,
    distinct: bool = False,
) -> Projection | list[Projection]:
    """Project units of `layer` to the pixels of a picture.

    `image` is a path or PIL image (with a `Network` that has mean and std), or a preprocessed tensor (C, H, W) or (1,
    C, H, W); several pictures (a list, a folder, a data set or its loader, a tensor (N, C, H, W)) give a list of
    results, each as if it were alone. `layer` is an alias, a module path (`path#i` for its i-th call) or a module.
    `units` are feature maps: numbers, None for the `top` strongest, or "class" for the `top` that add most to the logit
    of `target` (as for `occlude`; `output` says which of several outputs holds logits). Each unit is seeded with its
    strongest activation (the first in raster order), at `place` (row, column) or (K, 2) if given; `seed="map"` sends
    the whole map back, a tensor (K, h, w) itself. `method`: "deconvnet" | "guided" | "gradient"; `overlap`, for places
    that are the maximum of several pools: "add" (the adjoint) | "overwrite" (last in raster order) | "max".
    `attention`, for "deconvnet" and "guided": "refused" | "constant" (its weights are recorded constants, the signal
    goes through the values). Memory is bounded by `batch` units at a time, besides the result. With `distinct`, of the
    strongest units (or those of a class) one is passed over whose strongest place lies within half a receptive field of
    that of one before it, so that each shows something else; there may be fewer than `top`. `progress` is True for a
    bar, or called with the units done and in all, those of each picture.

    Returns a `Projection`; its pixels are (K, C, H, W) in the input's own scale, signed. A deconvnet's projection
    follows the photograph by the switches of max pools alone (Mahendran and Vedaldi 2016; Nie et al. 2018): `switches`
    says how many pools lie on the way, and where there is none a `DeconvvizWarning` says what that means.

    Raises `UnknownNameError`, `DeconvvizTypeError`, `DeconvvizValueError` (also for a layer that is not finite for this
    picture, which says where that began), and `UnsupportedOperatorError` for a network with an operator that cannot be
    recorded, or through which the method knows no way (it says which do). The model is left exactly as it was.

    >>> p = deconvviz.project(deconvviz.load("zfnet"), "image.jpg", "conv5", top=3)
    >>> p.pixels.shape, p.units.shape, p.places.shape
    (torch.Size([3, 3, 224, 224]), torch.Size([3]), torch.Size([3, 2]))

    Any module, with a tensor; the strongest place of map 0, by guided backpropagation:

    >>> module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 4, 3))
    >>> p = deconvviz.project(module, torch.rand(1, 12, 12), "3", units=[0], method="guided")
    >>> p.boxes[0, 2:] - p.boxes[0, :2]  # its receptive field: 8 rows, 8 columns
    tensor([8, 8])
    """
    net = Network.of(model)
    pictures = several(image, net.card.channels or 3)
    with heard(progress, "units") as report:
        found = [
            project_one(
                net, one, layer, units, top, place, seed, method, overlap, batch, target, output, attention, report,
                distinct,
            )
            for one in ([image] if pictures is None else pictures)
        ]  # fmt: skip
    return found[0] if pictures is None else found


def project_one(
    net: Network, image: Any, layer: str | nn.Module, units: Any = None, top: int = 9, place: Any = None,
    seed: str | Tensor = "activation", method: str = "deconvnet", overlap: str = "add", batch: int = 64,
    target: Target = None, output: str | None = None, attention: str = "refused", report: Report | None = None,
    distinct: bool = False,
) -> Projection:  # fmt: skip
    """As `project`, of one picture."""
    check_how(units, top, method, overlap, batch, attention, target, output)
    x = net.preprocess(image)
    with told(x):
        if isinstance(units, str):
            rec = record(net.plain, x)
            found = net.find_layer(rec, layer)
        else:
            policy = method, overlap, attention
            check_memory(net.module, x, layer, net.card.aliases, policy, _count(units, top))
            rec, found = net.record_to(x, layer, policy)
            if rec.kept_for is not None and overflows(rec.values[found.value]):
                rec, found = net.record_to(x, layer)  # all values, to say where it began
        more: dict[str, Any] = {}
        if not isinstance(image, Tensor):
            more = {**whole_of(net, image), "answer": answer_of(net, x)}
        return project_recorded(
            net, rec, found, units, top, place, seed, method, overlap, batch, attention, report, distinct, more, target,
            output,
        )  # fmt: skip


def check_how(
    units: Any, top: int, method: str, overlap: str, batch: int, attention: str, target: Target, output: str | None
) -> None:
    """Raise the errors of `project` for what needs no recording to be seen as wrong."""
    check_choice("method", method, METHODS)
    check_choice("overlap", overlap, OVERLAPS)
    check_choice("attention", attention, ATTENTIONS)
    check_counts(top=top, batch=batch)
    if isinstance(units, str):
        check_choice("units", units, ("class",))
    elif target is not None or output is not None:
        raise DeconvvizValueError('target and output go with units="class"')


def project_recorded(
    net: Network, rec: Recording, found: FoundLayer, units: Any, top: int = 9, place: Any = None,
    seed: str | Tensor = "activation", method: str = "deconvnet", overlap: str = "add", batch: int = 64,
    attention: str = "refused", report: Report | None = None, distinct: bool = False,
    given: Mapping[str, Any] | None = None, target: Target = None, output: str | None = None,
    prepared: dict[Any, Any] | None = None,
) -> Projection:  # fmt: skip
    """As `project`, of the picture that `rec` is a recording of, in which the layer has been `found`.

    `given` is what the result keeps of the picture, `prepared` what walks back through this recording have made ready.
    """
    image, value, maps = rec.values[0], rec.values[found.value], layer_maps(rec, found)
    named = found.alias or found.path or "the output"
    if not net.allow_nonfinite:
        check_value(rec, found.value, f"'{named}'")
    apart = _apart(rec, found.value) if distinct else None
    with plain_mode(image.device.type):
        order = _class_units(net, rec, found, target, output) if isinstance(units, str) else None
        by_order = units is None or order is not None
        chosen = first_units(maps, top, order, apart) if by_order else Chosen(unit_numbers(units, maps))
        index = chosen.units
        seeds = _seeds(maps, index, place, seed)
        walk = Walk(rec, method, overlap, attention, prepared={} if prepared is None else prepared)
        if method == "gradient" and rec.beyond is not None:
            pixels = _by_autograd(net.plain, rec, found.value, seeds)
        else:
            pixels = _send_back(walk, found.value, seeds, batch, report)
    if value.dim() != 4 or seeds.maps is not None:
        box = torch.tensor([[0, 0, *image.shape[2:]]]).repeat(len(index), 1)
    else:
        box = boxes(rec, found.value, [(int(r), int(c)) for r, c in seeds.places.tolist()])
    switches, blind = switches_to(rec, found.value)
    if method == "deconvnet" and blind:
        warn(_BLIND.format(named), stacklevel=4)
    broken = index[~pixels.flatten(1).sum(1).isfinite().cpu()]
    if len(broken) and not net.allow_nonfinite:
        warn(_BROKEN.format(int(broken[0]), named), stacklevel=4)
    policy: dict[str, object] = {
        "method": method, "overlap": overlap, "lrn": "derivative" if method == "gradient" else "identity",
        "batch_norm": "scale", "bias": "dropped", "seed": seed if isinstance(seed, str) else "tensor",
    }  # fmt: skip
    if attention != "refused" and method != "gradient":
        policy["attention"] = attention
    if chosen.passed_over is not None:
        policy |= {"distinct": True, "passed_over": chosen.passed_over}
    return Projection(
        layer=found.path, alias=found.alias, units=index, places=seeds.places,
        activations=_kept(seeds.activations).clone(), pixels=pixels, boxes=box, image=_kept(image[0]), policy=policy,
        labels=net.card.labels, switches=switches, **(given or {}), **net.provenance(),
    )  # fmt: skip


_BLIND = (
    "no max pool lies between '{}' and the picture: its deconvnet projection shows what the filters look for, the same "
    "in every photograph but for its strength; method 'guided' follows the photograph"
)
_BROKEN = (
    "the projection of unit {} of '{}' is not finite: on the way a derivative is infinite (that of a root or a norm at "
    "0), or the signal overflows"
)


def switches_to(rec: Recording, value: int) -> tuple[int, bool]:
    """How many max pools lead to `value`; and whether there is none though rectifiers of the photograph do, so that
    other methods would follow it where the deconvnet cannot."""
    way = rec.ancestors((value,))
    pools = sum(rule_of(op).switches for op in way)
    below = [op for op in way if value not in op.outputs]
    return pools, not pools and any(rule_of(op).role == "activation" for op in below)


@dataclass
class _Seeds:
    """What starts at the layer: unit numbers, places, activations, and whole maps where a map is sent."""

    units: Tensor
    places: Tensor
    activations: Tensor
    maps: Tensor | None
    shape: tuple[int, ...]


@dataclass
class Chosen:
    """Units; and how many were passed over for being at the place of one before, where that was asked for."""

    units: Tensor
    passed_over: int | None = None


def first_units(
    maps: Tensor, top: int, order: Tensor | None = None, apart: tuple[float, float] | None = None
) -> Chosen:
    """The first `top` units of `order`, by default the strongest; with `apart` (rows, columns) those of other places.

    A unit that does not fire is at no place; the first one is taken whatever it does.
    """
    peaks, where = maps.flatten(1).amax(1).float().cpu(), maps.flatten(1).argmax(1).cpu()
    if order is None:
        order = torch.sort(peaks, descending=True, stable=True).indices
    if apart is None:
        return Chosen(order[:top])
    taken: list[tuple[int, int]] = []
    units: list[int] = []
    passed = over = 0  # in all, and before the last one that was taken
    for unit in order.tolist():
        row, column = divmod(int(where[unit]), maps.shape[2])
        if len(units) == top:
            break
        if units and float(peaks[unit]) <= 0:
            continue
        if all(abs(row - r) >= apart[0] or abs(column - c) >= apart[1] for r, c in taken):
            taken.append((row, column))
            units.append(unit)
            over = passed
        else:
            passed += 1
    return Chosen(torch.tensor(units), over)


def _apart(rec: Recording, value: int) -> tuple[float, float] | None:
    """Half a receptive field, no larger than the picture, in rows and columns of the map; None where there is none."""
    shape = rec.values[value].shape
    if len(shape) != 4 or tuple(shape[2:]) == (1, 1):
        return None
    stride, field = field_of(rec, value)
    sides = tuple(rec.values[0].shape[2:])
    down, across = (min(f, side) / 2 / s for f, side, s in zip(field, sides, stride, strict=True))
    return down, across


def _count(units: Any, top: int) -> int:
    """How many units will be sent back, at most; what is wrong with them is said later."""
    try:
        return top if units is None else torch.as_tensor(units).numel()
    except (TypeError, ValueError, RuntimeError):
        return 0


def unit_numbers(units: Any, maps: Tensor) -> Tensor:
    """The numbers (K,) of units as a caller gives them, of the layer's maps (C, h, w)."""
    count = maps.shape[0]
    try:
        index = torch.as_tensor(units)
    except (TypeError, ValueError, RuntimeError):
        raise DeconvvizTypeError(f"units is {units!r}; allowed: None, 'class', a number or numbers") from None
    if index.dtype in (torch.bool,) or (index.is_floating_point() and index.numel()):
        raise DeconvvizTypeError(f"units is {units!r}; allowed: None, 'class', whole numbers")
    index = index.long().reshape(-1).cpu()
    wrong = index[(index < 0) | (index >= count)]
    if not len(index) or len(wrong):
        what = f"unit {int(wrong[0])} does not exist" if len(wrong) else "units is empty"
        raise DeconvvizValueError(f"{what}; allowed: 0 to {count - 1}")
    return index


def places_of(place: Any, k: int, height: int, width: int) -> Tensor:
    """The places (K, 2) that `place` means, as a caller gives it, in maps of a size."""
    try:
        places = torch.as_tensor(place).cpu()
    except (TypeError, ValueError, RuntimeError):
        raise DeconvvizTypeError(f"place is {place!r}; allowed: (row, column) or one such pair for each unit") from None
    if places.dtype == torch.bool or places.is_floating_point():
        raise DeconvvizTypeError(f"place is {place!r}; allowed: whole numbers (row, column), or a pair for each unit")
    places = places.long()
    if tuple(places.shape) == (2,):
        places = places.expand(k, 2)
    if tuple(places.shape) != (k, 2):
        raise DeconvvizValueError(f"place has shape {tuple(places.shape)}; allowed: (2,) or ({k}, 2)")
    outside = ((places < 0) | (places >= torch.tensor([height, width]))).any(1)
    if bool(outside.any()):
        bad = tuple(places[outside][0].tolist())
        raise DeconvvizValueError(f"place {bad} is outside the {height}×{width} map (rows × columns)")
    return places.clone()


def _seeds(maps: Tensor, index: Tensor, place: Any, seed: str | Tensor) -> _Seeds:
    chosen = maps[index.to(maps.device)]
    k, height, width = chosen.shape
    if place is not None:
        places = places_of(place, k, height, width)
    else:
        flat = chosen.flatten(1).argmax(1).cpu()
        places = torch.stack([flat // width, flat % width], 1)
    acts = chosen[torch.arange(k, device=maps.device), places[:, 0].to(maps.device), places[:, 1].to(maps.device)]
    whole: Tensor | None = None
    if isinstance(seed, Tensor):
        if tuple(seed.shape) != (k, height, width):
            raise DeconvvizValueError(f"seed has shape {tuple(seed.shape)}; allowed: ({k}, {height}, {width})")
        whole = seed.to(maps)
    else:
        check_choice("seed", seed, ("activation", "map"))
        whole = chosen if seed == "map" else None
    return _Seeds(index, places, acts, whole, tuple(maps.shape))


# The walk backwards ------------------------------------------------------------------------------------------------


def _send_back(walk: Walk, value: int, seeds: _Seeds, batch: int, report: Report | None) -> Tensor:
    """Pixels (K, C, H, W): batches of units, each walked from the layer to the image."""
    rec, image = walk.rec, walk.rec.values[0]
    out = image.new_zeros(len(seeds.units), *image.shape[1:])
    order = _by_place(seeds)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        walk_back(walk, value, _seed_signal(rec, value, seeds, part), 0, out, part)
        if report is not None:
            report(start + len(part), len(order))
    if seeds.maps is None:
        # Seeded with 1 and scaled: linear in the activation, also in a negative one.
        out *= seeds.activations.view(-1, 1, 1, 1)
    return _kept(out)


def pixels_of(
    net: Network, walk: Walk, value: int, units: Tensor, places: Tensor, maps: Tensor | None = None, batch: int = 64
) -> Tensor:
    """Pixels (K, C, H, W) of `units` (K,) of the value, each seeded with 1 at its one of `places` (K, 2).

    With `maps` (K, h, w) those are sent back instead, which need not be what was recorded. A signal is the layer's own
    unit for unit and not scaled by an activation, so that it says something also of a unit that does not fire.
    """
    shape, device = walk.rec.values[value].shape, walk.rec.values[0].device
    whole = (shape[1], *shape[2:]) if len(shape) == 4 else (shape[1], 1, 1)
    seeds = _Seeds(units, places, torch.ones(len(units), device=device), maps, whole)
    with plain_mode(device.type):
        if walk.method == "gradient" and walk.rec.beyond is not None:
            return _by_autograd(net.plain, walk.rec, value, seeds)
        return _send_back(walk, value, seeds, batch, None)


def _by_autograd(module: nn.Module, rec: Recording, value: int, seeds: _Seeds) -> Tensor:
    """The same by autograd itself, unit by unit: the pass has parts that its operators do not show."""
    each = (_seed_signal(rec, value, seeds, [k]).whole()[0] for k in range(len(seeds.units)))
    out = torch.cat(gradients(module, rec, value, each))
    return _kept(out if seeds.maps is not None else out * seeds.activations.view(-1, 1, 1, 1))


def _kept(value: Tensor) -> Tensor:
    """As results keep it: half types as float32."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def _by_place(seeds: _Seeds) -> list[int]:
    """Units near each other share a batch: their windows are clipped alike."""
    places = seeds.places.tolist()
    return sorted(range(len(places)), key=lambda k: places[k])


def _seed_signal(rec: Recording, value: int, seeds: _Seeds, part: list[int]) -> Signal:
    like = rec.values[value]
    shape = tuple(like.shape)
    units = seeds.units[part]
    rows = torch.arange(len(part))
    image = rec.values[0]  # where the numbers are, also if no more than an outline of the value was kept
    if len(shape) == 4 and seeds.maps is None:
        data = image.new_zeros(len(part), shape[1], 1, 1, dtype=like.dtype)
        data[rows, units] = 1
        row, col = seeds.places[part].numpy().T
        return Signal(data, Windows(row, col, 1, 1, (shape[2], shape[3])))
    whole = image.new_zeros(len(part), *seeds.shape, dtype=like.dtype)
    whole[rows, units] = 1 if seeds.maps is None else seeds.maps[part]
    return from_whole(whole.view(len(part), *shape))


# Units that drive a class ---------------------------------------------------------------------------------------------


def _class_units(net: Network, rec: Recording, found: FoundLayer, target: Target, output: str | None) -> Tensor:
    """All maps of a layer, those that add most to the logit of the class first."""
    return torch.sort(unit_shares(net, rec, found, target, output), descending=True, stable=True).indices.cpu()


def unit_shares(net: Network, rec: Recording, found: FoundLayer, target: Target, output: str | None) -> Tensor:
    """What each map of a layer adds to the logit of the class, (maps,); see `class_shares`."""
    readout, number = net.read_out(rec, 'units="class"', target, output)
    (share,) = class_shares(net, rec, readout, number, [found.value])
    return share.float()


def class_shares(net: Network, rec: Recording, readout: Readout, number: int, values: Sequence[int]) -> list[Tensor]:
    """What each map of some recorded values adds to the logit of class `number`, to first order, (maps,) of each value.

    It is Σ activation × ∂logit/∂activation over the map.
    """
    seed = readout.seed(rec.values[readout.value], number)
    data = [rec.values[value] for value in values]
    slopes = derivatives(net.plain, rec, readout.value, seed, values)
    products = [slope * x for slope, x in zip(slopes, data, strict=True)]
    return [x.flatten(2).sum(2)[0] if x.dim() == 4 else x[0] for x in products]
