"""A network with what one has to know to use it: what every analysis asks of a model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from deconvviz.card import Card
from deconvviz.data.images import read_image
from deconvviz.engine.layers import FoundLayer, find_layer, record_to
from deconvviz.engine.passes import fitting, unwrap
from deconvviz.engine.per_module import PerModule
from deconvviz.engine.readout import Readout, read_out
from deconvviz.engine.recording import Recording
from deconvviz.engine.rules.base import Policy
from deconvviz.errors import (
    DeconvvizTypeError,
    DeconvvizValueError,
    ImageError,
    UnknownNameError,
    check_choice,
    suggest,
)
from deconvviz.network.finite import check_weights, first_nonfinite
from deconvviz.network.labels import Labels, class_names
from deconvviz.network.layers import Layers, layers, own_channels
from deconvviz.network.preprocessing import (
    CROPS,
    INTERPOLATIONS,
    Picture,
    Pictures,
    listed,
    normalised,
    per_channel,
    shown_region,
)
from deconvviz.network.seen import Seen
from deconvviz.network.transform import PictureTransform

# A class, by index or label, and of a dense output where: (class, (row, column)) or (class, mask); None: the top class.
Target: TypeAlias = int | str | tuple[int | str | None, Any] | None

# The hash of a module's weights, under the state of its parameters and buffers.
_HASHES: PerModule[str] = PerModule()


def _pair(input_size: int | Sequence[int]) -> tuple[int, int]:
    sides = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if len(sides) != 2 or not all(isinstance(s, int) and s > 0 for s in sides):
        raise DeconvvizValueError(f"input_size is {input_size!r}; allowed: a positive int or a pair (height, width)")
    return sides[0], sides[1]


def _placed_otherwise(
    card: Card,
    input_size: int | Sequence[int] | None,
    resize: int | Sequence[int] | None,
    crop: str | None,
    interpolation: str | None,
) -> Card:
    """`card` with another size, resizing or crop."""
    size = card.input_size if input_size is None else _pair(input_size)
    by = [new / old for new, old in zip(size, card.input_size, strict=True)]
    own = card.resize
    if isinstance(own, int):
        own = round(own * max(size) / max(card.input_size))
    elif own is not None:
        own = (round(own[0] * by[0]), round(own[1] * by[1]))
    if crop not in ("own", card.crop):
        own = max(size) if crop == "center" else None
    return replace(
        card, input_size=size, resize=_resize(resize, own), crop=card.crop if crop == "own" else crop,
        interpolation=interpolation or card.interpolation,
    )  # fmt: skip


def _resize(given: int | Sequence[int] | None, default: int | tuple[int, int] | None) -> int | tuple[int, int] | None:
    if given is None:
        return default
    sides = (given,) if isinstance(given, int) else tuple(given)
    if len(sides) not in (1, 2) or not all(isinstance(s, int) and s > 0 for s in sides):
        raise DeconvvizValueError(f"resize is {given!r}; allowed: a positive int or a pair (height, width)")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _channels(name: str, value: float | Sequence[float] | None) -> tuple[float, ...]:
    if value is None:
        return ()
    try:
        return (float(value),) if isinstance(value, int | float) else tuple(float(v) for v in value)
    except (TypeError, ValueError):
        raise DeconvvizTypeError(f"{name} is {value!r}; allowed: one number per input channel") from None


class Network:
    """A `nn.Module` with its card.

    `input_size`: an int or (height, width). `mean`, `std`: one number per channel, for pixels in 0..1; without them
    only preprocessed tensors are accepted. `labels`: class names in output order, {0: name}, {name: 0}, or the path of
    a file of them (a name a line, or JSON). `aliases`: short name to module path. `output`: which of several outputs
    holds the logits: the key of a dictionary, the number in a tuple. `card` states all of it at once, and then the
    others are not given. The module's mode is left alone.

    How a picture becomes the input is said by `resize`, `crop` and `interpolation` ("bilinear", "bicubic" or another
    of Pillow's):

    - `crop="center"`: the shorter side to `resize` (None: the input's longer side), the middle cut out. Classifiers of
      ImageNet often take more around it, such as `resize=256` for 224: ask the model's makers, or give their transform.
    - `crop="letterbox"`: the whole picture inside the input, framed in the mean colour.
    - `crop=None`: nothing is cut off; the whole picture squeezed into the input, or its shorter side to `resize`.

    `resize` may be a pair (height, width), too. Or `transform` does it all: torchvision's (`weights.transforms()`),
    timm's, any callable that makes a float tensor (C, H, W) of a PIL image. It is used as it is; input size, mean and
    std are read out of it, or given where it has none that could be read.

    Weights, pictures and tensors that are not finite are errors that say which, unless `allow_nonfinite`.

    Raises `DeconvvizValueError`, `DeconvvizTypeError`, `UnknownNameError` or `WeightsError` for what does not fit.

    >>> module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    >>> net = deconvviz.Network(module, 64, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), labels=["cat", "dog"])
    >>> net.preprocess("image.jpg").shape
    torch.Size([1, 3, 64, 64])
    >>> from torchvision.models import ResNet50_Weights
    >>> deconvviz.Network(module, transform=ResNet50_Weights.IMAGENET1K_V2.transforms()).card.resize
    232
    """

    def __init__(
        self,
        module: nn.Module,
        input_size: int | Sequence[int] = 224,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        labels: Labels | None = None,
        aliases: Mapping[str, str] | None = None,
        *,
        output: str | None = None,
        resize: int | Sequence[int] | None = None,
        crop: str | None = "center",
        interpolation: str = "bilinear",
        transform: Callable[[Any], Any] | None = None,
        card: Card | None = None,
        allow_nonfinite: bool = False,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise DeconvvizTypeError(f"module is a {type(module).__name__}; allowed: a torch.nn.Module")
        if card is not None and any(v is not None for v in (mean, std, labels, aliases, resize)):
            raise DeconvvizValueError("give either card or mean, std, resize, labels and aliases, not both")
        if transform is not None and (resize is not None or crop != "center" or interpolation != "bilinear"):
            raise DeconvvizValueError("give either transform or resize, crop and interpolation, not both")
        if card is None:
            size = _pair(input_size)
            check_choice("crop", crop, CROPS)
            card = Card(
                name=type(module).__name__,
                labels=class_names(labels),
                input_size=size,
                mean=_channels("mean", mean),
                std=_channels("std", std),
                aliases=dict(aliases or {}),
                resize=_resize(resize, max(size) if crop == "center" else None),
                crop=crop,
                interpolation=interpolation,
            )
        self.module = module
        self.card = card
        self.output = output
        # Which pictures its weights have learned from: None where that is not known.
        self.seen: Seen | None = None
        self.allow_nonfinite = allow_nonfinite
        # What makes inputs in the card's place, and whether the card says all the same where they lie.
        self._transform: PictureTransform | None = None
        self._placed = True
        self._bare = False
        self._check()
        if transform is not None:
            self._take_transform(transform, card.mean, card.std)
        if not allow_nonfinite:
            check_weights(module)

    def _take_transform(self, transform: Callable[[Any], Any], mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Make inputs by `transform`; `mean` and `std` are stated beside it, where its own cannot be read."""
        self._transform = PictureTransform(transform, own_channels(self.module, self.card.input_size))
        self.card, self._placed = self._transform.described(self.card)
        if mean:
            self.card = replace(self.card, mean=mean, std=std)
        self._check()

    def carried(self, module: nn.Module, **facts: Any) -> Network:
        """A Network of another module with this one's card, but for `facts` of it, and preprocessing."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__ | {"seen": None, "_bare": False})
        other.module, other.card = module, replace(self.card, **facts)
        other._check()
        return other

    def adjusted(
        self,
        *,
        input_size: int | Sequence[int] | None = None,
        resize: int | Sequence[int] | None = None,
        crop: str | None = "own",
        interpolation: str | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        labels: Labels | None = None,
        transform: Callable[[Any], Any] | None = None,
    ) -> Network:
        """A Network of the same module whose preprocessing or labels differ in what is given; see `Network` for each.

        Another `input_size` alone takes `resize` with it in proportion. Raises the errors of `Network`, and
        `DeconvvizValueError` for a part of a transform that cannot be read.

        >>> net = deconvviz.load("zfnet").adjusted(input_size=112)
        >>> net.card.resize, net.preprocess("image.jpg").shape
        (128, torch.Size([1, 3, 112, 112]))
        """
        card = self.card if labels is None else replace(self.card, labels=class_names(labels))
        colours = _channels("mean", mean), _channels("std", std)
        card = replace(card, mean=colours[0] or card.mean, std=colours[1] or card.std)
        moved = crop != "own" or any(value is not None for value in (input_size, resize, interpolation))
        if moved:
            card = _placed_otherwise(card, input_size, resize, crop, interpolation)
        other = self.carried(self.module)
        other.seen, other.card = self.seen, card
        if transform is not None:
            other._take_transform(transform, *colours)
        elif self._transform is not None and (moved or any(colours)):
            if not self._placed and (resize is None or input_size is None):
                raise DeconvvizValueError(
                    f"the transform of {card.name} cannot be taken apart; give input_size, resize, mean and std, or "
                    "another transform"
                )
            other._transform, other._placed = None, True
        other._check()
        return other

    def _check(self) -> None:
        card = self.card
        if len(card.mean) != len(card.std):
            raise DeconvvizValueError(
                f"mean has {len(card.mean)} and std {len(card.std)} values; allowed: one of each per channel"
            )
        if any(not s > 0 for s in card.std):
            raise DeconvvizValueError(f"std is {card.std}; allowed: positive numbers")
        if len(card.mean) not in (0, 1, 3):
            raise DeconvvizValueError(f"mean has {len(card.mean)} values; allowed: 1 (grey) or 3 (RGB)")
        check_choice("crop", card.crop, CROPS)
        check_choice("interpolation", card.interpolation, INTERPOLATIONS)
        paths = [path for path, _ in self.module.named_modules()]
        for alias, path in card.aliases.items():
            if path not in paths:
                raise UnknownNameError(f"alias '{alias}' names no module: '{path}'{suggest(path, paths)}")

    @classmethod
    def of(cls, model: object) -> Network:
        """A Network as it is, a bare `nn.Module` as one with an empty card, anything else as a `DeconvvizTypeError`."""
        if isinstance(model, Network):
            return model
        if not isinstance(model, nn.Module):
            raise DeconvvizTypeError(f"model is a {type(model).__name__}; allowed: a Network or a torch.nn.Module")
        # Weights are not looked through at every call: what a bare module is given is the caller's.
        net = cls(model, allow_nonfinite=True)
        net.allow_nonfinite, net._bare = False, True
        return net

    def __repr__(self) -> str:
        return f"Network({self.card.name}, input {self.card.input_size})"

    @property
    def plain(self) -> nn.Module:
        """The module inside DataParallel, DistributedDataParallel or `torch.compile`; see `unwrap` for its errors."""
        return unwrap(self.module)

    # Pictures ---------------------------------------------------------------------------------------------------------

    def preprocess(self, image: Picture) -> Tensor:
        """The input (1, C, H, W) for a path, a PIL image, an array (H, W, C) uint8, or a preprocessed tensor.

        A picture goes through the network's own transform, or is resized, cropped, scaled and normalised as the card
        says (`Card`); a tensor (C, H, W) or (1, C, H, W) only goes to the module's device and dtype.

        Raises `DeconvvizTypeError` for other types and dtypes, `DeconvvizValueError` for other shapes, or for a picture
        without mean and std, `ImageError` for a file that cannot be read, or what is not finite.

        >>> deconvviz.load("zfnet").preprocess("image.jpg").shape
        torch.Size([1, 3, 224, 224])
        """
        if isinstance(image, Tensor):
            return self._finite(self._take_tensor(image))
        if self._bare:
            raise DeconvvizTypeError(
                f"image is a {type(image).__name__}, and a bare module takes only preprocessed tensors: "
                "wrap it in Network with mean and std"
            )
        if not isinstance(image, str | os.PathLike | Image.Image | np.ndarray):
            raise DeconvvizTypeError(
                f"image is a {type(image).__name__}; allowed: a path, a PIL image, a uint8 array, a float tensor"
            )
        self.check_takes_pictures()
        picture = read_image(image, self.allow_nonfinite)
        made = self._transform(picture) if self._transform is not None else normalised(picture, self.card)
        return self._finite(fitting(self.module, made))

    def _finite(self, x: Tensor) -> Tensor:
        found = None if self.allow_nonfinite else first_nonfinite(x)
        if found is not None:
            raise ImageError(f"the input has values that are not finite, the first {found}; see allow_nonfinite")
        return x

    def _take_tensor(self, image: Tensor) -> Tensor:
        if not image.is_floating_point():
            raise DeconvvizTypeError(
                f"image is a {image.dtype} tensor; allowed: a preprocessed float tensor, or (wrap the module in "
                "Network with mean and std) a path or PIL image"
            )
        x = image[None] if image.dim() == 3 else image
        if x.dim() != 4 or x.shape[0] != 1:
            raise DeconvvizValueError(f"image has shape {tuple(image.shape)}; allowed: (C, H, W) or (1, C, H, W)")
        if self.card.mean and x.shape[1] != self.card.channels:
            raise DeconvvizValueError(f"image has {x.shape[1]} channels; {self.card.name} takes {self.card.channels}")
        # A copy and no more than a tensor: a result must not change with what its user does to the image afterwards.
        return fitting(self.module, x.detach().as_subclass(Tensor).clone())

    def check_takes_pictures(self) -> None:
        """Raise `DeconvvizValueError` for a network that cannot make an input of a picture."""
        if self._transform is None:
            self.check_normalises()

    def check_normalises(self) -> None:
        """Raise `DeconvvizValueError` for a network without mean and std, whose inputs cannot be shown as pixels."""
        if self.card.mean:
            return
        if self._transform is not None:
            raise DeconvvizValueError("mean and std cannot be read out of this transform; give them beside it")
        raise DeconvvizValueError(
            "this network has no mean and std: wrap the module in Network with mean and std, load(…, mean=, std=), or "
            "give --mean and --std on the command line"
        )

    def shown_region(self, picture: tuple[int, int]) -> tuple[float, float, float, float]:
        """The part of a picture (height, width) that its input shows: top, left, bottom, right in its pixels.

        Raises `DeconvvizValueError` where a transform does not say it.

        >>> deconvviz.load("zfnet").shown_region((512, 256))
        (144.0, 16.0, 368.0, 240.0)
        """
        if not self._placed:
            raise DeconvvizValueError(
                "where the input lies in the picture cannot be read out of this transform; give resize= and crop=, or "
                "preprocessed tensors"
            )
        return shown_region(picture, self.card)

    def inputs(self, images: Pictures) -> tuple[Tensor, tuple[str, ...]]:
        """The inputs (N, C, H, W) for one or several pictures, and a name for each: its file's, or "picture 1", ….

        Several are a list, a folder, a torch data set or its loader, or a tensor (N, C, H, W). Raises the errors of
        `preprocess`, and `DeconvvizValueError` for none or for inputs of several sizes.
        """
        given, names = listed(images, self.card.channels or 3)
        if not len(given):
            raise DeconvvizValueError("images is empty; allowed: one picture or more")
        inputs = [self.preprocess(image) for image in given]
        check_sizes(inputs)
        return torch.cat(inputs), names

    def denormalise(self, x: Tensor) -> Tensor:
        """Pixels in 0..1, clamped, of inputs (..., C, H, W): the inverse of the normalisation.

        >>> net = deconvviz.load("zfnet")
        >>> pixels = net.denormalise(net.preprocess("image.jpg"))
        >>> bool(pixels.min() >= 0 and pixels.max() <= 1)
        True
        """
        self.check_normalises()
        low, high = self.card.value_range
        mean, std = per_channel(self.card.mean).to(x), per_channel(self.card.std).to(x)
        return ((x * std + mean - low) / (high - low)).clamp(0, 1)

    # Layers and classes -----------------------------------------------------------------------------------------------

    def layers(self, input_size: int | tuple[int, int] | None = None) -> Layers:
        """Name, aliases, operator, maps, size, stride and receptive field of every layer: a list, in notebooks a table.

        >>> first = deconvviz.load("zfnet").layers()[0]
        >>> first.name, first.maps, first.size, first.stride, first.receptive_field
        ('conv1', 96, (110, 110), (2, 2), (7, 7))
        """
        size = self.card.input_size if input_size is None else input_size
        return layers(self.module, self.card, (size, size) if isinstance(size, int) else size)

    def numbered(self, give: str = "layers") -> list[str]:
        """The aliases that are numbers, in their order; if there are none, an error that says what to `give`."""
        found = sorted((alias for alias in self.card.aliases if alias.isdecimal()), key=int)
        if not found:
            raise DeconvvizValueError(f"this model has no numbered aliases: give {give}")
        return found

    def find_layer(self, rec: Recording, layer: str | nn.Module) -> FoundLayer:
        """The layer in a recording: an alias, a module path (`path#i` for its i-th call) or a module."""
        return find_layer(rec, self.plain, layer, self.card.aliases)

    def record_to(
        self, x: Tensor, layer: str | nn.Module, policy: Policy | None = None
    ) -> tuple[Recording, FoundLayer]:
        """A recording of the input `x` (1, C, H, W) up to `layer`, and where that is.

        With a `policy` (method, overlap, attention) it may keep no more than a walk of that reads.
        """
        return record_to(self.module, x, layer, self.card.aliases, policy)

    def class_number(self, target: int | str | None, classes: int, own: int) -> int:
        """The class that `target` (None, a label, an index) means; `own` is the model's own top class."""
        if target is None:
            return own
        if isinstance(target, str):
            labels = list(self.card.labels)
            if target not in labels:
                raise UnknownNameError(f"target '{target}' is not a label of this model{suggest(target, labels)}")
            return labels.index(target)
        if isinstance(target, bool) or not isinstance(target, int) or not 0 <= target < classes:
            raise DeconvvizValueError(f"target is {target!r}; allowed: 0 to {classes - 1}, or a label")
        return target

    def read_out(
        self, rec: Recording, what: str, target: Target = None, output: str | None = None
    ) -> tuple[Readout, int]:
        """How class scores are read from a recording, and the number of the class that `target` means.

        `target`: a class (an index or label), None for the model's own top class; for a dense output also (class,
        where), see `deconvviz.engine.readout`. `output` names one of several outputs.
        """
        label, where = target if isinstance(target, tuple) and len(target) == 2 else (target, None)
        readout = read_out(rec, what, output or self.output, where)
        scores = readout.scores(rec.values[readout.value])
        names, classes = len(self.card.labels), scores.shape[1]
        if names not in (0, classes):
            raise DeconvvizValueError(f"labels has {names} names, and this output {classes} classes: give one for each")
        return readout, self.class_number(label, scores.shape[1], int(scores.argmax()))

    # What results say of it -------------------------------------------------------------------------------------------

    def weights_hash(self) -> str:
        """SHA-256 over names, dtypes, shapes and bytes of the state dict, as hex."""
        digest = hashlib.sha256()
        for key, value in sorted(self.module.state_dict().items()):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(memoryview(flat.view(torch.uint8).numpy()))
        return digest.hexdigest()

    def _known_hash(self) -> str:
        """`weights_hash()`, computed again only after a parameter or buffer has changed."""
        state = tuple((t.data_ptr(), t._version) for t in (*self.module.parameters(), *self.module.buffers()))
        known = _HASHES.of(self.module)
        found = known.get(state)
        if found is None:
            found = self.weights_hash()
            known.clear()  # another thread may do the same
            known[state] = found
        return found

    @property
    def weights_source(self) -> str:
        """Where the weights come from, in words: `name: source`, or "given"."""
        weights = self.card.weights
        return f"{weights.name}: {weights.source}" if weights is not None else "given"

    def preparation(self) -> dict[str, Any]:
        """How inputs are made of pictures, as plain data: what must be the same for two runs to see the same.

        >>> deconvviz.load("zfnet").preparation()["resize"]
        256
        """
        card = self.card
        resize = list(card.resize) if isinstance(card.resize, tuple) else card.resize
        found: dict[str, Any] = {
            "input_size": list(card.input_size), "mean": list(card.mean), "std": list(card.std), "resize": resize,
            "value_range": list(card.value_range),
        }  # fmt: skip
        # What is as it always was goes unsaid: stores were made before it could be otherwise.
        if (card.crop, card.interpolation) != ("center", "bilinear"):
            found |= {"crop": card.crop, "interpolation": card.interpolation}
        if self._transform is not None:
            found["transform"] = self._transform.text
        return found

    def facts(self) -> dict[str, str]:
        """What a result says of its model: name, weights, their hash, versions."""
        from deconvviz import __version__

        versions = {"deconvviz": __version__, "torch": torch.__version__}
        if self._bare:
            return {"name": type(self.plain).__name__, **versions}
        return {"name": self.card.name, "weights": self.weights_source, "sha256": self._known_hash(), **versions}

    def provenance(self) -> dict[str, Any]:
        """What results in pixels keep of the model, as their arguments: `model`, and `mean` and `std` of the input."""
        return {"mean": self.card.mean, "std": self.card.std, "model": self.facts()}


def check_sizes(inputs: Sequence[Tensor]) -> None:
    """Raise `DeconvvizValueError` for inputs (1, C, H, W) of several sizes."""
    sizes = list(dict.fromkeys(tuple(x.shape[1:]) for x in inputs))
    if len(sizes) > 1:
        raise DeconvvizValueError(f"the pictures have inputs of sizes {sizes[0]} and {sizes[1]}; allowed: one size")
