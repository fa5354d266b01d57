"""`timm:NAME` and `timm:NAME.TAG`: every network that timm builds, with its weights and data configuration."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from deconvviz.card import Card, Weights
from deconvviz.errors import UnknownNameError, WeightsError, suggest
from deconvviz.models.downloads import fetch, hub_path
from deconvviz.network.layers import own_channels
from deconvviz.network.origins.base import (
    Found,
    Wanted,
    built,
    file_weights,
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

# As timm looks for them; the second has pickled tensors, and is read as such.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def find(wanted: Wanted) -> Found:
    """The network as timm builds it; `weights` is a tag (None: that of the name, or timm's default), "random", or a
    file."""
    timm = library()
    base, _, tag = wanted.name.partition(".")
    if base not in timm.list_models():
        raise UnknownNameError(f"timm has no model '{base}'{suggest(base, timm.list_models())}")
    if wanted.weights is not None and not wanted.random and wanted.file is None:
        tag = wanted.weights
    tags = _tags(base)
    if tag and tag not in tags:
        raise Wanted(wanted.spec, base, tag).unknown_weights(tags)
    name = f"{base}.{tag}" if tag else base
    module, chosen, seen = made(wanted, name, None, lambda: pretrained(wanted, name))
    card = Card(name, labels_of(module), (224, 224), (), (), {}, chosen, spec=wanted.spec)
    return Found(module, card, transform_of(module), seen)


def stored(name: str) -> list[tuple[Weights, Path | None]]:
    """The weights that timm has for a network, each with where its file is, or belongs."""
    base = name.partition(".")[0]
    if base not in library().list_models():
        raise UnknownNameError(f"timm has no model '{base}'{suggest(base, library().list_models())}")
    found = []
    for tag in _tags(base):
        config = library().get_pretrained_cfg(f"{base}.{tag}")
        found.append((_facts(tag, config.to_dict()), _on_disk(config) or _place(config)))
    return found


def library() -> Any:
    """The package timm."""
    try:
        import timm
    except ImportError as error:
        raise needs("timm", "timm", error) from error
    return timm


def made(
    wanted: Wanted,
    name: str,
    config: Mapping[str, Any] | None,
    trained: Callable[[], tuple[dict[str, Tensor], Weights]],
) -> tuple[nn.Module, Weights, Seen | None]:
    """The network `name` of timm with the weights that are wanted; `trained` finds those of its makers.

    `config` is the configuration that its hub states, in the place of timm's own.
    """
    options = {**({"pretrained_cfg": dict(config)} if config is not None else {}), **wanted.options}

    def create(**more: Any) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module: nn.Module = library().create_model(name, **{**options, **more})
        return module

    if wanted.random:
        module = built(wanted, lambda: seeded(wanted.seed, create))
        return module, random_weights(wanted.seed), Seen.nothing()
    if wanted.file is not None:
        return _of_file(wanted, wanted.file, create)
    if wanted.options:
        built(wanted, create)  # what cannot be built is not to be blamed on the weights
    state, chosen = trained()
    module = loading(wanted, chosen.location, lambda: seeded(wanted.seed, lambda: _filled(create, state)))
    return module, chosen, None


def _filled(create: Callable[..., nn.Module], state: Mapping[str, Tensor]) -> nn.Module:
    """The network with `state`, which timm may rename and adapt to channels and classes."""
    module = create(
        pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state), "source": "", "custom_load": False}
    )
    config: Any = module.pretrained_cfg
    config.pop("state_dict", None)  # or it would keep the weights twice
    return module


def _of_file(wanted: Wanted, path: Path, create: Callable[..., nn.Module]) -> tuple[nn.Module, Weights, Seen | None]:
    """A file of the network's own state dict, or one that timm knows to read into it."""
    module = built(wanted, lambda: seeded(wanted.seed, create))
    try:
        chosen, seen, _ = from_file(module, path, wanted.allow_nonfinite)
    except WeightsError as error:
        try:
            state = foreign_state(path)
            return _filled(create, state), file_weights(path), None
        except Exception:
            raise error from None  # which names the keys
    return module, chosen, seen


def pretrained(wanted: Wanted, name: str) -> tuple[dict[str, Tensor], Weights]:
    """The weights that timm knows for a name with or without a tag: on disk, or downloaded."""
    config = library().get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise WeightsError(f"timm has no weights for {name}; give weights='random' or the path of a file")
    path = _on_disk(config)
    try:
        if path is None:
            path = Repository.named(config.hf_hub_id).first(*_files(config)) if config.hf_hub_id else fetch(config.url)
    except OSError as error:
        raise WeightsError(str(error)) from error
    facts = _facts(config.tag or "default", config.to_dict())
    return foreign_state(path), facts


def _files(config: Any) -> tuple[str, ...]:
    return (config.hf_hub_filename,) if config.hf_hub_filename else WEIGHT_FILES


def _on_disk(config: Any) -> Path | None:
    """The file of these weights, in the hub's cache or in torch hub's folder."""
    if config.hf_hub_id:
        repository = Repository.named(config.hf_hub_id)
        for file in _files(config):
            if (found := repository.cached(file)) is not None:
                return found
    at = hub_path(config.url) if isinstance(config.url, str) and config.url else None
    return at if at is not None and at.is_file() else None


def _place(config: Any) -> Path | None:
    if config.hf_hub_id:
        return Repository.named(config.hf_hub_id).place(_files(config)[0])
    return hub_path(config.url) if isinstance(config.url, str) and config.url else None


def _tags(base: str) -> list[str]:
    return [name.partition(".")[2] for name in library().list_models(f"{base}.*", pretrained=True)]


def _facts(tag: str, config: Mapping[str, Any]) -> Weights:
    where = f"https://huggingface.co/{config['hf_hub_id']}" if config.get("hf_hub_id") else config.get("url")
    source = f"timm {config.get('architecture', '')}.{tag}".rstrip(".")
    return Weights(tag, source, str(config.get("license") or "unknown"), location=where)


def transform_of(module: nn.Module) -> Callable[[Any], Any] | None:
    """The transform that timm tests this network with; None if it takes neither grey nor RGB pictures."""
    data: Any = importlib.import_module("timm.data")
    config = dict(data.resolve_model_data_config(module))
    channels = own_channels(module, tuple(config["input_size"][1:]))
    if channels == 1:
        for name in ("mean", "std"):  # stated for RGB: a grey picture has their average
            config[name] = (sum(config[name]) / len(config[name]),)
    elif channels != 3:
        return None
    made: Callable[[Any], Any] = data.create_transform(**config, is_training=False)
    return made


def labels_of(module: nn.Module) -> tuple[str, ...]:
    """By the network's configuration, or of the subset of ImageNet that has so many classes."""
    data: Any = importlib.import_module("timm.data")
    config: Any = getattr(module, "pretrained_cfg", {})
    names = config.get("label_names")
    classes = getattr(module, "num_classes", None)
    if not names:
        subset = data.infer_imagenet_subset({"num_classes": classes})
        if subset is None:
            return ()
        return labels_for(data.ImageNetInfo(subset).label_descriptions(), classes)
    described = config.get("label_descriptions") or {}
    if isinstance(described, Mapping):
        return labels_for([described.get(name, name) for name in names], classes)
    return labels_for(described, classes)
