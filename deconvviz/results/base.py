"""What every result can do: be compared, be saved whole or not at all, be loaded again. Knows no model."""

from __future__ import annotations

import base64
import dataclasses
import html
import importlib
import io
import itertools
import json
import os
import re
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvviz.errors import DeconvvizValueError, ResultError, in_one_line, suggest
from deconvviz.files import write_whole
from deconvviz.results.archive import MOST, SHA256, read_arrays, write_arrays
from deconvviz.results.shapes import check_shapes, fits, shapes_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg", ".npz")
_FORMAT = 2
# The first format had no SHA-256.
_FIRST = 1
_DIMMED = 0.35  # of the light of what a network does not see

R = TypeVar("R", bound="Result")


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """Base of the results: frozen dataclasses whose fields are tensors, other results, or plain values.

    What a field holds is read from its annotation: a `Tensor`, a result, a tuple of results (each may be None where the
    annotation says so); everything else must go through JSON, from which tuples and named tuples come back as such.
    `policy` says how a result was made, `model` of what (name, hash of the weights, version). `kind` is the class's
    name in words, for files and messages. A result names itself in `title` and is drawn by the function that `drawn_by`
    names in the `figure.py` beside its module.

    >>> p = deconvviz.project(deconvviz.load("zfnet"), "image.jpg", "conv2", top=2)
    >>> isinstance(p, deconvviz.Result), p.kind, p.title
    (True, 'projection', 'zfnet conv2')
    """

    kind: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES  # of the files that `save` writes
    drawn_by: ClassVar[str] = "draw"
    _layout: ClassVar[_Held]

    policy: dict[str, Any] = dataclasses.field(default_factory=dict, kw_only=True)
    model: dict[str, str] = dataclasses.field(default_factory=dict, kw_only=True)

    def __init_subclass__(cls) -> None:
        if "kind" not in cls.__dict__:
            cls.kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", cls.__name__).lower()
        # Or `dataclass` would write one, with every number of every tensor.
        cls.__repr__ = cls.__dict__.get("__repr__", Result.__repr__)  # type: ignore[method-assign]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Result) or type(other) is not type(self):
            return NotImplemented
        held = self._held()
        return (
            self.plain() == other.plain()
            and all(_same(getattr(self, name), getattr(other, name)) for name in held.tensors)
            and all(getattr(self, name) == getattr(other, name) for name in (*held.results, *held.series))
        )

    def __repr__(self) -> str:
        """One line: the class, its title, and what the fields hold, tensors and series by their sizes."""
        held = self._held()
        tensors = {name: getattr(self, name) for name in held.tensors}
        parts = [f"{name} {tuple(value.shape)}" for name, value in tensors.items() if value is not None]
        parts += [f"{name} {type(value).__name__}" for name in held.results if (value := getattr(self, name))]
        parts += [f"{len(getattr(self, name))} {name}" for name in held.series]
        return " ".join(f"{type(self).__name__}({self._titled()}: {', '.join(parts)})".split())

    def _titled(self) -> str:
        try:
            return self.title
        except NotImplementedError:
            return self.kind

    def _repr_png_(self) -> bytes:
        """The figure, as a notebook shows it."""
        from deconvviz.results.style import as_png

        return as_png(self.figure())

    def _repr_html_(self) -> str:
        """The figure, and the result in one line."""
        return self._page(self._repr_png_())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, object]:
        """What a notebook asks for first: drawn once for both forms."""
        png = self._repr_png_()
        return {"text/plain": repr(self), "image/png": png, "text/html": self._page(png)}

    def _page(self, png: bytes) -> str:
        from deconvviz.results.style import shown_width

        line, inside = html.escape(repr(self)), base64.b64encode(png).decode()
        picture = (
            f'<img src="data:image/png;base64,{inside}" width="{shown_width(png)}" alt="{html.escape(self.title)}">'
        )
        return f'<div style="max-width: 100%; overflow-x: auto">{picture}</div>\n<code>{line}</code>\n'

    @property
    def title(self) -> str:
        """One line that names this result, for the metadata of a file."""
        raise NotImplementedError  # abstract: every result says it

    @property
    def model_name(self) -> str:
        """The name of the network, "model" if it is not known."""
        return self.model.get("name", "model")

    def figure(self, *given: Any, **options: Any) -> Figure:
        """Draw the result; the options are those of `draw` in the `figure.py` beside the result's module.

        >>> deconvviz.project(deconvviz.load("zfnet"), "image.jpg", "conv2", top=2).figure(scale="shared").axes[0].name
        'rectilinear'
        """
        beside = importlib.import_module(f"{type(self).__module__.rpartition('.')[0]}.figure")
        figure: Figure = getattr(beside, self.drawn_by)(self, *given, **options)
        return figure

    def facts(self) -> dict[str, object]:
        """Return what a reader wants as plain Python values, ready for JSON; by default all plain fields.

        >>> deconvviz.project(deconvviz.load("zfnet"), "image.jpg", "conv2", units=[7]).facts()["units"]
        [7]
        """
        return self.plain()

    def plain(self) -> dict[str, object]:
        """Return every field that is neither a tensor nor a result, as it comes back from JSON."""
        values = {name: getattr(self, name) for name in self._held().plain}
        # Through JSON, so that a policy with tuples equals itself after loading.
        plain: dict[str, object] = json.loads(json.dumps(values, default=str))
        return plain

    def save(self, path: str | os.PathLike[str], **figure: Any) -> Path:
        """Write the result to `path` by its suffix: a figure (png, pdf, svg) or all numbers (npz).

        The file appears whole or not at all. Model, weights, policy and versions are
        kept inside every format. `figure` options go to `figure()`.

        Raises:
            DeconvvizValueError: an unknown suffix, or a folder that does not exist.

        >>> p = deconvviz.project(deconvviz.load("zfnet"), "image.jpg", "conv2", top=2)
        >>> p.save("projection.pdf").name
        'projection.pdf'
        """
        path = Path(path)
        self._check_suffix(path.name, path.suffix.lower())
        if not path.parent.is_dir():
            raise DeconvvizValueError(f"the folder {path.parent} does not exist")
        write_whole(path, self.encoded(path.suffix, **figure))
        return path

    def encoded(self, suffix: str, **figure: Any) -> bytes:
        """Return the content of the file that `save` writes for this suffix; equal results give equal bytes.

        >>> p = deconvviz.project(deconvviz.load("zfnet"), "image.jpg", "conv2", top=2)
        >>> p.encoded(".npz")[:2]
        b'PK'
        """
        suffix = suffix.lower()
        self._check_suffix(suffix, suffix)
        if suffix == ".npz":
            return write_arrays(self._arrays(""))
        from deconvviz.results.style import write

        buffer = io.BytesIO()
        write(self.figure(**figure), buffer, suffix[1:], self._metadata())
        return buffer.getvalue()

    @classmethod
    def load(cls: type[R], path: str | os.PathLike[str], most: int = MOST) -> R:
        """Read back what `save` wrote as npz; nothing in the file is unpickled.

        Sizes are looked at before anything is inflated (at most `most` bytes are), the SHA-256 of the content and what
        the fields are by their annotations before anything is used.

        Raises:
            ResultError: not such a file, or not as it was saved.

        >>> p = deconvviz.project(deconvviz.load("zfnet"), "image.jpg", "conv2", top=2)
        >>> deconvviz.Projection.load(p.save("projection.npz")) == p
        True
        """
        try:
            arrays = read_arrays(path, most)
            if SHA256 not in arrays and json.loads(str(arrays["facts"][()]))["format"] == _FORMAT:
                raise ResultError(f"{path} is damaged: its SHA-256 is missing")
            loaded = cls._from_arrays(arrays, "", str(path))
            _check_members(arrays, loaded, str(path))
            return loaded
        except ResultError:
            raise
        except FileNotFoundError as error:
            raise ResultError(f"no such file: {path}") from error
        # Whatever a damaged zip file, or JSON of something else, makes the readers raise.
        except Exception as error:
            raise ResultError(f"{path} is not a saved {cls.kind}: {in_one_line(error)}") from error

    def check(self) -> None:
        """Raise `ResultError` if the fields contradict each other in what their annotations cannot say."""

    @classmethod
    def _held(cls) -> _Held:
        """What the fields hold, read from their annotations once for each class."""
        if "_layout" not in cls.__dict__:
            types = get_type_hints(cls)
            cls._layout = _sorted({f.name: types[f.name] for f in dataclasses.fields(cls)}, shapes_of(cls))
        return cls._layout

    def _arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        held = self._held()
        facts = json.dumps({"format": _FORMAT, "kind": self.kind, **self.plain()})
        arrays: dict[str, NDArray[Any]] = {prefix + "facts": np.array(facts)}
        for name in held.tensors:
            if getattr(self, name) is not None:
                arrays[prefix + name] = numbers(getattr(self, name))
        for name in held.results:
            if getattr(self, name) is not None:
                arrays.update(getattr(self, name)._arrays(f"{prefix}{name}/"))
        for name in held.series:
            for number, part in enumerate(getattr(self, name)):
                arrays.update(part._arrays(f"{prefix}{name}/{number}/"))
        return arrays

    @classmethod
    def _from_arrays(cls: type[R], arrays: dict[str, NDArray[Any]], prefix: str, path: str) -> R:
        facts: dict[str, Any] = json.loads(str(arrays[prefix + "facts"][()]))
        if facts.pop("kind", cls.kind) != cls.kind:
            raise ResultError(f"{path} is not a saved {cls.kind}")
        if facts.pop("format", None) not in (_FIRST, _FORMAT):
            raise ResultError(f"{path} was written by another version of deconvviz")
        held = cls._held()
        for name in facts:
            if name not in held.plain:
                raise ResultError(f"{path} is not a saved {cls.kind}: it has no '{name}'")
            facts[name] = _revived(held.plain[name], facts[name])
            if not fits(held.hints[name], facts[name]):
                raise ResultError(f"{path} is not a saved {cls.kind}: '{name}' is no {_in_words(held.hints[name])}")
        for name in held.tensors:
            stored = arrays.get(prefix + name)
            if stored is None and not held.optional(name):
                raise ResultError(f"{path} is not a saved {cls.kind}: '{prefix}{name}' is missing")
            facts[name] = None if stored is None else torch.from_numpy(stored.copy())
        for name, kind in held.results.items():
            there = f"{prefix}{name}/facts" in arrays
            if not there and not held.optional(name):
                raise ResultError(f"{path} is not a saved {cls.kind}: '{prefix}{name}' is missing")
            facts[name] = kind._from_arrays(arrays, f"{prefix}{name}/", path) if there else None
        for name, kind in held.series.items():
            places = itertools.takewhile(
                lambda place: f"{place}facts" in arrays, (f"{prefix}{name}/{n}/" for n in itertools.count())
            )
            facts[name] = tuple(kind._from_arrays(arrays, place, path) for place in places)
        loaded = cls(**facts)
        try:
            check_shapes(facts, held.shapes)
            loaded.check()
        except ResultError as error:
            raise ResultError(f"{path} is not a saved {cls.kind}: {error}") from error
        return loaded

    @classmethod
    def _check_suffix(cls, name: str, suffix: str) -> None:
        if suffix not in cls.suffixes:
            allowed = ", ".join(cls.suffixes)
            raise DeconvvizValueError(
                f"cannot save as {name!r}: the suffix must be one of {allowed}{suggest(suffix, cls.suffixes)}"
            )

    def _metadata(self) -> dict[str, str]:
        return {
            "Title": self.title,
            "Software": f"deconvviz {self.model.get('deconvviz', '')}".strip(),
            "Description": json.dumps({k: v for k, v in self.facts().items() if k != "labels"}),
        }


@dataclasses.dataclass(frozen=True, eq=False)
class LayerResult(Result):
    """A result about one layer: `layer` is its module path, `alias` its short name if it has one."""

    layer: str
    alias: str | None

    @property
    def name(self) -> str:
        """The short name of the layer: its alias if it has one, else its module path."""
        return self.alias or self.layer


@dataclasses.dataclass(frozen=True, eq=False)
class PictureResult(Result):
    """A result about pictures: `mean` and `std` are the normalisation of the inputs, empty for a bare module."""

    mean: tuple[float, ...] = dataclasses.field(default=(), kw_only=True)
    std: tuple[float, ...] = dataclasses.field(default=(), kw_only=True)

    def as_photograph(self, image: Tensor) -> NDArray[np.uint8]:
        """Return an input (C, H, W) of this result as a picture, (H, W, C) uint8; see `photograph`."""
        return photograph(image, self.mean, self.std)


@dataclasses.dataclass(frozen=True, eq=False)
class SeveralPicturesResult(PictureResult):
    """A result about several pictures: `answers` are the network's most probable class for each of them, `certainties`
    their probabilities; both empty where they are not known, as without labels."""

    answers: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)
    certainties: tuple[float, ...] = dataclasses.field(default=(), kw_only=True)

    def answers_in_words(self) -> list[str]:
        """Return what the network makes of each picture, class and probability; an empty list if that is not known."""
        return [f"network: {name}, {share:.3g}" for name, share in zip(self.answers, self.certainties, strict=True)]


@dataclasses.dataclass(frozen=True, eq=False)
class OnePictureResult(PictureResult):
    """A result about one picture: `image` (C, H, W) is the preprocessed input, `labels` name the network's classes.

    If the input shows less than the picture that was given, `whole` (h, w, 3) uint8 is all of that, small, and `region`
    the part that is used: top, left, bottom, right as shares of its height and width. `answer` is the network's most
    probable class and its probability. All None where they are not known, as for a preprocessed tensor.
    """

    image: Annotated[Tensor, "C H W"] = dataclasses.field(kw_only=True)
    labels: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)
    whole: Annotated[Tensor | None, "_ _ 3"] = dataclasses.field(default=None, kw_only=True)
    region: tuple[float, float, float, float] | None = dataclasses.field(default=None, kw_only=True)
    answer: tuple[int, float] | None = dataclasses.field(default=None, kw_only=True)

    def photograph(self) -> NDArray[np.uint8]:
        """Return the picture as the network saw it, (H, W, C) uint8."""
        return self.as_photograph(self.image)

    def answer_in_words(self) -> str:
        """Return what the network makes of the picture, class and probability; nothing if that is not known."""
        return "" if self.answer is None else f"network: {self.label(self.answer[0])}, {self.answer[1]:.3g}"

    def whole_picture(self) -> NDArray[np.uint8] | None:
        """Return the picture as it was given, (h, w, 3) uint8, small and dark but where the network looks.

        None if that is all of it, or not known.
        """
        if self.whole is None or self.region is None:
            return None
        picture = numbers(self.whole)
        sides = (*picture.shape[:2], *picture.shape[:2])
        top, left, bottom, right = (round(at * side) for at, side in zip(self.region, sides, strict=True))
        shown = np.rint(picture * _DIMMED).astype(np.uint8)
        used = (slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0)))
        shown[used] = picture[used]
        return shown

    def label(self, number: int) -> str:
        """Return the name of a class, or its number in words if the labels are not known."""
        return self.labels[number] if number < len(self.labels) else f"class {number}"


class _Held(NamedTuple):
    """The fields of a result by what they hold: tensors, results, tuples of results, plain values of a type.

    `hints` are their whole annotations, `shapes` the sides of the tensors.
    """

    tensors: list[str]
    results: dict[str, type[Result]]
    series: dict[str, type[Result]]
    plain: dict[str, Any]
    hints: dict[str, Any]
    shapes: dict[str, tuple[str, ...]]

    def optional(self, name: str) -> bool:
        """Whether a field may be None."""
        return NoneType in get_args(self.hints[name])


def _sorted(types: dict[str, Any], shapes: dict[str, tuple[str, ...]]) -> _Held:
    held = _Held([], {}, {}, {}, types, shapes)
    for name, hint in types.items():
        inner = _without_none(hint)
        if inner is Tensor:
            held.tensors.append(name)
        elif isinstance(inner, type) and issubclass(inner, Result):
            held.results[name] = inner
        elif get_origin(inner) is tuple and isinstance(part := get_args(inner)[0], type) and issubclass(part, Result):
            held.series[name] = part
        else:
            held.plain[name] = inner
    return held


def _check_members(arrays: dict[str, NDArray[Any]], loaded: Result, path: str) -> None:
    """Raise `ResultError` if a file holds anything that did not become a part of the result."""
    extra = sorted(arrays.keys() - loaded._arrays("").keys() - {SHA256})
    if extra:
        raise ResultError(f"{path} is not a saved {loaded.kind}: it has no '{extra[0]}'")


def _in_words(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _without_none(hint: Any) -> Any:
    """The one type that may stand beside None; a choice of several as it is."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    return kinds[0] if get_origin(hint) in (Union, UnionType) and len(kinds) == 1 else hint


def _revived(hint: Any, value: Any) -> Any:
    """A value from JSON as what its annotation says: lists become tuples and named tuples."""
    hint = _without_none(hint)
    if not isinstance(value, list):
        return value
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        kinds = (kinds[0],) * len(value) if kinds[-1] is Ellipsis else kinds
        return tuple(_revived(kind, part) for kind, part in zip(kinds, value, strict=True))
    if isinstance(hint, type) and issubclass(hint, tuple):
        kinds = tuple(get_type_hints(hint).values())
        return hint(*(_revived(kind, part) for kind, part in zip(kinds, value, strict=False)))
    return value


def photograph(image: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.uint8]:
    """Return a preprocessed picture (C, H, W) as the network saw it, (H, W, C) uint8.

    Without a known normalisation values within 0..1 are taken as they are, others stretched.
    """
    image = image.detach().to("cpu", torch.float64)
    if std:
        image = image * image.new_tensor(std).view(-1, 1, 1)
    if mean:
        image = image + image.new_tensor(mean).view(-1, 1, 1)
    if not mean and not std and (image.min() < 0 or image.max() > 1):
        image = (image - image.min()) / (image.max() - image.min()).clamp(min=1e-12)
    shown: NDArray[np.uint8] = np.rint(image.clamp(0, 1).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    return shown


def rgb(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture (h, w, C) in three channels: colours as they are, else the first, grey."""
    return picture if picture.shape[-1] == 3 else np.repeat(picture[..., :1], 3, axis=-1)


def signed_pictures(pixels: Tensor, percentile: float = 99.5, scale: str = "panel") -> NDArray[np.uint8]:
    """Return signed values (K, C, H, W) as pictures (K, H, W, C) uint8, zero as mid-grey 128.

    The contrast is symmetric: the `percentile` of the absolute non-zero values becomes full contrast,
    in each picture (`scale="panel"`) or over all of them (`"shared"`), so signs can be compared.

    Raises:
        DeconvvizValueError: an unknown scale, or a percentile outside 0 < p <= 100.
    """
    if scale not in ("panel", "shared"):
        raise DeconvvizValueError(f"scale {scale!r} is unknown; allowed: 'panel', 'shared'")
    if not 0 < percentile <= 100:
        raise DeconvvizValueError(f"percentile {percentile} is not in 0 < p <= 100")
    values = pixels.detach().to("cpu", torch.float64).permute(0, 2, 3, 1).numpy()
    if scale == "shared":
        limits = np.full(len(values), full_contrast(values, percentile))
    else:
        limits = np.array([full_contrast(panel, percentile) for panel in values])
    return in_grey(values, limits.reshape(-1, 1, 1, 1))


def in_grey(values: NDArray[np.float64], limits: NDArray[np.float64] | float) -> NDArray[np.uint8]:
    """Return signed values as shades, uint8: zero as mid-grey 128, `limits` and beyond as black and white."""
    grey: NDArray[np.uint8] = np.clip(np.rint(128 + 127 * (values / limits)), 0, 255).astype(np.uint8)
    return grey


def full_contrast(values: NDArray[np.float64], percentile: float) -> float:
    """Return which value becomes full contrast: the `percentile` of the absolute values that are not zero."""
    # Over the non-zero values: most of a projection is exactly zero outside the receptive field.
    magnitudes = np.abs(values[values != 0])
    magnitudes = magnitudes[np.isfinite(magnitudes)]
    return float(np.percentile(magnitudes, percentile)) if magnitudes.size else 1.0


def numbers(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor as an array; half types as float32."""
    tensor = tensor.detach().cpu()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    return np.asarray(tensor.numpy())


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    one, two = a.detach().cpu(), b.detach().cpu()
    # NaN stands for "cannot be said", and says the same twice.
    return bool(((one == two) | (one.isnan() & two.isnan())).all())
