"""A transform of the user's, or of a model's makers: used as it is, and what it does read out of it.

Torchvision's (both generations, presets too), timm's, and any callable that makes a float tensor of a picture. What
must be known of it besides, to show pixels again, is measured on pictures of one colour; where the input lies in the
picture is read from the steps that are known, and believed if a card that says the same makes the same input.
"""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from deconvviz.card import Card
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, DeconvvizWarning, in_one_line
from deconvviz.network.preprocessing import INTERPOLATIONS, normalised, pixels_of

# Pixels that a card and a transform may differ by on average (of 1) if they are to mean the same region: a shift by
# one pixel of the pattern below is more.
_ALIKE = 0.004
_EXACT = 1e-4


class PictureTransform:
    """`call` as a function from an upright picture to the input (1, C, H, W); `channels` 1 gives it grey pictures.

    Raises `DeconvvizTypeError` if it makes no float tensor (C, H, W), and `DeconvvizValueError` if it is random.
    """

    def __init__(self, call: Callable[[Any], Any], channels: int) -> None:
        if not callable(call):
            raise DeconvvizTypeError(f"transform is a {type(call).__name__}; allowed: a callable that takes a picture")
        self.call = call
        self.channels = channels
        # Whether it takes tensors (C, H, W) uint8 and no PIL images, as torchvision's second generation may.
        self.takes_tensors = False
        self._probe()

    def __call__(self, picture: Image.Image) -> Tensor:
        """The input (1, C, H, W) of an upright RGB picture."""
        return self._checked(self._call(picture))

    @property
    def text(self) -> str:
        """What it is, in words that are the same for an equal one."""
        function = getattr(self.call, "__qualname__", None)
        said = f"{self.call.__module__}.{function}" if function is not None else repr(self.call)
        return re.sub(r" at 0x[0-9a-f]+", "", " ".join(said.split()))

    def _call(self, picture: Image.Image) -> Any:
        shown = picture.convert("L" if self.channels == 1 else "RGB")
        try:
            return self.call(pixels_of(shown) if self.takes_tensors else shown)
        except Exception as error:
            # What it does with a picture is not ours to know, and it is one error for all.
            raise DeconvvizTypeError(f"the transform fails on a picture: {in_one_line(error)}") from error

    def _checked(self, made: Any) -> Tensor:
        x = made[None] if isinstance(made, Tensor) and made.dim() == 3 else made
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() != 4 or x.shape[0] != 1:
            what = f"a tensor {tuple(made.shape)} of {made.dtype}" if isinstance(made, Tensor) else type(made).__name__
            raise DeconvvizTypeError(f"the transform makes {what}; allowed: a float tensor (C, H, W)")
        return x.detach().as_subclass(Tensor)

    def _probe(self) -> None:
        """Try it: what it takes, and whether it draws random numbers; the generators are left as they were."""
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        try:
            try:
                self(PATTERN)
            except DeconvvizTypeError:
                self.takes_tensors = True
                try:
                    self(PATTERN)
                except DeconvvizTypeError:
                    self.takes_tensors = False
                    self(PATTERN)  # its words about a picture
            drawn = [
                random.getstate() != before[0],
                any(not np.array_equal(a, b) for a, b in zip(np.random.get_state(), before[1], strict=True)),
                not torch.equal(torch.get_rng_state(), before[2]),
            ]
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])
        if any(drawn):
            raise DeconvvizValueError("the transform is random; allowed: the one that pictures are tested with")

    def described(self, card: Card) -> tuple[Card, bool]:
        """`card` with what the transform does, and whether it says where the input lies in a picture.

        Without a linear relation of pixels to input, `mean` and `std` are empty.
        """
        height, width = self(Image.new("RGB", (256, 256))).shape[2:]
        mean, std = self._colours()
        if len(mean) == 3:
            self._say_if_mixed(mean, std)
        card = replace(card, input_size=(int(height), int(width)), mean=mean, std=std, value_range=(0.0, 1.0))
        geometry = read_geometry(self.call)
        if not mean or geometry is None:
            return card, False
        read = replace(card, **geometry)
        if read.crop is None and isinstance(read.resize, tuple):
            read = replace(read, input_size=read.resize)
        own, made = normalised(PATTERN, read), self(PATTERN).float()
        if own.shape != made.shape:
            return card, False
        pixels = ((own - made) * torch.tensor(std).view(1, -1, 1, 1)).abs()
        return (read, True) if bool(pixels.mean() < _ALIKE) else (card, False)

    def _colours(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std that turn pixels in 0..1 into the input; empty if that is no linear relation."""
        levels = (0, 51, 255)
        dark, middle, light = (self._middle(level, level, level).double() for level in levels)
        step = light - dark
        if not bool((step > 0).all()) or not bool(torch.allclose(middle, dark + 0.2 * step, rtol=0, atol=1e-3)):
            return (), ()
        mean, std = -dark / step, 1 / step
        for stated_mean, stated_std in stated_colours(self.call):
            for scale in (1.0, 255.0):  # for pixels in 0..1 or in 0..255
                m, s = (_spread(v, len(mean)) / scale for v in (stated_mean, stated_std))
                if m.shape == mean.shape and s.shape == std.shape and _near(m, mean) and _near(s, std):
                    return _plain(m), _plain(s)
        return _plain(mean, 6), _plain(std, 6)

    def _say_if_mixed(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """A warning where the input's channels are not red, green and blue in this order, as figures show them."""
        colour = (204, 102, 51)
        seen = 255 * (self._middle(*colour).double() * torch.tensor(std) + torch.tensor(mean))
        if bool((seen - torch.tensor(colour)).abs().max() < 2):
            return
        order = [min(range(3), key=lambda i: abs(colour[i] - float(value))) for value in seen]
        said = "-".join("RGB"[i] for i in order) if sorted(order) == [0, 1, 2] else "mixtures of red, green and blue"
        warnings.warn(
            f"the transform gives the channels as {said}; figures show them as red, green and blue",
            DeconvvizWarning, stacklevel=5,
        )  # fmt: skip

    def _middle(self, red: int, green: int, blue: int) -> Tensor:
        x = self(Image.new("RGB", (64, 64), (red, green, blue)))[0]
        return x[:, x.shape[1] // 2, x.shape[2] // 2]


def _pattern() -> Image.Image:
    """A picture whose columns and rows all differ, to compare what is seen of it; wider than high."""
    rows, columns = np.mgrid[0:96, 0:144]
    waves = [np.sin(columns / 9 + rows / 23), np.cos(rows / 7 - columns / 31), np.sin((rows + columns) / 13)]
    return Image.fromarray(np.stack([np.rint(127.5 + 120 * wave) for wave in waves], -1).astype(np.uint8))


PATTERN = _pattern()


def _plain(values: Tensor, digits: int = 7) -> tuple[float, ...]:
    """Without the digits that are noise of single precision: 0.485 is stated as 0.48500001, measured with less."""
    return tuple(round(v, digits) + 0.0 for v in values.tolist())  # + 0.0: no -0.0


def _near(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() < _EXACT)


def _spread(values: Sequence[float], channels: int) -> Tensor:
    x = torch.tensor(values, dtype=torch.float64)
    return x.expand(channels) if len(x) == 1 else x


# Steps ----------------------------------------------------------------------------------------------------------------


def steps(transform: object) -> Iterator[Any]:
    """The single steps of a transform, in their order."""
    inner = getattr(transform, "transforms", None)
    if isinstance(transform, nn.Sequential):
        inner = list(transform)
    if isinstance(inner, Sequence) and not isinstance(inner, str):
        for part in inner:
            yield from steps(part)
    else:
        yield transform


def stated_colours(transform: object) -> Iterator[tuple[list[float], list[float]]]:
    """Every `mean` and `std` that a step states."""
    for step in steps(transform):
        found = [getattr(step, name, None) for name in ("mean", "std")]
        try:
            mean, std = ([float(v) for v in torch.as_tensor(x, dtype=torch.float64).reshape(-1)] for x in found)
        except (TypeError, ValueError, RuntimeError):
            continue
        if mean and std:
            yield mean, std


# Steps that move no pixel.
_STILL = {
    "ToTensor", "PILToTensor", "MaybeToTensor", "MaybePILToTensor", "ToImage", "ToDtype", "ConvertImageDtype",
    "Normalize", "Grayscale", "RGB", "ToPureTensor", "ToPILImage", "Identity", "Lambda", "function",
}  # fmt: skip


def read_geometry(transform: object) -> dict[str, Any] | None:
    """`input_size`, `resize`, `crop` and `interpolation` of a card, as far as the steps of a transform say them.

    None if there is a step that is not known, or that a card cannot say. Functions are taken to move no pixel: whoever
    asks compares.
    """
    found: dict[str, Any] = {"crop": None, "resize": None}
    for step in steps(transform):
        if type(step).__name__ in _STILL:
            continue
        read = getattr(step, "geometry", None)
        known = _READ.get(type(step).__name__)
        more = read() if read is not None else known(step) if known is not None else None
        if more is None or "input_size" in found:  # after a crop nothing may move
            return None
        found.update({"crop": "center"} if "input_size" in more and found["crop"] is None else {}, **more)
    return found if found["resize"] is not None else None


def _pair(size: Any) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, int) else tuple(size)
    return (int(sides[0]), int(sides[-1]))


def _interpolation(step: Any) -> str:
    """Its name in Pillow, of an enum or as it is."""
    given = getattr(step, "interpolation", "bilinear")
    name = str(getattr(given, "value", given)).lower()
    return name if name in INTERPOLATIONS else "bilinear"


def _resize(step: Any) -> dict[str, Any] | None:
    if getattr(step, "max_size", None) is not None or step.size is None:
        return None
    size = step.size if isinstance(step.size, int) else tuple(step.size)
    side = size if isinstance(size, int) else size[0] if len(size) == 1 else _pair(size)
    return {"resize": side, "interpolation": _interpolation(step)}


def _keep_ratio(step: Any) -> dict[str, Any] | None:
    if step.longest == 1:
        return {"resize": _pair(step.size), "interpolation": _interpolation(step), "crop": "letterbox"}
    if step.longest == 0 and step.size[0] == step.size[1]:
        return {"resize": step.size[0], "interpolation": _interpolation(step)}
    return None


def _preset(step: Any) -> dict[str, Any] | None:
    """torchvision's presets of its classifiers."""
    side = step.resize_size[0] if len(step.resize_size) == 1 else _pair(step.resize_size)
    crop = {"input_size": _pair(step.crop_size)} if hasattr(step, "crop_size") else {}
    return {"resize": side, "interpolation": _interpolation(step), **crop}


_READ: dict[str, Callable[[Any], dict[str, Any] | None]] = {
    "Resize": _resize,
    "ResizeKeepRatio": _keep_ratio,
    "CenterCrop": lambda step: {"input_size": _pair(step.size)},
    "CenterCropOrPad": lambda step: {"input_size": _pair(step.size)},
    "ImageClassification": _preset,
    "SemanticSegmentation": _preset,
}
