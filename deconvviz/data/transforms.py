"""Geometric transforms of a picture as the network gets it: exact for whole pixels, bilinear between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnknownNameError, suggest


@dataclass(frozen=True)
class Transform:
    """One kind: its label for an axis, the value that changes nothing, the default values, and whether in pixels."""

    axis: str
    identity: float
    default: tuple[float, ...]
    pixels: bool = False


# The paper's ranges (Fig. 5), for a picture of 224 pixels.
REFERENCE = 224
TRANSFORMS = {
    "translation": Transform("Vertical translation (pixels)", 0.0, tuple(range(-60, 61, 4)), pixels=True),
    "horizontal": Transform("Horizontal translation (pixels)", 0.0, tuple(range(-60, 61, 4)), pixels=True),
    "scale": Transform("Scale (ratio)", 1.0, tuple((20 + k) / 20 for k in range(17))),
    "rotation": Transform("Rotation (degrees)", 0.0, tuple(range(0, 351, 10))),
    "flip": Transform("Horizontal flip", 0.0, (0.0, 1.0)),
}

FILLS = ("grey", "reflect", "edge")
Fill = str | float | Sequence[float] | Tensor


def transform_named(kind: str) -> Transform:
    """Return the transform of this name; raises `UnknownNameError` for another."""
    if kind not in TRANSFORMS:
        hint = suggest(str(kind), TRANSFORMS)
        raise UnknownNameError(f"unknown transform {kind!r}; allowed: {', '.join(TRANSFORMS)}{hint}")
    return TRANSFORMS[kind]


def default_values(kind: str, height: int) -> tuple[float, ...]:
    """Return the paper's values of a transform; those in pixels are for a height of 224 and go with the height."""
    found = transform_named(kind)
    if not found.pixels:
        return found.default
    return tuple(dict.fromkeys(float(round(v * height / REFERENCE)) for v in found.default))


def warp(picture: Tensor, kind: str, values: Sequence[float], fill: Fill = "grey") -> Tensor:
    """Return `picture` (C, H, W) transformed by each of V `values`, (V, C, H, W).

    `kind`: "translation" (down by so many pixels), "horizontal" (to the right), "scale" (by this ratio about the
    centre), "rotation" (degrees, counter-clockwise about the centre) or "flip" (1: left and right exchanged, 0: not).
    What comes from outside the picture is `fill`: "grey" (0, the mean colour of a normalised input), a number or a
    (C,) colour in the input's own scale, "reflect" (mirrored at the border, the outermost pixel twice) or "edge" (the
    outermost pixel). Bilinear between pixels; whole shifts, quarter turns of a square and flips move the numbers
    unchanged. A picture made smaller is not smoothed first.

    Raises `UnknownNameError`, `DeconvvizValueError`, `DeconvvizTypeError`.
    """
    numbers = check_values(kind, values)
    if not isinstance(picture, Tensor) or picture.dim() != 3 or not picture.is_floating_point():
        shape = tuple(picture.shape) if isinstance(picture, Tensor) else type(picture).__name__
        raise DeconvvizTypeError(f"picture is {shape}; allowed: a float tensor (C, H, W)")
    colour = fill_colour(fill, picture)
    rows, columns = _sources(kind, numbers.to(picture.device), *picture.shape[1:])
    return _sample(picture, rows, columns, "grey" if colour is not None else str(fill), colour)


def check_values(kind: str, values: Sequence[float]) -> Tensor:
    """Return the values of a transform as float64 (V,); raises `DeconvvizValueError` for those it does not take."""
    transform_named(kind)
    try:
        numbers = torch.tensor([float(v) for v in values], dtype=torch.float64)
    except (TypeError, ValueError):
        raise DeconvvizTypeError(f"values of {kind} are {values!r}; allowed: numbers") from None
    allowed = {"scale": numbers > 0, "flip": (numbers == 0) | (numbers == 1)}.get(kind, numbers == numbers)
    wrong = numbers[~(allowed & numbers.isfinite())]
    if not len(numbers) or len(wrong):
        what = f"a value of {kind} is {float(wrong[0]):g}" if len(wrong) else f"{kind} has no values"
        said = {"scale": "numbers above 0", "flip": "0 and 1"}.get(kind, "finite numbers, one or more")
        raise DeconvvizValueError(f"{what}; allowed: {said}")
    return numbers


def fill_colour(fill: Fill, picture: Tensor) -> Tensor | None:
    """Return the colour (C,) that `fill` names for a `picture` (…, C, H, W), or None for "reflect" and "edge"."""
    channels = picture.shape[-3]
    if isinstance(fill, str):
        if fill not in FILLS:
            names = ", ".join(map(repr, FILLS))
            raise UnknownNameError(f"fill is {fill!r}; allowed: {names}, a number, a colour{suggest(fill, FILLS)}")
        return picture.new_zeros(channels) if fill == "grey" else None
    try:
        colour = torch.as_tensor(fill, dtype=torch.float64).to(picture)
    except (TypeError, ValueError, RuntimeError):
        raise DeconvvizTypeError(f"fill is {fill!r}; allowed: {', '.join(FILLS)}, a number, a colour") from None
    if colour.dim() > 1 or colour.numel() not in (1, channels) or not bool(colour.isfinite().all()):
        raise DeconvvizValueError(f"fill is {fill!r}; allowed: one finite number, or {channels} of them")
    return colour.expand(channels)


def _sources(kind: str, values: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Row and column in the picture, each (V, H, W) float64, of what stands at every pixel after the transform."""
    v = values.view(-1, 1, 1)
    down = (torch.arange(height, dtype=torch.float64, device=values.device) - (height - 1) / 2).view(1, -1, 1)
    right = (torch.arange(width, dtype=torch.float64, device=values.device) - (width - 1) / 2).view(1, 1, -1)
    if kind == "rotation":
        sine, cosine = (v * (math.pi / 180)).sin(), (v * (math.pi / 180)).cos()
        rows, columns = sine * right + cosine * down, cosine * right - sine * down
    else:
        rows = down / v if kind == "scale" else down - v if kind == "translation" else down + 0 * v
        mirrored = right * (1 - 2 * v) if kind == "flip" else right + 0 * v
        columns = right / v if kind == "scale" else right - v if kind == "horizontal" else mirrored
    shape = (len(values), height, width)
    rows, columns = rows.expand(shape) + (height - 1) / 2, columns.expand(shape) + (width - 1) / 2
    return _whole(rows), _whole(columns)


def _whole(places: Tensor) -> Tensor:
    """Places that only rounding has moved off a pixel go back onto it."""
    near = places.round()
    return torch.where((places - near).abs() < 1e-9, near, places)


def _sample(picture: Tensor, rows: Tensor, columns: Tensor, outside: str, colour: Tensor | None) -> Tensor:
    """Bilinear values of `picture` (C, H, W) at the places `rows`, `columns` (V, H, W), (V, C, H, W)."""
    channels, height, width = picture.shape
    work = picture if picture.dtype in (torch.float32, torch.float64) else picture.float()
    if colour is not None:
        framed = colour.to(work).view(-1, 1, 1).repeat(1, height + 2, width + 2)
        framed[:, 1:-1, 1:-1] = work
        work = framed
    flat = work.reshape(channels, -1)
    out = work.new_zeros(channels, rows.numel())
    top, left = rows.floor(), columns.floor()
    for row, down in ((top, 1 - (rows - top)), (top + 1, rows - top)):
        for column, right in ((left, 1 - (columns - left)), (left + 1, columns - left)):
            index = _inside(row, height, outside) * work.shape[2] + _inside(column, width, outside)
            out += flat[:, index.flatten()] * (down * right).flatten().to(work)
    return out.view(channels, *rows.shape).transpose(0, 1).to(picture.dtype).contiguous()


def _inside(places: Tensor, size: int, outside: str) -> Tensor:
    """Whole places as indices: of a frame one pixel wide for a colour, else of the picture itself."""
    index = places.long()
    if outside == "grey":
        return index.clamp(-1, size) + 1
    if outside == "edge":
        return index.clamp(0, size - 1)
    index = index % (2 * size)
    return torch.where(index < size, index, 2 * size - 1 - index)
