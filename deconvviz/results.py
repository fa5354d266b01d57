"""Results: numbers, the pictures made of them, saving and loading. Knows no model."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvviz.errors import DeconvvizValueError, suggest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg", ".npz")
_TENSORS = ("units", "places", "activations", "pixels", "boxes", "image")
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Projection:
    """What K units of one layer respond to in one picture, projected down to its pixels.

    `units` (K,), `places` (K, 2) row and column in the map, `activations` (K,), `pixels` (K, C, H, W) signed,
    in the input's own scale, `boxes` (K, 4) top, left, bottom, right of the receptive field clipped to the
    picture, half-open; `image` (C, H, W) is the preprocessed input, `mean` and `std` its normalisation (empty
    for a bare module); `policy` and `model` say how it was made and of what. Zeiler & Fergus 2014, section 2.1.
    """

    layer: str
    alias: str | None
    units: Tensor
    places: Tensor
    activations: Tensor
    pixels: Tensor
    boxes: Tensor
    image: Tensor
    policy: dict[str, object] = field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    model: dict[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.units.shape[0])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Projection):
            return NotImplemented
        return self._facts() == other._facts() and all(
            _same(getattr(self, name), getattr(other, name)) for name in _TENSORS
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def name(self) -> str:
        """The short name of the layer: its alias if it has one, else its module path."""
        return self.alias or self.layer

    def images(self, percentile: float = 99.5, scale: str = "panel") -> NDArray[np.uint8]:
        """Return the projections as pictures (K, H, W, C) uint8, zero as mid-grey 128.

        The contrast is symmetric: the `percentile` of the absolute non-zero values becomes full contrast,
        in each projection (`scale="panel"`) or over all of them (`"shared"`), so signs can be compared.

        Raises:
            DeconvvizValueError: an unknown scale, or a percentile outside 0 < p <= 100.
        """
        if scale not in ("panel", "shared"):
            raise DeconvvizValueError(f"scale {scale!r} is unknown; allowed: 'panel', 'shared'")
        if not 0 < percentile <= 100:
            raise DeconvvizValueError(f"percentile {percentile} is not in 0 < p <= 100")
        values = self.pixels.detach().to("cpu", torch.float64).permute(0, 2, 3, 1).numpy()
        if scale == "shared":
            limits = np.full(len(values), _limit(values, percentile))
        else:
            limits = np.array([_limit(panel, percentile) for panel in values])
        scaled = values / limits.reshape(-1, 1, 1, 1)
        grey: NDArray[np.uint8] = np.clip(np.rint(128 + 127 * scaled), 0, 255).astype(np.uint8)
        return grey

    def photograph(self) -> NDArray[np.uint8]:
        """Return the picture as the network saw it, (H, W, C) uint8.

        Without a known normalisation values within 0..1 are taken as they are, others stretched.
        """
        image = self.image.detach().to("cpu", torch.float64)
        if self.std:
            image = image * image.new_tensor(self.std).view(-1, 1, 1)
        if self.mean:
            image = image + image.new_tensor(self.mean).view(-1, 1, 1)
        if not self.mean and not self.std and (image.min() < 0 or image.max() > 1):
            image = (image - image.min()) / (image.max() - image.min()).clamp(min=1e-12)
        shown: NDArray[np.uint8] = np.rint(image.clamp(0, 1).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        return shown

    def crops(self) -> list[NDArray[np.uint8]]:
        """Return for each unit its receptive field cut from the photograph, (h, w, C) uint8."""
        photograph = self.photograph()
        return [photograph[t:b, left:right].copy() for t, left, b, right in self.boxes.tolist()]

    def figure(self, **options: Any) -> Figure:
        """Draw the result; see `deconvviz.figures.projection.draw` for the options."""
        from deconvviz.figures.projection import draw

        return draw(self, **options)

    def facts(self) -> dict[str, object]:
        """Return everything but the pixels as plain Python values, ready for JSON."""
        numbers = {n: getattr(self, n).tolist() for n in ("units", "places", "activations", "boxes")}
        return {**self._facts(), **numbers}

    def save(self, path: str | os.PathLike[str], **figure: Any) -> Path:
        """Write the result to `path` by its suffix: a figure (png, pdf, svg) or all numbers (npz).

        The file appears whole or not at all. Model, weights, policy and versions are
        kept inside every format. `figure` options go to `figure()`.

        Raises:
            DeconvvizValueError: an unknown suffix, or a folder that does not exist.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise DeconvvizValueError(
                f"cannot save as {path.name!r}: the suffix must be one of {', '.join(SUFFIXES)}"
                + suggest(suffix, SUFFIXES)
            )
        if not path.parent.is_dir():
            raise DeconvvizValueError(f"the folder {path.parent} does not exist")
        buffer = io.BytesIO()
        if suffix == ".npz":
            self._write_npz(buffer)
        else:
            from deconvviz.figures.style import write

            write(self.figure(**figure), buffer, suffix[1:], self._metadata())
        _write_whole(path, buffer.getvalue())
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Projection:
        """Read back what `save` wrote as npz; nothing in the file is unpickled.

        Raises:
            DeconvvizValueError: not such a file.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                facts: dict[str, Any] = json.loads(str(stored["facts"][()]))
                tensors: dict[str, Any] = {name: torch.from_numpy(stored[name].copy()) for name in _TENSORS}
        except Exception as error:
            if isinstance(error, FileNotFoundError):
                raise DeconvvizValueError(f"no such file: {path}") from error
            raise DeconvvizValueError(f"{path} is not a saved projection: {error}") from error
        if facts.pop("format", None) != _FORMAT:
            raise DeconvvizValueError(f"{path} was written by another version of deconvviz")
        for name in ("mean", "std", "labels"):
            facts[name] = tuple(facts[name])
        return cls(**facts, **tensors)

    def _facts(self) -> dict[str, object]:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in _TENSORS}
        # Through JSON, so that a policy with tuples equals itself after loading.
        plain: dict[str, object] = json.loads(json.dumps(values, default=str))
        return plain

    def _write_npz(self, buffer: io.BytesIO) -> None:
        facts = json.dumps({"format": _FORMAT, **self._facts()})
        arrays = {name: _numpy(getattr(self, name)) for name in _TENSORS}
        np.savez_compressed(buffer, facts=np.array(facts), **arrays)  # type: ignore[arg-type]

    def _metadata(self) -> dict[str, str]:
        return {
            "Title": f"{self.model.get('name', 'model')} {self.name}",
            "Software": f"deconvviz {self.model.get('deconvviz', '')}".strip(),
            "Description": json.dumps({k: v for k, v in self.facts().items() if k != "labels"}),
        }


def _limit(values: NDArray[np.float64], percentile: float) -> float:
    # Over the non-zero values: most of a projection is exactly zero outside the receptive field.
    magnitudes = np.abs(values[values != 0])
    magnitudes = magnitudes[np.isfinite(magnitudes)]
    return float(np.percentile(magnitudes, percentile)) if magnitudes.size else 1.0


def _numpy(tensor: Tensor) -> NDArray[Any]:
    tensor = tensor.detach().cpu()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    return np.asarray(tensor.numpy())


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a.detach().cpu(), b.detach().cpu())


def _write_whole(path: Path, data: bytes) -> None:
    """Write beside `path` and rename: an interruption leaves the old file or none."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
