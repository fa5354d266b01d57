"""What the stages of a network are, of any network: by the card's numbers, else by the sizes of the maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from deconvviz.analyses.sanity.randomise import steps_to
from deconvviz.engine.layers import FoundLayer
from deconvviz.engine.recording import Recording
from deconvviz.errors import DeconvvizValueError, UnknownNameError
from deconvviz.network.network import Network


def stages_of(net: Network, rec: Recording, end: int, layers: Sequence[str | nn.Module] | None) -> list[FoundLayer]:
    """The layers with maps on the way to the value `end`, the first one first.

    Those that are given, in their order; else the numbered aliases of the card ("1" to "5"), as far as they have maps
    on this way; else, of each size that maps have on it, the last one that a module returns
    (`_by_size`).
    """
    if layers is not None:
        found = [net.find_layer(rec, layer) for layer in layers]
        for one, name in zip(found, layers, strict=True):
            if not _is_map(rec, one.value):
                raise DeconvvizValueError(f"layer '{one.path or name}' has no map; allowed: those of (N, C, H, W)")
        # One of several calls of a module is known by its number, or it would be the last one.
        return [
            replace(one, path=name) if isinstance(name, str) and one.alias is None and "#" in name else one
            for one, name in zip(found, layers, strict=True)
        ]
    way = {value for op in rec.ancestors((end,)) for value in op.outputs if value is not None and value != end}
    found = _numbered(net, rec, way) or _by_size(rec, way)
    # What only scales or moves the picture is no stage.
    return [one for one in found if steps_to(rec, one.value, net.plain, {})]


def _numbered(net: Network, rec: Recording, way: set[int]) -> list[FoundLayer]:
    found: list[FoundLayer] = []
    for alias in sorted((a for a in net.card.aliases if a.isdecimal()), key=int):
        try:
            one = net.find_layer(rec, alias)
        except (DeconvvizValueError, UnknownNameError):  # it does not run for this picture
            continue
        if one.value in way and _is_map(rec, one.value):
            found.append(one)
    return found


def _by_size(rec: Recording, way: set[int]) -> list[FoundLayer]:
    """Of each size of maps the last layer, of the outermost modules that return that size: a stage, not the first step
    of the next one."""
    last: dict[tuple[int, ...], tuple[int, int, str]] = {}  # size: minus the depth of the path, value, path
    for path, calls in rec.calls.items():
        for n, value in enumerate(calls):
            if value is None or value not in way or not path or not _is_map(rec, value):
                continue
            size = tuple(rec.values[value].shape[2:])
            found = (-path.count("."), value, path if len(calls) == 1 else f"{path}#{n}")
            last[size] = max(last.get(size, found), found)
    return [FoundLayer(value, path) for _, value, path in sorted(last.values(), key=lambda one: one[1])]


def _is_map(rec: Recording, value: int) -> bool:
    """Whether a value is maps of one picture, of more than one place."""
    shape = rec.values[value].shape
    return len(shape) == 4 and shape[0] == 1 and min(shape[2:]) > 1
