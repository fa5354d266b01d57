"""What a page asks, answered: a network, its pictures and their recordings, as plain data. Knows nothing of HTTP."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import deconvviz
from deconvviz.analyses.occlusion.cover import positions_of
from deconvviz.analyses.occlusion.result import Occlusion
from deconvviz.analyses.projection.compute import METHODS, OVERLAPS
from deconvviz.analyses.projection.result import Projection
from deconvviz.errors import (
    DeconvvizError,
    DeconvvizTypeError,
    DeconvvizValueError,
    UnsupportedOperatorError,
    said,
    warnings_heard,
)
from deconvviz.explorer.calls import Call, Origin, occlusion_call, projection_call
from deconvviz.explorer.drawing import data_url, jpeg, map_bytes, one_map, png
from deconvviz.explorer.heat import Lines, coarse_to_fine, cut
from deconvviz.explorer.pictures import Pictures
from deconvviz.explorer.questions import Covered, Projected
from deconvviz.explorer.strongest import Strongest
from deconvviz.live import Occluder, Record, record
from deconvviz.network.layers import Layer, example_input
from deconvviz.network.network import Network
from deconvviz.results.base import full_contrast, in_grey, rgb

# Classes of an answer.
_TOP = 5
# Occluders that are kept; what fills a heat map only by the last.
_OCCLUDERS = 2
# How long a part of a heat map may take, in seconds of its thread (of the clock it takes longer where much else runs),
# and how few and how many positions go together.
_PART_SECONDS = 0.25
_FEWEST_PART = 8
_MOST_PART = 256


class Session:
    """The live state behind a page: one network, pictures, a store.

    `images` are what `explore` takes; `store` the path of a store, or None; `atlas` the folder of its site, or None;
    `origin` says how code comes by the network. Methods may be called from several threads. Raises the errors of
    `record` for a network that cannot be explored, and those of reading pictures.
    """

    def __init__(
        self, net: Network, images: Any = None, store: Any = None, origin: Origin | None = None, atlas: Any = None
    ) -> None:
        _check_takes_pictures(net)
        if atlas is not None and store is None:
            raise DeconvvizValueError("atlas goes with the store that it shows: give store, too")
        self.net, self.origin = net, origin or Origin.of(net)
        self.pictures = Pictures(net, lambda picture: record(net, picture))
        self._occluders: OrderedDict[Any, tuple[Record, Occluder, float]] = OrderedDict()
        self._layers, self._methods, self._refused = _described(net)
        for id in ([] if images is None else self.pictures.give(images))[:1]:
            self.picture(id)  # what is wrong with it is said now
        self.strongest = None if store is None else Strongest(net, store, atlas)

    def model(self) -> dict[str, Any]:
        """The network, its layers, what can be chosen, the pictures."""
        card, (side, _) = self.net.card, self._window(None)
        return {
            "name": card.name, "labels": list(card.labels) or None, "classes": self._classes(),
            "input": list(card.input_size), "methods": list(METHODS), "overlaps": list(OVERLAPS),
            "layers": [self._layer(layer) for layer in self._layers], "pictures": self.pictures.listed(),
            "store": None if self.strongest is None else self.strongest.facts(),
            "window": {"default": side, "max": min(card.input_size), "grey": self._grey()}, "refused": self._refused,
            "version": deconvviz.__version__,
        }  # fmt: skip

    def _grey(self) -> str:
        """The colour of the fill "grey", #rrggbb: the card's mean as pixels."""
        levels = self.net.denormalise(torch.zeros(self.net.card.channels, 1, 1)).mul(255).round().flatten().tolist()
        return "#" + "".join(f"{int(level):02x}" for level in (levels * 3)[:3])

    def _layer(self, layer: Layer) -> dict[str, Any]:
        spatial = layer.size is not None
        alias = max(layer.aliases, key=len, default=None)
        return {
            "id": alias or layer.name, "name": alias or layer.name, "path": layer.name, "kind": layer.operator,
            "shape": [layer.maps, *(layer.size or (1, 1))], "stride": list(layer.stride) if spatial else None,
            "field": list(layer.receptive_field) if spatial else None,
            "methods": [method for method in METHODS if layer.name in self._methods[method]],
        }  # fmt: skip

    def _classes(self) -> int | None:
        return len(self.net.card.labels) or None

    def close(self) -> None:
        """Close the store."""
        if self.strongest is not None:
            self.strongest.close()

    # Pictures ---------------------------------------------------------------------------------------------------------

    def picture(self, id: str) -> dict[str, Any]:
        """A picture, which part of it the network sees, and its five most probable classes."""
        rec = self.pictures.record(id)
        _, size, used = self.pictures.whole(id)
        return {
            "id": id, "name": self.pictures.shown(id).name, "size": list(rec.image.shape[1:]), "whole": list(size),
            "used": None if used is None else list(used), "answer": self._answer(_logits(rec)),
        }  # fmt: skip

    def input_png(self, id: str) -> bytes:
        """What the network sees, as PNG."""
        return png(self.pictures.seen(id))

    def whole_jpeg(self, id: str, side: int) -> bytes:
        """All of the picture, no side longer than `side` pixels."""
        picture = self.pictures.whole(id)[0].copy()
        picture.thumbnail((side, side))
        return jpeg(picture)

    def _answer(self, logits: Tensor | None) -> list[dict[str, Any]]:
        if logits is None:
            return []
        top = torch.sort(logits, descending=True, stable=True).indices[:_TOP]
        return [self._class(logits, int(number)) for number in top]

    def _class(self, logits: Tensor, number: int) -> dict[str, Any]:
        labels = self.net.card.labels
        return {
            "class": number, "label": labels[number] if number < len(labels) else f"class {number}",
            "probability": float(logits.softmax(0)[number]), "logit": float(logits[number]),
        }  # fmt: skip

    # Maps and units ---------------------------------------------------------------------------------------------------

    def maps(self, id: str, layer: str) -> tuple[tuple[int, int, int], bytes]:
        """The maps of a layer as bytes, and their shape; see `map_bytes`."""
        return map_bytes(self.pictures.record(id).maps(layer))

    def units(self, id: str, layer: str, target: int | None) -> dict[str, Any]:
        """The strongest activation of each unit and its place, and what each adds to a class."""
        rec = self.pictures.record(id)
        maps = rec.maps(layer)
        width, flat = maps.shape[2], maps.flatten(1)
        peaks, at = flat.amax(1).tolist(), flat.argmax(1).tolist()
        found: dict[str, Any] = {"peaks": peaks, "places": [[k // width, k % width] for k in at]}
        try:
            number = int(rec.logits.argmax()) if target is None else target
            return {**found, "contribution": rec.contributions(layer, number).tolist(), "contribution_of": number}
        except DeconvvizError as error:
            return {**found, "contribution": None, "contribution_of": None, "why": said(error)}

    # Projection -------------------------------------------------------------------------------------------------------

    def project(self, id: str, asked: Projected) -> Projection:
        """The result that `projection` shows."""
        return self.pictures.record(id).project(
            asked.layer, [asked.unit], place=asked.place, method=asked.method, overlap=asked.overlap
        )

    def projection(self, id: str, asked: Projected) -> dict[str, Any]:
        """One unit sent back to pixels: its receptive field's part of the picture, and the picture there."""
        begun = time.perf_counter()
        with warnings_heard() as heard:
            p = self.project(id, asked)
        top, left, bottom, right = box = p.boxes[0].tolist()
        pixels = p.pixels[:, :, top:bottom, left:right]
        values = pixels.double().permute(0, 2, 3, 1).cpu().numpy()
        scale = asked.scale or full_contrast(values, asked.contrast)
        photo = self.pictures.seen(id)[top:bottom, left:right]
        return {
            "unit": asked.unit, "place": p.places[0].tolist(), "activation": float(p.activations[0]), "box": box,
            "projection": data_url(png(rgb(in_grey(values, scale)[0]))), "crop": data_url(png(photo)),
            "switches": p.switches, "warning": "; ".join(heard) or None, "peak": float(pixels.abs().max()),
            "scale": scale, "ms": _since(begun),
        }  # fmt: skip

    # Occlusion --------------------------------------------------------------------------------------------------------

    def cover(self, id: str, asked: Covered) -> dict[str, Any]:
        """What the network makes of the picture with the window at one place."""
        if asked.place is None:
            raise DeconvvizValueError("row and col are missing")
        begun = time.perf_counter()
        live, most = self._occluder(id, asked)
        there = live.at(*asked.place)
        base = self._class(live.baseline, live.target)
        return {
            "origin": list(there.origin), "answer": self._answer(there.logits),
            "target": self._class(there.logits, live.target),
            "baseline": {key: base[key] for key in ("probability", "logit")},
            "activity": there.activity, "activity_baseline": live.baseline_activity,
            "map": None if there.map is None else one_map(there.map, most), "ms": _since(begun),
        }  # fmt: skip

    def _occluder(self, id: str, asked: Covered) -> tuple[Occluder, float]:
        """The occluder of a question, kept for the next ones; the maximum of the map that it watches, uncovered."""
        rec, window = self.pictures.record(id), self._window(asked.window)
        key = (id, window, asked.fill, asked.target, asked.layer, asked.unit)
        kept = self._occluders.get(key)
        if kept is None or kept[0] is not rec:
            for _, other, _ in self._occluders.values():
                other.forget()
            live = rec.occluder(window, self.fill(asked.fill), asked.layer, asked.target, asked.unit)
            most = 0.0 if asked.layer is None else float(rec.maps(asked.layer)[live.unit].max())
            kept = self._occluders[key] = rec, live, most
        self._occluders.move_to_end(key)
        while len(self._occluders) > _OCCLUDERS:
            self._occluders.popitem(last=False)
        return kept[1], kept[2]

    def _window(self, given: tuple[int, int] | None) -> tuple[int, int]:
        """The size of the window: that of the command line where none is given."""
        side = max(round(min(self.net.card.input_size) / 7), 1)
        return given or (side, side)

    def stride(self, asked: Covered) -> tuple[int, int]:
        """The steps of the heat map: those of the command line where none are given."""
        if asked.stride is not None:
            return asked.stride
        down, across = (max(side // 4, 1) for side in self._window(asked.window))
        return down, across

    def fill(self, name: str) -> str | list[float]:
        """What `occlude` takes for the fill of a question: its name, or a colour in the input's own scale."""
        if not name.startswith("#"):
            return name
        card = self.net.card
        low, high = card.value_range
        levels = [int(name[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        if card.channels == 1:
            levels = [0.299 * levels[0] + 0.587 * levels[1] + 0.114 * levels[2]]
        return [
            round((level * (high - low) + low - mean) / std, 6)
            for level, mean, std in zip(levels, card.mean, card.std, strict=True)
        ]

    def heat(self, id: str, asked: Covered) -> Heat:
        """The whole map of positions, to be computed part by part."""
        live, _ = self._occluder(id, asked)
        grid = positions_of(self.pictures.record(id).image[None], live.window, self.stride(asked))
        rows, cols = grid.origins[:: grid.shape[1], 0], grid.origins[: grid.shape[1], 1]
        return Heat(live, rows, cols)

    def occlude(self, id: str, asked: Covered) -> Occlusion:
        """The result that `heat` fills."""
        return self.pictures.record(id).occlude(
            asked.target, self._window(asked.window), self.stride(asked), self.fill(asked.fill), asked.layer
        )

    # Calls and files --------------------------------------------------------------------------------------------------

    def call(self, id: str, asked: Projected | Covered) -> Call:
        """Python code and a command that make what is seen."""
        shown = self.pictures.shown(id)
        if isinstance(asked, Projected):
            return projection_call(self.origin, shown, asked)
        rec = self.pictures.record(id)
        watched = asked.layer is not None and asked.unit in (None, int(rec.strongest(asked.layer, 1)[0]))
        return occlusion_call(
            self.origin, shown, asked, self._window(asked.window), self.stride(asked), self.fill(asked.fill),
            self._said_class(asked.target), watched,
        )  # fmt: skip

    def _said_class(self, target: int | None) -> int | str | None:
        """A class as a reader knows it, if that means the same class to everybody."""
        labels = list(self.net.card.labels)
        if target is None or not self.origin.labels or target >= len(labels) or labels.index(labels[target]) != target:
            return target
        return labels[target]

    def file(self, id: str, asked: Projected | Covered, kind: str) -> tuple[str, bytes]:
        """A file of the result and its name."""
        stem = self.pictures.shown(id).name.rpartition(".")[0] or self.pictures.shown(id).name
        name = self.net.card.name
        if isinstance(asked, Projected):
            result: Projection | Occlusion = self.project(id, asked)
            named = f"{stem}-{name}-{asked.layer}-u{asked.unit}.{kind}"
        else:
            result, named = self.occlude(id, asked), f"{stem}-{name}-occlusion.{kind}"
        return named.replace("/", "-"), result.encoded(f".{kind}")


class Heat:
    """A heat map on its way: at every one of `rows` (R,) with every one of `cols` (C,), left upper corners."""

    def __init__(self, live: Occluder, rows: Lines, cols: Lines) -> None:
        self._live, self._rows, self._cols = live, rows, cols
        self._left = deque(coarse_to_fine(len(rows), len(cols)))
        self._most = _FEWEST_PART

    def head(self) -> dict[str, Any]:
        """The grid."""
        rows, cols = self._rows.tolist(), self._cols.tolist()
        return {
            "rows": len(rows), "cols": len(cols), "origins_rows": rows, "origins_cols": cols,
            "total": len(rows) * len(cols),
        }  # fmt: skip

    def next(self) -> list[list[Any]]:
        """The next part, about a quarter of a second's work: [row, column, probability, prediction, activity] of each
        position, row and column as numbers in the grid; nothing at the end."""
        if not self._left:
            return []
        begun = time.thread_time()
        (rows, cols), rest = cut(self._left.popleft(), self._most)
        self._left.extendleft(reversed(rest))
        found = self._live.grid(self._rows[rows], self._cols[cols])
        activity = [None] * found.prediction.numel() if found.activity is None else found.activity.flatten().tolist()
        at = [(int(row), int(col)) for row in rows for col in cols]
        numbers = zip(found.probability.flatten().tolist(), found.prediction.flatten().tolist(), activity, strict=True)
        # As many as take the time that a part may, and no more than twice as many as before.
        fitting = int(len(at) * _PART_SECONDS / max(time.thread_time() - begun, 1e-4))
        self._most = min(max(fitting, _FEWEST_PART), 2 * self._most, _MOST_PART)
        return [[*where, *rest] for where, rest in zip(at, numbers, strict=True)]


def _logits(rec: Record) -> Tensor | None:
    """The class scores; None for a network that returns something else."""
    try:
        return rec.logits
    except DeconvvizValueError:
        return None


def _since(begun: float) -> float:
    return round(1000 * (time.perf_counter() - begun), 2)


def _check_takes_pictures(net: Network) -> None:
    """Raise `DeconvvizTypeError` for a bare module, `DeconvvizValueError` for a network without mean and std."""
    if not net.card.mean:
        try:
            net.check_normalises()
        except DeconvvizValueError as error:
            raise DeconvvizTypeError(f"pictures cannot be explored with this model: {error}") from error


def _described(net: Network) -> tuple[list[Layer], dict[str, set[str]], str | None]:
    """The layers, for each method the paths of those that it knows a way from, and what ended the recording if not the
    end of the pass did. Raises the error of `record` for a network of which nothing can be recorded."""
    rec = record(net, example_input(net.module, net.card.channels, net.card.input_size)[0])
    rows = list(rec.layers())
    try:
        rec.check_whole()
        refused = None
    except UnsupportedOperatorError as error:
        if not rows:
            raise
        refused = said(error)
    return rows, {method: _through(rec, rows, method) for method in METHODS}, refused


def _through(rec: Record, rows: Sequence[Layer], method: str) -> set[str]:
    """The layers that a method can send back: all, if it can the last one, else each is tried."""

    def goes(layer: Layer) -> bool:
        try:
            with warnings_heard():
                rec.project(layer.name, [0], method=method)
        except UnsupportedOperatorError:
            return False
        return True

    if rows and goes(rows[-1]):
        return {row.name for row in rows}
    return {row.name for row in rows if goes(row)}
