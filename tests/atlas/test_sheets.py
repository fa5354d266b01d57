"""Tiles on sheets, by hand-computed places."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from deconvviz.atlas.sheets import (
    GAP,  # fmt: skip
    MOSAIC,
    RIM,
    SheetGrid,
    compose,
    contrasted,
    cut,
    encode,
    fitted,
    mosaic,
    pair,
    tile_size,
)


def flat(height: int, width: int, value: int) -> np.ndarray:
    tile = np.full((height, width, 4), value, np.uint8)
    tile[..., 3] = 255
    return tile


@pytest.mark.parametrize(
    ("field", "tile"),
    [((7, 7), (70, 70)), ((27, 27), (81, 81)), ((64, 64), (64, 64)), ((139, 139), (139, 139)), ((160, 160), (160, 160)),
     ((320, 160), (160, 80)), ((1, 1), (64, 64)), ((1, 1000), (1, 160))],
)  # fmt: skip
def test_small_fields_grow_by_whole_numbers_and_large_ones_shrink(
    field: tuple[int, int], tile: tuple[int, int]
) -> None:
    assert tile_size(*field) == tile


def test_a_panel_stands_in_its_place_and_the_rest_is_transparent(made_up: SimpleNamespace) -> None:
    pixels = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    panel = made_up.Panel(pixels, 255 - pixels, (2, 3), (7, 7))
    projection, crop = pair(panel, 7, 7)
    assert (projection[2:, 3:, :3] == pixels).all() and (crop[2:, 3:, :3] == 255 - pixels).all()
    for tile in (projection, crop):
        assert (tile[2:, 3:, 3] == 255).all() and tile[..., 3].sum() == 20 * 255
    larger, _ = pair(panel, 70, 70)
    assert (larger[::10, ::10] == projection).all(), "enlarged pixel by pixel"


def test_a_sheet_gives_back_its_tiles_and_repeats_their_rims() -> None:
    grid = SheetGrid(6, 4, 3, 2)
    tiles = {(x, y): flat(4, 6, 10 + x + 3 * y) for x in range(3) for y in range(2) if (x, y) != (2, 1)}
    tiles[0, 0][0, 0] = (200, 0, 0, 255)
    sheet = compose(grid, tiles)
    assert sheet.size == (3 * (6 + 2 * RIM), 2 * (4 + 2 * RIM)) == grid.size
    for (x, y), tile in tiles.items():
        assert (cut(sheet, grid, x, y) == tile).all()
    assert (cut(sheet, grid, 2, 1) == 0).all()
    assert sheet.getpixel((0, 0)) == sheet.getpixel((RIM, RIM)) == (200, 0, 0, 255)
    assert sheet.getpixel((6 + 2 * RIM - 1, 5)) == (10, 10, 10, 255), "the rim is the tile's own colour"


def test_the_style_puts_each_tile_into_view() -> None:
    grid = SheetGrid(6, 4, 3, 2)
    measures = dict(part.split(":") for part in grid.style.split(";"))
    # What the stylesheet does, for a tile shown 600 wide and 400 high: 100 times its size.
    for x in range(3):
        left = (x * float(measures["--px"]) + float(measures["--ox"])) * 600
        assert left == pytest.approx(100 * grid.corner(x, 0)[0], abs=0.1)
    top = (1 * float(measures["--py"]) + float(measures["--oy"])) * 400
    assert top == pytest.approx(100 * grid.corner(0, 1)[1], abs=0.1)
    assert float(measures["--wide"]) * 600 == pytest.approx(100 * grid.size[0], abs=0.1)
    assert float(measures["--high"]) * 400 == pytest.approx(100 * grid.size[1], abs=0.1)


def test_a_mosaic_is_a_square_of_places() -> None:
    square = mosaic([flat(70, 70, 10 * n + 10) for n in range(5)], 9, False)
    room = (MOSAIC - 2 * GAP) // 3
    assert square.shape == (MOSAIC, MOSAIC, 4)
    for n in range(9):
        y, x = (n // 3) * (room + GAP), (n % 3) * (room + GAP)
        assert (square[y : y + room, x : x + room, 0] == (10 * n + 10 if n < 5 else 0)).all()
    assert (square[room : room + GAP, :, 3] == 0).all()
    assert (mosaic([flat(64, 64, 9)], 1, False)[..., 0] == 9).all()


def test_fitted_keeps_what_fits_and_averages_what_is_made_smaller() -> None:
    tile = flat(4, 4, 0)
    tile[::2, ::2, :3] = 200
    assert fitted(tile, 4, 4) is tile
    assert abs(float(fitted(tile, 1, 1)[0, 0, 0]) - 50) < 15


def test_files_have_transparency_only_where_it_is_needed() -> None:
    for alpha, mode in ((255, "RGB"), (0, "RGBA")):
        tile = flat(20, 20, 99)
        tile[0, 0, 3] = alpha
        with Image.open(io.BytesIO(encode(Image.fromarray(tile, "RGBA"), 80))) as opened:
            assert opened.format == "WEBP" and opened.mode == mode
            assert abs(int(np.asarray(opened)[10, 10, 0]) - 99) < 4


def test_fine_lines_made_small_have_their_contrast_again() -> None:
    tile = flat(120, 120, 128)
    tile[60, :, :3] = 255
    tile[62, :, :3] = 1
    tile[:, 100:, 3] = 0
    square = mosaic([tile], 9, True)
    shown = square[..., :3][square[..., 3] > 200]
    assert shown.max() > 200 and shown.min() < 60
    assert mosaic([tile], 9, False)[..., :3][square[..., 3] > 200].max() < 200
    assert (contrasted(flat(5, 5, 128)) == flat(5, 5, 128)).all()


def test_contrast_keeps_signs_and_zero() -> None:
    tile = flat(1, 5, 128)
    tile[0, :, 0] = (118, 123, 128, 133, 138)
    assert contrasted(tile)[0, :, 0].tolist() == [1, 64, 128, 192, 255]
    assert (contrasted(tile)[0, :, 1] == 128).all()
