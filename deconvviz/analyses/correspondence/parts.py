"""The parts of pictures that are covered: boxes that a file or a caller gives, and random ones of the same sizes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError

if TYPE_CHECKING:
    from deconvviz.network.preprocessing import Picture

    Box = Sequence[float]
    Pictured = tuple[Picture, Mapping[str, Box]]


def read_parts(parts: Any, folder: Any) -> list[Pictured]:
    """Pairs (picture, boxes), two or more, all with the same parts in the same order."""
    if isinstance(parts, str | os.PathLike):
        folder = Path(parts).parent if folder is None else folder
        parts = _read(Path(parts))
    if isinstance(parts, Mapping):
        parts = _entries(parts, Path() if folder is None else Path(folder))
    if not isinstance(parts, Sequence):
        raise DeconvvizTypeError(f"parts is a {type(parts).__name__}; allowed: a JSON file, its content, or pairs")
    given = [pair for pair in parts if isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Mapping)]
    if len(given) < 2 or len(given) != len(parts):
        raise DeconvvizValueError(
            f"parts has {len(given)} pictures with boxes; allowed: two or more, each with its file and its parts"
        )
    known = list(given[0][1])
    for number, (_, boxes) in enumerate(given, 1):
        missing, more = [p for p in known if p not in boxes], [p for p in boxes if p not in known]
        if missing or more or not known:
            what = (
                f"has no '{missing[0]}'" if missing else f"has '{more[0]}', the first not" if more else "has no parts"
            )
            raise DeconvvizValueError(f"picture {number} {what}; allowed: the same parts in every picture")
    return [(picture, {part: boxes[part] for part in known}) for picture, boxes in given]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DeconvvizValueError(f"no such file: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DeconvvizValueError(f"cannot read {path}: {error}") from error
    except json.JSONDecodeError as error:
        raise DeconvvizValueError(f"{path} is not JSON: {error}") from error


def _entries(content: Mapping[str, Any], folder: Path) -> list[Pictured]:
    images = content.get("images")
    if not isinstance(images, Sequence) or isinstance(images, str):
        raise DeconvvizValueError('parts has no list "images"; allowed: {"images": [{"file": …, "parts": {…}}, …]}')
    for number, entry in enumerate(images, 1):
        if not (
            isinstance(entry, Mapping)
            and isinstance(entry.get("file"), str)
            and isinstance(entry.get("parts"), Mapping)
        ):
            raise DeconvvizValueError(f'entry {number} of "images" is not {{"file": …, "parts": {{name: box}}}}')
    return [(folder / entry["file"], entry["parts"]) for entry in images]


def draw_boxes(boxes: Tensor, size: Sequence[int], draws: int, seed: int) -> Tensor:
    """Random boxes of the sizes of `boxes` (P, N, 4) in inputs of `size` (height, width), (P, 2 D, N, 4): D draws with
    a place for each picture, D with one for all."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (boxes[..., 2:] - boxes[..., :2])[:, None].expand(-1, 2 * draws, -1, -1)
    parts, _, count, _ = sizes.shape
    each = torch.rand(parts, draws, count, 2, generator=generator, dtype=torch.float64)
    one = torch.rand(parts, draws, 1, 2, generator=generator, dtype=torch.float64).expand(-1, -1, count, -1)
    free = torch.tensor(size) - sizes + 1
    corners = (torch.cat([each, one], 1) * free).floor().long()
    return torch.cat([corners, corners + sizes], -1)
