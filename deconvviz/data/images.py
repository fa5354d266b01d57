"""Pictures from disk, safely, as upright RGB: the one place that knows file formats."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from deconvviz.data.made_here import check_regular
from deconvviz.errors import DeconvvizTypeError, ImageError, in_one_line

# A picture as people have it: a file, or pixels (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8.
PictureFile: TypeAlias = str | os.PathLike[str] | Image.Image | npt.NDArray[Any]
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
# What Pillow calls the formats of these.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
# 10,000 x 10,000 is the largest square still read: 300 MB once decoded to RGB.
MAX_PIXELS = 100_000_000
# Networks look at 224 pixels or so; a larger picture is reduced while decoding to bound memory.
MAX_SIDE = 4096
# What Pillow raises for a damaged or unusual file.
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError)


def read_image(image: PictureFile, allow_nonfinite: bool = False) -> Image.Image:
    """Return `image`, a path, a PIL image or an array of pixels, as an upright 8-bit RGB picture.

    EXIF orientation is applied, CMYK and palette converted, 16-bit grey scaled by 1/257 (floats: clipped
    to 0..1, or scaled from their own range), alpha laid over white; of an animation the first frame counts.
    A picture above `MAX_PIXELS` pixels is refused before it is decoded; one with a side above `MAX_SIDE`
    is reduced to it. The given picture is never changed. Pixels that are NaN or infinite are black where they
    are allowed.

    Raises:
        ImageError: not a picture, truncated, too large, not finite, or the file does not exist.
        DeconvvizTypeError: neither a path nor a PIL image nor an array.
    """
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    if isinstance(image, Image.Image):
        _check_size(image, "the picture")
        try:
            return _convert(image, "the picture", allow_nonfinite)
        except ImageError:
            raise
        except _UNREADABLE as error:  # opened but not decoded until now
            raise ImageError(f"cannot read the picture: {_reason(error)}") from error
    if not isinstance(image, (str, os.PathLike)):
        raise DeconvvizTypeError(f"image must be a path, a PIL image or an array, not {type(image).__name__}")
    path = Path(image)
    if not path.exists():
        raise ImageError(f"no such picture: {path}")
    if path.is_dir():
        raise ImageError(f"{path} is a folder, not a picture")
    check_regular(path)
    return _decoded(path, str(path), allow_nonfinite)


def read_bytes(data: bytes, name: str = "the picture", allow_nonfinite: bool = False) -> Image.Image:
    """As `read_image`, of the content of a picture's file, of one of the formats that `SUFFIXES` are of and no other.

    `name` is what errors call it. Raises `ImageError`.
    """
    return _decoded(io.BytesIO(data), name, allow_nonfinite, _FORMATS)


def _decoded(
    file: Path | io.BytesIO, name: str, allow_nonfinite: bool, formats: tuple[str, ...] | None = None
) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # The bound below replaces Pillow's own warning; broken EXIF data is no reason to stop.
            warnings.simplefilter("ignore")
            with Image.open(file, formats=formats) as opened:
                _check_size(opened, name)
                opened.draft("RGB", (MAX_SIDE, MAX_SIDE))
                return _convert(opened, name, allow_nonfinite)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"{name} has more than {MAX_PIXELS:,} pixels; make it smaller first") from None
    except _UNREADABLE as error:
        raise ImageError(f"cannot read {name} as a picture: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a format that is known here"
    return in_one_line(error)


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name} has {width} x {height} pixels, more than {MAX_PIXELS:,}; make it smaller first")
    if width < 1 or height < 1:
        raise ImageError(f"{name} has no pixels ({width} x {height})")


def _from_array(pixels: npt.NDArray[Any]) -> Image.Image:
    if pixels.dtype != np.uint8:
        raise DeconvvizTypeError(f"image is a {pixels.dtype} array; allowed: uint8, 0 to 255")
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))):
        raise ImageError(f"image is an array {pixels.shape}; allowed: (H, W) or (H, W, C) with C 1, 3 or 4")
    if not pixels.size:
        raise ImageError(f"image is an array {pixels.shape}, which has no pixels")
    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    return Image.fromarray(np.ascontiguousarray(flat))


def _convert(image: Image.Image, name: str, allow_nonfinite: bool) -> Image.Image:
    image.load()  # the first frame: a file just opened stands on it
    orientation = image.getexif().get(_ORIENTATION)
    frame = _reduced(image)
    if orientation:
        frame.getexif()[_ORIENTATION] = orientation
        frame = ImageOps.exif_transpose(frame)
    if frame.mode.startswith("I") or frame.mode == "F":
        frame = _from_deep_grey(frame, name, allow_nonfinite)
    if frame.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in frame.info:
        frame = frame.convert("RGBA")
        white = Image.new("RGBA", frame.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, frame).convert("RGB")
    return frame.convert("RGB") if frame.mode != "RGB" else frame


_ORIENTATION = 0x0112
_REDUCIBLE = ("L", "RGB", "RGBA", "CMYK", "YCbCr", "LA", "F", "I")


def _reduced(image: Image.Image) -> Image.Image:
    """A copy with no side above `MAX_SIDE`, in a mode that averaging pixels has a meaning for if it was reduced."""
    longest = max(image.size)
    if longest <= MAX_SIDE:
        return image.copy()
    if image.mode.startswith("I;"):
        image = image.convert("I")  # 16-bit grey; 32 bits keep its values
    elif "transparency" in image.info or image.mode in ("PA", "RGBa"):
        image = image.convert("RGBA")
    elif image.mode not in _REDUCIBLE:
        image = image.convert("L" if image.mode == "1" else "RGB")
    return image.reduce(-(-longest // MAX_SIDE))


def _from_deep_grey(image: Image.Image, name: str, allow_nonfinite: bool) -> Image.Image:
    """16-bit and float grey as 8-bit: Pillow's own conversion clips at 255 and shows white."""
    values = np.asarray(image, dtype=np.float64)
    finite = np.isfinite(values)
    if not allow_nonfinite and not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise ImageError(f"{name} has pixels that are not finite: {values[row, column]} at row {row}, column {column}")
    values = np.where(finite, values, 0.0)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F":
        scaled = values * 255 if low >= 0 and high <= 1 else (values - low) / max(high - low, 1e-12) * 255
    elif high <= 65535 and low >= 0:
        scaled = values / 257
    else:
        scaled = (values - low) / max(high - low, 1e-12) * 255
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))
