"""A network with what one has to know to use it (`Network`), and the way to get one (`load`)."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deconvviz.card import Card, Weights
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnknownNameError, WeightsError, suggest
from deconvviz.models import registry

if TYPE_CHECKING:
    from PIL import Image

    from deconvviz.engine.geometry import Layer


def _pair(input_size: int | Sequence[int]) -> tuple[int, int]:
    sides = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if len(sides) != 2 or not all(isinstance(s, int) and s > 0 for s in sides):
        raise DeconvvizValueError(f"input_size is {input_size!r}; allowed: a positive int or a pair (height, width)")
    return sides[0], sides[1]


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
    only preprocessed tensors are accepted. `labels`: class names in output order. `aliases`: short name to module
    path. `card` states all of it at once, and then the others are not given. The module's mode is left alone.

    Raises `DeconvvizValueError`, `DeconvvizTypeError` or `UnknownNameError` for what does not fit.
    """

    def __init__(
        self,
        module: nn.Module,
        input_size: int | Sequence[int] = 224,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        labels: Sequence[str] | None = None,
        aliases: Mapping[str, str] | None = None,
        *,
        card: Card | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise DeconvvizTypeError(f"module is a {type(module).__name__}; allowed: a torch.nn.Module")
        if card is not None and any(v is not None for v in (mean, std, labels, aliases)):
            raise DeconvvizValueError("give either card or mean, std, labels and aliases, not both")
        if card is None:
            size = _pair(input_size)
            card = Card(
                name=type(module).__name__,
                labels=tuple(labels or ()),
                input_size=size,
                mean=_channels("mean", mean),
                std=_channels("std", std),
                aliases=dict(aliases or {}),
                resize=max(size),
            )
        self.module = module
        self.card = card
        self._check()

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
        paths = [path for path, _ in self.module.named_modules()]
        for alias, path in card.aliases.items():
            if path not in paths:
                raise UnknownNameError(f"alias '{alias}' names no module: '{path}'{suggest(path, paths)}")

    def __repr__(self) -> str:
        return f"Network({self.card.name}, input {self.card.input_size})"

    def _like(self, otherwise: Tensor) -> Tensor:
        """A value with the device and dtype of the module: of its parameters, its buffers, or `otherwise`."""
        own = itertools.chain(self.module.parameters(), self.module.buffers())
        return next((t for t in own if t.is_floating_point()), otherwise)

    def preprocess(self, image: str | os.PathLike[str] | Image.Image | Tensor) -> Tensor:
        """The input (1, C, H, W) for a path, a PIL image, or a preprocessed tensor (C, H, W) or (1, C, H, W).

        A picture is resized (shorter side to `card.resize`, or straight to the input size if that is None), cropped
        at the centre, scaled to `card.value_range` and normalised; a tensor only goes to the module's device and dtype.

        Raises `DeconvvizTypeError` for other types and dtypes, `DeconvvizValueError` for other shapes, or for a picture
        without mean and std, `ImageError` for a file that cannot be read.
        """
        if isinstance(image, Tensor):
            return self._take_tensor(image)
        from PIL import Image as PILImage

        if not isinstance(image, str | os.PathLike | PILImage.Image):
            raise DeconvvizTypeError(f"image is a {type(image).__name__}; allowed: a path, a PIL image, a float tensor")
        if not self.card.mean:
            raise DeconvvizValueError("this network has no mean and std; wrap the module in Network with mean and std")
        from deconvviz.data.images import read_image

        picture = _fit(read_image(image), self.card.resize, self.card.input_size)
        picture = picture.convert("L" if self.card.channels == 1 else "RGB")
        size = (picture.height, picture.width, self.card.channels)
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).reshape(size)
        low, high = self.card.value_range
        x = pixels.permute(2, 0, 1).float().div(255) * (high - low) + low
        like = self._like(x)
        return ((x - self._column("mean")) / self._column("std"))[None].to(like.device, like.dtype)

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
        like = self._like(x)
        # A copy and no more than a tensor: a result must not change with what its user does to the image afterwards.
        return x.detach().as_subclass(Tensor).to(like.device, like.dtype, copy=True)

    def _column(self, which: str) -> Tensor:
        return torch.tensor(getattr(self.card, which), dtype=torch.float32)[:, None, None]

    def denormalise(self, x: Tensor) -> Tensor:
        """Pixels in 0..1, clamped, of inputs (..., C, H, W): the inverse of the normalisation."""
        if not self.card.mean:
            raise DeconvvizValueError("this network has no mean and std; wrap the module in Network with mean and std")
        low, high = self.card.value_range
        mean, std = self._column("mean").to(x), self._column("std").to(x)
        return ((x * std + mean - low) / (high - low)).clamp(0, 1)

    def layers(self, input_size: int | tuple[int, int] | None = None) -> list[Layer]:
        """Name, aliases, operator, maps, size, stride and receptive field of every layer."""
        from deconvviz.engine.geometry import (
            layers,  # geometry reads networks: the one import that would close a circle
        )

        return layers(self, input_size)

    def weights_hash(self) -> str:
        """SHA-256 over names, dtypes, shapes and bytes of the state dict, as hex."""
        digest = hashlib.sha256()
        for key, value in sorted(self.module.state_dict().items()):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(memoryview(flat.view(torch.uint8).numpy()))
        return digest.hexdigest()


def _fit(picture: Image.Image, resize: int | None, size: tuple[int, int]) -> Image.Image:
    """Resize (antialiased bilinear) and crop at the centre, with torchvision's rounding."""
    from PIL import Image as PILImage

    height, width = size
    if resize is None:
        return picture.resize((width, height), PILImage.Resampling.BILINEAR)
    short, long = sorted(picture.size)
    scaled = int(resize * long / short)
    if scaled > 16 * max(resize, *size):
        # A strip: cut it before scaling, or the scaled copy would not fit into memory.
        keep = short * 4
        left, top = max((picture.width - keep) // 2, 0), max((picture.height - keep) // 2, 0)
        box = (left, top, min(left + keep, picture.width), min(top + keep, picture.height))
        return _fit(picture.crop(box), resize, size)
    new = (resize, scaled) if picture.width <= picture.height else (scaled, resize)
    if new != picture.size:
        picture = picture.resize(new, PILImage.Resampling.BILINEAR)
    left, top = round((picture.width - width) / 2), round((picture.height - height) / 2)
    return picture.crop((left, top, left + width, top + height))


def shown_region(picture: tuple[int, int], card: Card) -> tuple[float, float, float, float]:
    """The part of a picture (height, width) that the input shows: top, left, bottom, right in the picture's pixels."""
    height, width = picture
    if card.resize is None:
        return 0.0, 0.0, float(height), float(width)
    short, long = sorted(picture)
    scaled = int(card.resize * long / short)
    if scaled > 16 * max(card.resize, *card.input_size):  # a strip, cut before scaling
        top, left = max((height - 4 * short) // 2, 0), max((width - 4 * short) // 2, 0)
        inner = shown_region((min(height, 4 * short), min(width, 4 * short)), card)
        return inner[0] + top, inner[1] + left, inner[2] + top, inner[3] + left
    new = (scaled, card.resize) if width <= height else (card.resize, scaled)
    ends = []
    for size, resized, kept in zip(picture, new, card.input_size, strict=True):
        start = round((resized - kept) / 2)
        ends.append((start * size / resized, (start + kept) * size / resized))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


def load(name: str, weights: str | os.PathLike[str] | None = None, *, seed: int = 0, **options: Any) -> Network:
    """The network `name` of the zoo, in eval mode.

    `weights`: "bundled" (ships with the project), "imagenet" (fetched once, hash checked), "random" (from `seed`), or
    the path of a .safetensors file or of a torch state dict. None takes "bundled" if there is one, else "imagenet".
    `options` go to the network (`classes`, `fc`, …).

    Raises `UnknownNameError` (a model, or a name of weights), `WeightsError` (missing, damaged or not
    matching, with the keys), `DeconvvizValueError`.
    """
    if name not in registry.names():
        raise UnknownNameError(f"unknown model '{name}'{suggest(name, registry.names())}")
    card = registry.card(name)
    source = os.fspath(weights) if weights is not None else _default(card)
    card = registry.card(name, source)
    if source == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = _build(name, options)
        chosen = Weights("random", f"random, seed {seed}", "none")
    else:
        state, facts, chosen = _find(name, card, source)
        options = {**facts.get("options", {}), **options}
        module = _build(name, options)
        adapt = registry.adapter(name)
        load_state(module, adapt(name, state) if adapt else state, chosen.location or source)
        if "labels" in facts:
            card = replace(card, labels=tuple(facts["labels"]))
    if options.get("classes", len(card.labels)) != len(card.labels):
        card = replace(card, labels=())
    return Network(module.eval(), card=replace(card, weights=chosen))


def _default(card: Card) -> str:
    known = [w.name for w in card.available]
    for choice in ("bundled", "imagenet"):
        if choice in known:
            return choice
    raise WeightsError(f"{card.name} has no trained weights of its own; give weights='random' or the path of a file")


def _build(name: str, options: Mapping[str, Any]) -> nn.Module:
    try:
        return registry.build(name, **options)
    except (TypeError, ValueError) as error:
        raise DeconvvizValueError(f"{name} cannot be built with {dict(options)}: {error}") from error
    except ImportError as error:
        raise DeconvvizValueError(f"{name} needs a package that is not installed: {error}") from error


def _find(name: str, card: Card, source: str) -> tuple[dict[str, Tensor], dict[str, Any], Weights]:
    """The state, the facts stored with it, and what the result says of its weights."""
    known = {w.name: w for w in card.available}
    if source in known:
        entry = known[source]
        path = registry.weights_path(name, source)
        if path is not None:
            state, facts = read_weights(path, entry.sha256)
            return state, facts, entry
        fetch = registry.fetcher(name)
        if fetch is None:
            raise WeightsError(f"no way to fetch the weights '{source}' of {name}")
        try:
            return fetch(name, source), {}, entry
        except (OSError, ValueError, ImportError) as error:
            raise WeightsError(str(error)) from error
    if not Path(source).exists():
        allowed = ", ".join([*known, "random"])
        near = suggest(source, [*known, "random"])
        kind = WeightsError if looks_like_a_path(source) else UnknownNameError
        raise kind(f"no weights '{source}' for {name}; allowed: {allowed}, or the path of a file{near}")
    state, facts = read_weights(Path(source))
    return state, facts, Weights("file", Path(source).name, "unknown", location=source)


def looks_like_a_path(source: str) -> bool:
    """Whether weights that are no file are meant as one, and not as a name."""
    return bool(Path(source).suffix) or len(Path(source).parts) > 1


def read_weights(path: Path, sha256: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dict and stored facts of a file; nothing is unpickled but tensors.

    The facts are the safetensors metadata `labels` (a JSON list), `options` (a JSON object: what the network is built
    with) and `model` (its name in the zoo). Half-precision tensors come back as float32. Raises `WeightsError`.
    """
    if not path.is_file():
        raise WeightsError(f"the weights file {path} is missing")
    if sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise WeightsError(f"{path} is damaged: its SHA-256 is not {sha256}")
    facts: dict[str, Any] = {}
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                stored = file.metadata() or {}
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
            facts = {key: json.loads(stored[key]) for key in ("labels", "options", "model") if key in stored}
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's own words for what it will not unpickle tell how to unpickle it all the same.
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        why = "" if type(error).__name__ == "UnpicklingError" else f": {line}"
        raise WeightsError(f"{path} is neither safetensors nor a plain state dict{why}") from error
    return _plain(state, path), facts


def _plain(state: Any, path: Path) -> dict[str, Tensor]:
    """Tensors by key, out of the usual wrappings of checkpoints."""
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path} holds no state dict (a mapping of names to tensors)")
    if all(key.startswith("module.") for key in state):  # saved from DataParallel
        state = {key.removeprefix("module."): value for key, value in state.items()}
    halves = (torch.float16, torch.bfloat16)
    return {key: value.float() if value.dtype in halves else value for key, value in state.items()}


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` into `module`; raises `WeightsError` that lists the keys that do not match."""
    own = module.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in own]
    shapes = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(v.shape)}"
        for k, v in own.items()
        if k in state and state[k].shape != v.shape
    ]
    parts = [("missing", missing), ("unexpected", extra), ("wrong shape", shapes)]
    said = "; ".join(f"{what}: {', '.join(keys)}" for what, keys in parts if keys)
    if said:
        raise WeightsError(f"{source} does not match {type(module).__name__}: {said}")
    module.load_state_dict(state, strict=False)


def load_custom(
    spec: str,
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    input_size: int | Sequence[int] = 224,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
) -> Network:
    """The network that the callable `package.module:callable` returns (a Network or a module), in eval mode.

    `checkpoint`: a file as for `load`. Raises `UnknownNameError` for what cannot be imported, `WeightsError`.
    """
    module_name, colon, attribute = spec.partition(":")
    if not (module_name and colon and attribute):
        raise UnknownNameError(f"model is '{spec}'; allowed: a name of the zoo, or package.module:callable")
    here = os.getcwd()
    sys.path.insert(0, here)  # an installed command does not have the current folder on its path
    try:
        made = getattr(importlib.import_module(module_name), attribute)()
    except (ImportError, AttributeError) as error:
        raise UnknownNameError(f"cannot get '{attribute}' from '{module_name}': {error}") from error
    finally:
        sys.path.remove(here)
    if not isinstance(made, Network | nn.Module):
        raise DeconvvizTypeError(f"{spec} returned a {type(made).__name__}; allowed: a torch.nn.Module or a Network")
    net = made if isinstance(made, Network) else Network(made, input_size, mean, std)
    if checkpoint is not None:
        path = Path(checkpoint)
        load_state(net.module, read_weights(path)[0], str(path))
        net.card = replace(net.card, weights=Weights("file", path.name, "unknown", location=str(path)))
    net.module.eval()
    return net
