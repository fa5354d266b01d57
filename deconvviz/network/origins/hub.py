"""`hf-hub:ORG/NAME`: networks of timm and image classifiers of transformers by their repository on huggingface.co.

A repository says in its `config.json` what it holds. Its code is never run: an architecture that the two libraries do
not have themselves is an error.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from deconvviz.card import Card, Weights
from deconvviz.errors import DeconvvizValueError, UnknownNameError, WeightsError, in_one_line
from deconvviz.network.origins import timm
from deconvviz.network.origins.base import (
    Found,
    Wanted,
    built,
    foreign_state,
    from_file,
    labels_for,
    loading,
    needs,
    random_weights,
    seeded,
)
from deconvviz.network.origins.hub_files import Repository
from deconvviz.network.seen import Seen


def find(wanted: Wanted) -> Found:
    """The network of a repository; `weights` is None (its own), "random", or a file."""
    repository = Repository.named(wanted.name)
    if wanted.weights is not None and not wanted.random and wanted.file is None:
        raise UnknownNameError(
            f"no weights '{wanted.weights}' for {wanted.spec}; allowed: none (its own), random, or the path of a file"
        )
    path = repository.first("config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {in_one_line(error)}") from error
    if isinstance(config, dict) and "model_type" in config:
        return _of_transformers(wanted, repository, path.parent)
    if isinstance(config, dict) and "architecture" in config:
        return _of_timm(wanted, repository, config)
    raise DeconvvizValueError(f"{wanted.spec} is neither a network of timm nor one of transformers: see {path}")


def _weights(repository: Repository) -> Weights:
    return Weights("hub", f"{repository.name} at {repository.revision}", "see its page",
                   location=f"https://huggingface.co/{repository.name}")  # fmt: skip


def _card(wanted: Wanted, repository: Repository, labels: tuple[str, ...], weights: Weights) -> Card:
    return Card(repository.name.rpartition("/")[2], labels, (224, 224), (), (), {}, weights, spec=wanted.spec)


# timm -----------------------------------------------------------------------------------------------------------------


def _of_timm(wanted: Wanted, repository: Repository, config: Mapping[str, Any]) -> Found:
    library = timm.library()
    architecture, stated, options = _timm_config(config)
    if architecture not in library.list_models():
        raise UnknownNameError(f"{wanted.spec} is a '{architecture}', which this version of timm does not have")
    wanted = Wanted(wanted.spec, architecture, wanted.weights, wanted.seed, {**options, **wanted.options},
                    wanted.allow_nonfinite)  # fmt: skip

    def trained() -> tuple[dict[str, Tensor], Weights]:
        return foreign_state(repository.first(*timm.WEIGHT_FILES)), _weights(repository)

    module, chosen, seen = timm.made(wanted, architecture, stated, trained)
    return Found(module, _card(wanted, repository, timm.labels_of(module), chosen), timm.transform_of(module), seen)


def _timm_config(config: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Architecture, configuration and arguments; older files have the configuration itself at the top."""
    from timm.models import PretrainedCfg

    inner = config.get("pretrained_cfg")
    stated = dict(inner if isinstance(inner, Mapping) else config)
    for name in ("num_classes", "label_names", "label_descriptions"):
        if name in config:
            stated[name] = config[name]
    if "labels" in stated:
        stated["label_names"] = stated.pop("labels")
    known = {name for name in PretrainedCfg.__dataclass_fields__ if name not in ("file", "source", "state_dict")}
    arguments = config.get("model_args")
    options = dict(arguments) if isinstance(arguments, Mapping) else {}
    return str(config["architecture"]), {k: v for k, v in stated.items() if k in known}, options


# transformers ---------------------------------------------------------------------------------------------------------

_WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


class Logits(nn.Module):
    """A classifier of transformers as a network of one tensor: `model`'s logits (N, classes)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=x).logits
        return logits


class Processor:
    """An image processor of transformers as a transform: a picture to (C, H, W)."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.mean, self.std = getattr(processor, "image_mean", None), getattr(processor, "image_std", None)

    def __call__(self, picture: Any) -> Tensor:
        x: Tensor = self.processor(images=picture, return_tensors="pt")["pixel_values"][0]
        return x

    def __repr__(self) -> str:
        return f"{type(self.processor).__name__}({json.dumps(self.processor.to_dict(), default=str, sort_keys=True)})"

    def geometry(self) -> dict[str, Any] | None:
        """What a card says of where the input lies, as far as the processor's facts say it."""
        facts = self.processor.to_dict()
        size, crop = facts.get("size") or {}, facts.get("crop_size") or {}
        resample = getattr(facts.get("resample"), "name", None) or _RESAMPLE.get(facts.get("resample"), "bilinear")
        found: dict[str, Any] = {"interpolation": str(resample).lower(), "crop": None}
        short = size.get("shortest_edge")
        if not facts.get("do_resize") or not (short or {"height", "width"} <= size.keys()):
            return None
        if short and facts.get("crop_pct"):  # ConvNeXt's: small inputs are cut out, large ones squeezed
            side = (short, short) if short >= 384 else int(short / facts["crop_pct"])
            cut = {} if short >= 384 else {"crop": "center", "input_size": (short, short)}
            return {**found, "resize": side, **cut}
        found["resize"] = short or (size["height"], size["width"])
        if facts.get("do_center_crop") and {"height", "width"} <= crop.keys():
            found |= {"crop": "center", "input_size": (crop["height"], crop["width"])}
        return found


_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def _of_transformers(wanted: Wanted, repository: Repository, folder: Path) -> Found:
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise needs("transformers", "transformers", error) from error
    with _quiet(transformers):
        config = _built(wanted, lambda: transformers.AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True, **wanted.options
        ))  # fmt: skip
        if type(config) not in transformers.AutoModelForImageClassification._model_mapping:
            raise DeconvvizValueError(f"{wanted.spec} is a {config.model_type}, no image classifier of transformers")
        module, chosen, seen = _classifier(wanted, repository, transformers, config)
        transform = _processor(wanted, repository, transformers)
    names = [str(config.id2label.get(k, k)) for k in range(config.num_labels)]
    invented = all(name == f"LABEL_{k}" for k, name in enumerate(names))
    card = _card(wanted, repository, labels_for(() if invented else names, config.num_labels), chosen)
    return Found(module, card, transform, seen)


def _built(wanted: Wanted, build: Callable[[], Any]) -> Any:
    """What transformers builds; where it asks for leave to run a repository's code, that is no way to go on."""

    def own() -> Any:
        try:
            return build()
        except ValueError as error:
            if "trust_remote_code" not in str(error):
                raise
            raise DeconvvizValueError(
                f"{wanted.spec} needs code of its own repository, which is never run; allowed: what transformers has"
            ) from error

    return built(wanted, own)


def _classifier(
    wanted: Wanted, repository: Repository, transformers: Any, config: Any
) -> tuple[nn.Module, Weights, Seen | None]:
    auto = transformers.AutoModelForImageClassification
    fresh = built(wanted, lambda: seeded(wanted.seed, lambda: auto.from_config(config, trust_remote_code=False).eval()))
    if wanted.random:
        return Logits(fresh), random_weights(wanted.seed), Seen.nothing()
    if wanted.file is not None:
        module = Logits(fresh)
        chosen, seen, _ = from_file(module, wanted.file, wanted.allow_nonfinite)
        return module, chosen, seen
    path = repository.first(*_WEIGHT_FILES)
    state = _shards(repository, path) if path.suffix == ".json" else foreign_state(path)
    model = loading(wanted, path, lambda: _with_state(type(fresh), config, state, path))
    return Logits(model), _weights(repository), None


def _with_state(kind: Any, config: Any, state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """The model with this state, which transformers may rename; nothing may be left as it was drawn."""
    model, told = kind.from_pretrained(None, config=config, state_dict=dict(state), output_loading_info=True)
    lost = [*told["missing_keys"], *told["mismatched_keys"]]
    if lost:
        raise WeightsError(f"{path} does not match {kind.__name__}: missing: {', '.join(map(str, lost))}")
    made: nn.Module = model
    return made


def _shards(repository: Repository, index: Path) -> dict[str, Tensor]:
    """The weights of the several files that an index names."""
    try:
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(f"{index} is no index of weights: {in_one_line(error)}") from error
    state: dict[str, Tensor] = {}
    for file in files:
        if not isinstance(file, str) or Path(file).name != file:
            raise WeightsError(f"{index} is no index of weights: it names the file {file!r}; allowed: files beside it")
        state |= foreign_state(repository.first(file))
    return state


def stored(name: str) -> list[tuple[Weights, Path | None]]:
    """The weights of a repository, with where their file, or the index of their files, is or belongs."""
    repository = Repository.named(name)
    found = next((path for file in _WEIGHT_FILES if (path := repository.cached(file)) is not None), None)
    return [(_weights(repository), found or repository.place(_WEIGHT_FILES[0]))]


def _processor(wanted: Wanted, repository: Repository, transformers: Any) -> Callable[[Any], Any] | None:
    """The repository's own preprocessing, or None if it says nothing of it."""
    found = repository.maybe("preprocessor_config.json")
    if found is None:
        return None
    return Processor(_built(wanted, lambda: transformers.AutoImageProcessor.from_pretrained(
        found.parent, trust_remote_code=False, local_files_only=True
    )))  # fmt: skip


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without the library's own words and bars on stderr; afterwards as before."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
