"""The pictures of a site: a sheet for every unit, sheets for the grids of the layers, the photographs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from deconvviz.atlas import effects as classes
from deconvviz.atlas import similar
from deconvviz.atlas.contents import AtlasLayer, AtlasUnit, Contents, hashed
from deconvviz.atlas.sheets import PanelLike, Pixels, SheetGrid, compose, cut, encode, grid_of, mosaic, pair, tile_size
from deconvviz.atlas.site import Folder
from deconvviz.atlas.unfinished import Unfinished
from deconvviz.scanning.rows import StoreLayer, StorePicture

Box = tuple[int, int, int, int]
Report = Callable[[str, int, int], None]

QUALITY = 76
GRID_QUALITY = 74
PHOTO_QUALITY = 70
# Receptive fields up to this side are enlarged so much that their pixels are flat: without loss they are smaller.
LOSSLESS = 16


class Source(Protocol):
    """What a network and the pictures are asked for; `deconvviz.analyses.panels.compute` has one for a `Network`."""

    def panels(self, layer: StoreLayer, wanted: Collection[tuple[int, int]]) -> Iterator[tuple[int, int, PanelLike]]:
        """(unit, rank, panel) for the wanted units and ranks of a layer, in any order."""

    def photograph(self, picture: StorePicture) -> Pixels:
        """A picture as the network sees it, (H, W, 3)."""

    def boxes(self, layer: StoreLayer, places: Sequence[tuple[int, int]]) -> Sequence[Box]:
        """Receptive fields (top, left, bottom, right) of places (row, column), clipped to the input."""

    def direct(self, layer: StoreLayer) -> classes.Table | None:
        """The derivative (classes, maps) of each logit by each unit's mean activation, None if it depends on the
        picture or there are no logits."""

    def shares(
        self, layers: Sequence[StoreLayer], pictures: Sequence[StorePicture]
    ) -> Iterator[tuple[int, Sequence[classes.Table]]]:
        """For each picture its top class and, for each layer, what every unit adds to that class's logit, (maps,).

        Nothing for a network without class scores.
        """


@dataclass(frozen=True)
class Photo:
    """The file of a picture as the network sees it, pixel by pixel."""

    file: str
    width: int
    height: int


@dataclass(frozen=True)
class Cell:
    """Where a unit stands on the sheets of its layer's grid."""

    projections: str
    pictures: str
    x: int
    y: int


@dataclass(frozen=True)
class Plates:
    """A layer with the files of its pictures.

    `sheets` are the files with the tiles of each unit, on a grid `tile`: column = rank, row 0 = projections, row 1 =
    crops.
    """

    layer: AtlasLayer
    sheets: Mapping[int, str]
    tile: SheetGrid
    grid: SheetGrid
    cells: Mapping[int, Cell | None]
    descriptors: similar.Matrix  # of each unit, see `similar.descriptor`
    similarity: similar.Matrix
    order: Sequence[int]


class PlateMaker:
    """Writes what is missing of the pictures of a site; panels and photographs come from `source`."""

    def __init__(
        self, folder: Folder, unfinished: Unfinished, contents: Contents, source: Source, report: Report
    ) -> None:
        self._folder, self._unfinished, self._contents = folder, unfinished, contents
        self._source, self._report = source, report

    def plates(self, layer: AtlasLayer) -> Plates:
        """A sheet for each unit of a layer, and sheets for the grid."""
        height, width = tile_size(*layer.field)
        tile = SheetGrid(width, height, self._contents.facts["top"], 2)
        sheets = {
            unit.number: f"images/units/{layer.number}/{unit.number}-{unit.key}.webp"
            for unit in layer.units
            if unit.places
        }
        self._compute_sheets(layer, sheets, tile)
        grid = grid_of(len(layer.units))
        descriptors = np.zeros((len(layer.units), similar.LENGTH))
        cells: dict[int, Cell | None] = {}
        piece = grid.columns * grid.rows
        for n, start in enumerate(range(0, len(layer.units), piece)):
            units = layer.units[start : start + piece]
            tiles = {unit.number: self._tiles(unit, sheets[unit.number], tile) for unit in units if unit.places}
            for number, (projections, crops) in tiles.items():
                descriptors[number] = similar.descriptor(projections, crops)
            cells.update(self._grid(f"{layer.number}-{{}}-{n}", grid, units, tiles))
        table = similar.cosines(descriptors)
        return Plates(layer, sheets, tile, grid, cells, descriptors, table, similar.order(table))

    def _compute_sheets(self, layer: AtlasLayer, sheets: Mapping[int, str], grid: SheetGrid) -> None:
        """Write the sheets that are not there; panels come picture by picture, so units become complete late."""
        kept = self._unfinished.ranks()
        missing = {
            number: set(range(len(layer.units[number].places))) - kept.get(layer.units[number].key, set())
            for number, sheet in sheets.items()
            if not self._folder.has(sheet)
        }
        total = sum(len(layer.units[number].places) for number in sheets)
        left = sum(map(len, missing.values()))
        self._report(layer.name, total - left, total)
        for number in [n for n, ranks in missing.items() if not ranks]:
            self._finish(layer, layer.units[number], sheets[number], grid)
        wanted = {(number, rank) for number, ranks in missing.items() for rank in ranks}
        for number, rank, panel in self._source.panels(layer.stored, wanted) if wanted else ():
            unit = layer.units[number]
            self._unfinished.add(unit.key, rank, *pair(panel, grid.height, grid.width))
            missing[number].discard(rank)
            if not missing[number]:
                self._finish(layer, unit, sheets[number], grid)
            left -= 1
            self._report(layer.name, total - left, total)
        self._unfinished.commit()

    def _finish(self, layer: AtlasLayer, unit: AtlasUnit, file: str, grid: SheetGrid) -> None:
        tiles = {(rank, y): both[y] for rank, both in self._unfinished.pairs(unit.key).items() for y in (0, 1)}
        self._folder.bytes(file, encode(compose(grid, tiles), QUALITY, lossless=max(layer.field) <= LOSSLESS))
        # The sheet is there before the panels go: whatever happens between, nothing is lost.
        self._unfinished.drop(unit.key)

    def _tiles(self, unit: AtlasUnit, file: str, grid: SheetGrid) -> tuple[list[Pixels], list[Pixels]]:
        """Projections and crops of a unit, from its sheet."""
        with Image.open(self._folder.path / file) as opened:
            picture = opened.convert("RGBA")
        projections, crops = ([cut(picture, grid, rank, y) for rank in range(len(unit.places))] for y in (0, 1))
        return projections, crops

    def _grid(
        self, name: str, grid: SheetGrid, units: Sequence[AtlasUnit],
        tiles: Mapping[int, tuple[list[Pixels], list[Pixels]]],
    ) -> dict[int, Cell | None]:  # fmt: skip
        """Write the two sheets of some units of a layer's grid, of projections and of crops; `name` says which."""
        places = self._contents.top
        key = hashed([places, *(unit.key if unit.places else None for unit in units)])
        corners = {unit.number: (n % grid.columns, n // grid.columns) for n, unit in enumerate(units)}
        names = [f"images/grid/{name.format(what)}-{key}.webp" for what in ("projections", "pictures")]
        for y, file in enumerate(names):
            if not self._folder.has(file):
                squares = {corners[n]: mosaic(both[y], places, projections=y == 0) for n, both in tiles.items()}
                self._folder.bytes(file, encode(compose(grid, squares), GRID_QUALITY))
        return {n: Cell(names[0], names[1], *corner) if n in tiles else None for n, corner in corners.items()}

    def photographs(self) -> dict[int, Photo]:
        """The pictures as the network sees them."""
        photos, pictures = {}, self._contents.pictures
        for n, picture in enumerate(pictures.values()):
            stored = picture.stored
            key = hashed([self._contents.facts["preprocessing"], repr(stored.path), stored.width, stored.height])
            name = f"images/pictures/{picture.number}-{key}.webp"
            if not self._folder.has(name):
                self._folder.bytes(name, encode(Image.fromarray(self._source.photograph(stored)), PHOTO_QUALITY))
            with Image.open(self._folder.path / name) as opened:
                photos[picture.number] = Photo(name, *opened.size)
            self._report("pictures", n + 1, len(pictures))
        return photos

    def effects(self) -> classes.Effects:
        """What the units do to the classes; kept in a file of the site, since it takes a pass back for each picture."""
        pictures = classes.asked(self._contents)
        file = f"effects/{classes.key_of(self._contents, pictures)}.json"
        kept = self._kept_effects(file)
        if kept is None:
            kept = self._compute_effects([picture.stored for picture in pictures])
            self._folder.text(file, classes.to_json(*kept))
        return classes.Effects(*kept, classes.names_of(self._contents), len(pictures))

    def _kept_effects(self, file: str) -> tuple[dict[int, classes.LayerEffects], dict[int, int]] | None:
        if not self._folder.has(file):
            return None
        try:
            return classes.from_json((self._folder.path / file).read_text(encoding="utf-8"))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None  # cut short: made again

    def _compute_effects(
        self, pictures: Sequence[StorePicture]
    ) -> tuple[dict[int, classes.LayerEffects], dict[int, int]]:
        found: dict[int, classes.LayerEffects] = {}
        asked: list[StoreLayer] = []
        for layer in self._contents.layers:
            weights = self._source.direct(layer.stored)
            if weights is not None:
                found[layer.stored.id] = classes.ranked(classes.direct_table(layer, weights), True)
            elif layer.labels is None:  # what the logits do to themselves need not be said
                asked.append(layer.stored)
        means = [classes.MeanShares() for _ in asked]
        for n, (number, shares) in enumerate(self._source.shares(asked, pictures) if asked else (), 1):
            for mean, share in zip(means, shares, strict=True):
                mean.add(number, share)
            self._report("classes", n, len(pictures))
        for stored, mean in zip(asked, means, strict=True):
            table = mean.table()
            if table is not None:
                found[stored.id] = classes.ranked(table, False)
        return found, means[0].counts if means else {}
