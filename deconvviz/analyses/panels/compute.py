"""Panels of a scan's units: their strongest places projected down to pixels, beside the pieces of the pictures.

Everything is computed picture by picture: one recording for all the units of a layer that a picture is kept for, sent
back together in windows. A panel is as large as the receptive field (or as the input, if that is smaller); where it
hangs over the border of the picture its part is empty, and says so.
"""

from __future__ import annotations

import functools
import math
import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deconvviz.analyses.filters.compute import filters
from deconvviz.analyses.panels.classes import direct_weights, scores, shares
from deconvviz.analyses.panels.fields import Box, LayerFields
from deconvviz.analyses.panels.result import Panels, PanelsPage
from deconvviz.analyses.projection.compute import project_one
from deconvviz.engine.readout import Readout
from deconvviz.engine.recording import Recording
from deconvviz.errors import DeconvvizValueError, ImageError, StoreError, UnsupportedOperatorError
from deconvviz.network.layers import example_input
from deconvviz.network.network import Network
from deconvviz.progress import Progress, heard
from deconvviz.results.base import photograph, rgb, signed_pictures
from deconvviz.scanning.plan import check_model
from deconvviz.scanning.rows import Place, StoreLayer, StorePicture
from deconvviz.scanning.sources import Files, Items
from deconvviz.scanning.store import Store

Pixels = NDArray[np.uint8]
_AHEAD = 4  # pictures that are read while others are computed


@dataclass(frozen=True, eq=False)
class Panel:
    """One place of a unit: what it responds to, and where.

    `projection` and `crop` are (h, w, 3) uint8, the part of the receptive field inside the picture, the projection with
    zero as mid-grey; `offset` (row, column) is where this part lies in the panel of size `field` (height, width).
    `pixels` (C, h, w) are the signed numbers of the projection, `box` the part's place in the input.
    """

    place: Place
    projection: Pixels
    crop: Pixels
    offset: tuple[int, int]
    field: tuple[int, int]
    pixels: Tensor
    box: Box


class PanelSource:
    """Makes panels from a network and the store of a scan of it.

    `images`: the folder in which the pictures' paths start (None: where they were at the latest run), or the data set
    that was scanned. Raises `StoreError` for another network's store.

    >>> net = deconvviz.load("zfnet")
    >>> with deconvviz.scan(net, "photos", ["conv2"], top=2, store="source.db") as store:
    ...     source = deconvviz.PanelSource(net, store)
    ...     sorted(rank for unit, rank, panel in source.panels(store.layer("conv2"), [(7, 0), (7, 1)]))
    [0, 1]
    """

    def __init__(
        self, model: Network | nn.Module, store: Store, images: Any = None, method: str = "deconvnet",
        overlap: str = "add",
    ) -> None:  # fmt: skip
        self.net = Network.of(model)
        self.store, self.method, self.overlap = store, method, overlap
        check_model(store, self.net)
        self._source = _pictures(self.net, store, images)
        self._geometry: dict[int, LayerFields] = {}

    def input(self, picture: StorePicture) -> Tensor:
        """The picture as the network takes it, (1, C, H, W)."""
        if isinstance(self._source, Items):
            return self._source.load(picture.id).input[None]
        return self._source.read(str(picture.path)).input[None]

    def photograph(self, picture: StorePicture) -> Pixels:
        """The picture as the network sees it, (H, W, 3) uint8."""
        return self._shown(self.input(picture))

    def boxes(self, layer: StoreLayer, places: Sequence[tuple[int, int]]) -> list[Box]:
        """Receptive fields (top, left, bottom, right) of places (row, column), clipped to the input, half-open."""
        geometry = self._of(layer)
        return [geometry.box(row, column) for row, column in places]

    def direct(self, layer: StoreLayer) -> NDArray[np.float64] | None:
        """The derivative of each logit by the mean activation of each unit of the layer, (classes, maps).

        None if it depends on the picture, as everywhere but in a layer that feeds a linear one, or without logits.
        """
        if self._example is None:
            return None
        weights = direct_weights(self.net, *self._example, layer.alias or layer.name)
        return None if weights is None else weights.double().cpu().numpy()

    def shares(
        self, layers: Sequence[StoreLayer], pictures: Sequence[StorePicture]
    ) -> Iterator[tuple[int, list[NDArray[np.float64]]]]:
        """For each picture its top class, and for each layer what the units add to that class's logit, (maps,).

        It is Σ activation × ∂logit/∂activation, as `project(…, units="class")` orders them. Nothing comes of a network
        without class scores, or through which the gradient knows no way.
        """
        names = [layer.alias or layer.name for layer in layers]
        for _, x in self._inputs([picture.id for picture in pictures]) if self._example else ():
            found = scores(self.net, x)
            if found is None:
                continue
            try:
                number, added = shares(self.net, *found, names)
            except UnsupportedOperatorError:
                return
            yield number, [share.double().cpu().numpy() for share in added]

    @functools.cached_property
    def _example(self) -> tuple[Recording, Readout] | None:
        channels, *size = self.store.facts["input"]
        return scores(self.net, example_input(self.net.module, channels, (size[0], size[1])))

    def panels(self, layer: StoreLayer, wanted: Collection[tuple[int, int]]) -> Iterator[tuple[int, int, Panel]]:
        """(unit, rank, panel) for the wanted units and ranks of a layer, picture by picture."""
        tops = self.store.tops(layer)
        places = [tops[unit][rank] for unit, rank in sorted(set(wanted)) if rank < len(tops[unit])]
        for panel in self.of_places(layer, places):
            yield panel.place.unit, panel.place.rank, panel

    def of_places(self, layer: StoreLayer, places: Iterable[Place]) -> Iterator[Panel]:
        """Panels of places of one layer, picture by picture; those of one picture are computed together."""
        by_picture: dict[int, list[Place]] = {}
        for place in places:
            by_picture.setdefault(place.picture, []).append(place)
        for number, x in self._inputs(sorted(by_picture)):
            yield from self._of_picture(layer, number, x, by_picture[number])

    def _inputs(self, numbers: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Inputs of pictures in order, read a little ahead of their use."""
        reading: deque[tuple[int, Future[Tensor]]] = deque()
        with ThreadPoolExecutor(1) as reader:
            try:
                for number in numbers:
                    # SQLite is asked here, by the thread that owns it.
                    reading.append((number, reader.submit(self.input, self.store.picture(number))))
                    if len(reading) > _AHEAD:
                        first, waiting = reading.popleft()
                        yield first, waiting.result()
                while reading:
                    first, waiting = reading.popleft()
                    yield first, waiting.result()
            finally:
                reader.shutdown(wait=True, cancel_futures=True)

    def _of_picture(self, layer: StoreLayer, number: int, x: Tensor, places: Sequence[Place]) -> Iterator[Panel]:
        result = project_one(
            self.net, x[0], layer.alias or layer.name, [p.unit for p in places],
            place=[(p.row, p.col) for p in places], method=self.method, overlap=self.overlap,
        )  # fmt: skip
        shown, geometry = self._shown(x), self._of(layer)
        for k, place in enumerate(places):
            self._check(place, float(result.activations[k]))
            top, left, bottom, right = box = geometry.box(place.row, place.col)
            pixels = result.pixels[k, :, top:bottom, left:right].cpu().clone()
            yield Panel(
                place, rgb(signed_pictures(_three(pixels)[None])[0]), shown[top:bottom, left:right].copy(),
                geometry.offset(place.row, place.col), geometry.field, pixels, box,
            )  # fmt: skip

    def _check(self, place: Place, activation: float) -> None:
        if not math.isclose(place.activation, activation, rel_tol=0.01, abs_tol=1e-4):
            name = self.store.picture(place.picture).title
            raise StoreError(
                f"{name} is not the picture that was scanned: unit {place.unit} is {activation:.4g} there, "
                f"not {place.activation:.4g}"
            )

    def _shown(self, x: Tensor) -> Pixels:
        if self.net.card.mean:
            return rgb(photograph(self.net.denormalise(x[0].float()), (), ()))
        return rgb(photograph(_three(x[0]), (), ()))

    def _of(self, layer: StoreLayer) -> LayerFields:
        if layer.id not in self._geometry:
            channels, *size = self.store.facts["input"]
            example = example_input(self.net.module, channels, (size[0], size[1]))
            rec, found = self.net.record_to(example, layer.alias or layer.name)
            self._geometry[layer.id] = LayerFields(rec, found.value)
        return self._geometry[layer.id]


def _pictures(net: Network, store: Store, images: Any) -> Files | Items:
    """Where the store's pictures are read from."""
    from_files = store.facts["images"] == Files.kind
    if images is None:
        if not from_files:
            raise DeconvvizValueError(f"{store.path} was made of a data set; give it as images")
        folder = store.folder
        if folder is None or not folder.is_dir():
            raise ImageError(f"the pictures of {store.path} are not in {folder} any more; give their folder as images")
        return Files(net, str(folder), [])
    if from_files != isinstance(images, str | os.PathLike):
        given = "the folder of these files" if from_files else "this data set"
        raise StoreError(f"{store.path} was made of {store.facts['images']}; give {given} as images")
    if not from_files:
        return Items(net, images)
    if not Path(images).is_dir():
        raise ImageError(f"no such folder: {images}")
    return Files(net, str(Path(images).absolute()), [])


def _three(x: Tensor) -> Tensor:
    """Colours to show: as they are for one or three channels, else their mean."""
    return x if x.shape[0] in (1, 3) else x.mean(0, keepdim=True)


# Results --------------------------------------------------------------------------------------------------------------


def panels(
    model: Network | nn.Module,
    store: Store | str | os.PathLike[str],
    layer: int | str | StoreLayer,
    unit: int,
    images: Any = None,
    method: str = "deconvnet",
    overlap: str = "add",
) -> Panels:
    """The strongest places of one unit in a scanned data set, each projected alone, beside their crops (Fig. 2).

    `store` is an open store or its path; `layer` an alias, module path or number in the store; `images` see
    `PanelSource`. All panels are computed together. Raises `UnknownNameError` and `DeconvvizValueError` for a layer or
    unit that is not there, `StoreError` for another network's store or changed pictures, `ImageError`.

    >>> net = deconvviz.load("zfnet")
    >>> with deconvviz.scan(net, "photos", ["conv2"], top=2, store="panels.db") as store:
    ...     deconvviz.panels(net, store, "conv2", 7).pixels[0].shape
    torch.Size([3, 27, 27])
    """
    if not isinstance(store, Store):
        with Store.open(store) as opened:
            return panels(model, opened, layer, unit, images, method, overlap)
    source = PanelSource(model, store, images, method, overlap)
    return _unit(source, store.layer(layer), unit)


def _unit(source: PanelSource, layer: StoreLayer, unit: int, own: Tensor | None = None) -> Panels:
    store = source.store
    # A place without activation sends nothing back.
    places = [p for p in store.top(layer, unit) if p.activation != 0]
    found = sorted(source.of_places(layer, places), key=lambda p: p.place.rank)
    geometry = source._of(layer)
    channels = store.facts["input"][0]
    pixels = torch.zeros(len(found), channels, *geometry.field)
    crops = torch.zeros(len(found), *geometry.field, 3, dtype=torch.uint8)
    parts = torch.zeros(len(found), 4, dtype=torch.long)
    for k, panel in enumerate(found):
        (top, left), (height, width) = panel.offset, panel.crop.shape[:2]
        parts[k] = torch.tensor([top, left, top + height, left + width])
        pixels[k, :, top : top + height, left : left + width] = panel.pixels
        crops[k, top : top + height, left : left + width] = torch.from_numpy(panel.crop)
    pictures = [store.picture(p.place.picture) for p in found]
    statistics = store.units(layer)
    facts = store.facts
    return Panels(
        layer=layer.name, alias=layer.alias, unit=unit, pixels=pixels, crops=crops, parts=parts,
        boxes=torch.tensor([p.box for p in found], dtype=torch.long).reshape(-1, 4),
        pictures=torch.tensor([p.place.picture for p in found], dtype=torch.long),
        places=torch.tensor([[p.place.row, p.place.col] for p in found], dtype=torch.long).reshape(-1, 2),
        activations=torch.tensor([p.place.activation for p in found], dtype=torch.float64),
        filter=own, paths=tuple(p.path for p in pictures), labels=tuple(p.label for p in pictures),
        statistics={
            "count": statistics.count, "mean": float(statistics.mean[unit]),
            "maximum": float(statistics.maximum[unit]), "share": float(statistics.share[unit]),
        },
        policy={"method": source.method, "overlap": source.overlap, "bias": "dropped"},
        model={k: str(v) for k, v in facts["model"].items()},
    )  # fmt: skip


def panels_page(
    model: Network | nn.Module,
    store: Store | str | os.PathLike[str],
    seed: int = 0,
    units_per_layer: int = 8,
    images: Any = None,
    layers: Sequence[int | str] | None = None,
    progress: Progress = None,
) -> PanelsPage:
    """A page of random units of every layer of a store, as Fig. 2; a layer that reads the picture shows its filters.

    `seed` chooses among the units that fire on some picture; `layers` are layers of the store, None for all. `progress`
    is True for a bar, or called with the units done and in all.

    >>> net = deconvviz.load("zfnet")
    >>> with deconvviz.scan(net, "photos", ["conv2"], top=2, store="page.db") as store:
    ...     len(deconvviz.panels_page(net, store, units_per_layer=3))
    3
    """
    if not isinstance(store, Store):
        with Store.open(store) as opened:
            return panels_page(model, opened, seed, units_per_layer, images, layers, progress)
    if units_per_layer < 1:
        raise DeconvvizValueError(f"units_per_layer is {units_per_layer}; allowed: a whole number from 1")
    source = PanelSource(model, store, images)
    chosen = store.layers() if layers is None else [store.layer(x) for x in layers]
    drawn = _drawn(store, chosen, units_per_layer, seed)
    own = {layer.id: _filters(source.net, layer) for layer in chosen}
    found: list[Panels] = []
    with heard(progress, "units") as report:
        for layer, unit in drawn:
            bank = own[layer.id]
            found.append(_unit(source, layer, unit, None if bank is None else bank[unit]))
            if report is not None:
                report(len(found), len(drawn))
    return PanelsPage(panels=tuple(found), seed=seed, model={k: str(v) for k, v in store.facts["model"].items()})


def _drawn(store: Store, layers: Sequence[StoreLayer], count: int, seed: int) -> list[tuple[StoreLayer, int]]:
    """`count` units of each layer that fire on some picture, in order."""
    chance = np.random.default_rng(seed)
    found: list[tuple[StoreLayer, int]] = []
    for layer in layers:
        alive = np.flatnonzero(~store.units(layer).dead)
        units = np.sort(chance.choice(alive, min(count, len(alive)), replace=False)).tolist()
        found += [(layer, unit) for unit in units]
    return found


def _filters(net: Network, layer: StoreLayer) -> Tensor | None:
    """The filters of a convolution that reads the picture itself, (maps, C, h, w)."""
    module = dict(net.module.named_modules()).get(layer.name)
    if not isinstance(module, nn.Conv2d) or layer.field is None or module.kernel_size != layer.field:
        return None
    return filters(net, layer=layer.name).weights
