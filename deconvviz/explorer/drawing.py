"""Numbers as pictures for a page: small, quick to make, without matplotlib."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

# Maps are sent no larger; thousands of them go into a few megabytes.
MAP_SIDE = 56


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture (h, w, C) as PNG, hardly compressed: on one's own machine time counts, not bytes."""
    stream = io.BytesIO()
    shown = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    Image.fromarray(np.ascontiguousarray(shown)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def jpeg(picture: Image.Image, quality: int = 85) -> bytes:
    """A picture as JPEG."""
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def data_url(content: bytes, kind: str = "image/png") -> str:
    """A small file as an address of its own."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def map_bytes(maps: Tensor, most: float | None = None) -> tuple[tuple[int, int, int], bytes]:
    """Maps (C, h, w) as bytes, each scaled by its own maximum or `most`, 0 where nothing is positive; their shape.

    Larger maps are brought down to `MAP_SIDE` by the maximum of each piece, so that peaks stay.
    """
    maps = maps.detach().float().nan_to_num(0.0, 0.0, 0.0)
    piece = -(-max(maps.shape[1:]) // MAP_SIDE)
    if piece > 1:
        maps = F.max_pool2d(maps[None], piece, ceil_mode=True)[0]
    own = maps.flatten(1).amax(1) if most is None else maps.new_full((len(maps),), most)
    scaled = (
        (maps / own.clamp(min=1e-30).view(-1, 1, 1)).clamp(0, 1).mul(255).round().to(torch.uint8).cpu().contiguous()
    )
    return (scaled.shape[0], scaled.shape[1], scaled.shape[2]), scaled.numpy().tobytes()


def one_map(values: Tensor, most: float) -> list[Any]:
    """One map (h, w) for JSON: height, width, its bytes in base64, those of `most` and more 255."""
    (_, height, width), content = map_bytes(values[None], most)
    return [height, width, base64.b64encode(content).decode()]
