"""Many small pictures on one sheet: tiles with a rim of their own colour, so that no browser mixes neighbours."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

# No tile has a longer side; a receptive field of 139 x 139 (layer 5 of ZFNet) stays as it is.
LARGEST = 160
# Smaller ones are enlarged by whole numbers, pixel by pixel: a filter of 7 x 7 shows its pixels.
SMALLEST = 64
RIM = 2
# A unit in a grid is a square of its strongest places, this wide altogether.
MOSAIC = 124
GAP = 2
COLUMNS = 8
ROWS = 8
# Of WebP, 0 to 6: half the time of its default 4 for 3 % more bytes.
EFFORT = 2


class PanelLike(Protocol):
    """What a tile is made of: see `deconvviz.analyses.panels.compute.Panel`."""

    @property
    def projection(self) -> Pixels: ...
    @property
    def crop(self) -> Pixels: ...
    @property
    def offset(self) -> tuple[int, int]: ...
    @property
    def field(self) -> tuple[int, int]: ...


@dataclass(frozen=True)
class SheetGrid:
    """Measures of a sheet: `columns` x `rows` tiles of `width` x `height`, each with a rim around it."""

    width: int
    height: int
    columns: int
    rows: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the sheet."""
        return self.columns * (self.width + 2 * RIM), self.rows * (self.height + 2 * RIM)

    def corner(self, x: int, y: int) -> tuple[int, int]:
        """Left and top of a tile, rim left out."""
        return x * (self.width + 2 * RIM) + RIM, y * (self.height + 2 * RIM) + RIM

    @property
    def style(self) -> str:
        """The measures as CSS variables, for the classes `tile` of the stylesheet."""
        wide, high = self.size
        return (
            f"--ratio:{self.width}/{self.height};--wide:{wide / self.width:.6g};--high:{high / self.height:.6g};"
            f"--px:{(self.width + 2 * RIM) / self.width:.6g};--py:{(self.height + 2 * RIM) / self.height:.6g};"
            f"--ox:{RIM / self.width:.6g};--oy:{RIM / self.height:.6g}"
        )


def tile_size(height: int, width: int) -> tuple[int, int]:
    """Size (height, width) of the tile for a receptive field."""
    longest = max(height, width)
    if longest > LARGEST:
        return max(1, round(height * LARGEST / longest)), max(1, round(width * LARGEST / longest))
    factor = -(-SMALLEST // longest)
    return height * factor, width * factor


def grid_of(units: int) -> SheetGrid:
    """Measures of the sheets for the grid of a layer of so many units."""
    return SheetGrid(MOSAIC, MOSAIC, COLUMNS, min(ROWS, -(-units // COLUMNS)))


def fitted(tile: Pixels, height: int, width: int) -> Pixels:
    """A tile (h, w, 4) in another size: enlarged pixel by pixel, made smaller with averages; no half opaque pixels."""
    if tile.shape[:2] == (height, width):
        return tile
    larger = tile.shape[0] < height
    how = Image.Resampling.NEAREST if larger else Image.Resampling.HAMMING
    resized = np.array(Image.fromarray(tile, "RGBA").resize((width, height), how))
    # What is nearly transparent has hardly a colour any more.
    resized[resized[..., 3] < 128] = 0
    resized[..., 3] = np.where(resized[..., 3], 255, 0)
    return resized


def contrasted(projection: Pixels) -> Pixels:
    """A projection (h, w, 4) that was made smaller, with full contrast again: averages of fine lines are nearly grey.

    As everywhere zero stays at 128, and the 99.5th percentile of what differs from it becomes full contrast.
    """
    signed = projection[..., :3].astype(np.float64) - 128
    sizes = np.abs(signed[projection[..., 3] > 0])
    limit = np.percentile(sizes[sizes > 0], 99.5) if (sizes > 0).any() else 127.0
    full: Pixels = projection.copy()
    full[..., :3] = np.clip(np.rint(128 + 127 * signed / limit), 0, 255).astype(np.uint8)
    return full


def pair(panel: PanelLike, height: int, width: int) -> tuple[Pixels, Pixels]:
    """The tiles (height, width, 4) of a panel's projection and crop; what lies outside the picture is transparent."""
    projection, crop = (_tile(panel, pixels, height, width) for pixels in (panel.projection, panel.crop))
    return (contrasted(projection) if height < panel.field[0] else projection), crop


def _tile(panel: PanelLike, pixels: Pixels, height: int, width: int) -> Pixels:
    """A part of a receptive field in its place, over the whole field."""
    high, wide = pixels.shape[:2]
    top, left = panel.offset
    whole = np.zeros((*panel.field, 4), np.uint8)
    whole[top : top + high, left : left + wide, :3] = pixels
    whole[top : top + high, left : left + wide, 3] = 255
    return fitted(whole, height, width)


def compose(grid: SheetGrid, tiles: Mapping[tuple[int, int], Pixels]) -> Image.Image:
    """The sheet of tiles (height, width, 4) by column and row; what is missing is transparent."""
    wide, high = grid.size
    sheet = np.zeros((high, wide, 4), np.uint8)
    for (x, y), tile in tiles.items():
        left, top = grid.corner(x, y)
        rimmed = np.pad(tile, ((RIM, RIM), (RIM, RIM), (0, 0)), mode="edge")
        sheet[top - RIM : top + grid.height + RIM, left - RIM : left + grid.width + RIM] = rimmed
    return Image.fromarray(sheet, "RGBA")


def cut(sheet: Image.Image, grid: SheetGrid, x: int, y: int) -> Pixels:
    """One tile (height, width, 4) of a sheet."""
    left, top = grid.corner(x, y)
    return np.asarray(sheet.crop((left, top, left + grid.width, top + grid.height)))


def mosaic(tiles: Iterable[Pixels], places: int, projections: bool) -> Pixels:
    """Tiles in a square of `places` places, MOSAIC wide, for the grid of a layer."""
    side = math.isqrt(places - 1) + 1
    room = (MOSAIC - (side - 1) * GAP) // side
    square = np.zeros((MOSAIC, MOSAIC, 4), np.uint8)
    for n, tile in enumerate(tiles):
        scale = room / max(tile.shape[:2])
        height, width = max(1, round(tile.shape[0] * scale)), max(1, round(tile.shape[1] * scale))
        top = (n // side) * (room + GAP) + (room - height) // 2
        left = (n % side) * (room + GAP) + (room - width) // 2
        small = fitted(tile, height, width)
        square[top : top + height, left : left + width] = contrasted(small) if projections else small
    return square


def encode(picture: Image.Image, quality: int, lossless: bool = False) -> bytes:
    """The bytes of a WebP file; without transparency if nothing is transparent."""
    if picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, lossless=lossless, method=EFFORT)
    return buffer.getvalue()
