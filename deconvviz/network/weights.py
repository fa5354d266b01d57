"""Files of weights: written whole, read without unpickling, loaded into a module."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.errors import WeightsError, in_one_line
from deconvviz.files import write_whole
from deconvviz.network.finite import check_weights


def write_weights(path: Path, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """A safetensors file that `deconvviz.load(name, path)` takes, whole or not at all.

    `facts` go into its metadata, each as JSON; `labels` (class names) and `options` (what the network is
    built with) are used when it is loaded, all others are for the reader.
    """
    from safetensors.torch import save

    # Copies, because safetensors refuses tensors that share memory (tied weights).
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    write_whole(path, _in_order(save(tensors, {key: json.dumps(value) for key, value in facts.items()})))


def _in_order(file: bytes) -> bytes:
    """The same safetensors file with its metadata in the order of their names.

    safetensors writes them in an order that changes from process to process: equal weights would not be equal files.
    """
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:end])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors stay aligned
    return len(text).to_bytes(8, "little") + text + file[end:]


def read_weights(path: Path, sha256: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dict and stored facts of a file; nothing is unpickled but tensors.

    The facts are the safetensors metadata `labels` (a JSON list), `options` (a JSON object: what the network is built
    with) and `model` (its name in the zoo). Half-precision tensors come back as float32. Raises `WeightsError`.
    """
    if not path.is_file():
        raise WeightsError(f"the weights file {path} is missing")
    if sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise WeightsError(f"{path} is damaged: its SHA-256 is not {sha256}")
    stored: dict[str, str] = {}
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                stored = file.metadata() or {}
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch, about kinds of tensors that are refused here
                state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path} is neither safetensors nor a plain state dict{_why_not(error)}") from error
    return _plain(state, path), {key: _fact(key, stored[key], path) for key in _FACTS if key in stored}


def _why_not(error: Exception) -> str:
    """Why a file is not read; torch's own words for what it will not unpickle tell how to unpickle it all the same."""
    if type(error).__name__ != "UnpicklingError":
        return f": {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    what = f": it holds a pickled {found[1]}" if found else ""
    return f"{what}; allowed: tensors and plain numbers and texts beside them, so save the state dict alone"


# The facts that are used, each by what its JSON must be.
_FACTS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "labels": ("a list of class names", lambda x: isinstance(x, list) and all(isinstance(v, str) for v in x)),
    "options": ("an object", lambda x: isinstance(x, dict)),
    "model": ("a name", lambda x: isinstance(x, str)),
    "pictures": ("an object", lambda x: isinstance(x, dict)),
}


def _fact(key: str, text: str, path: Path) -> Any:
    what, fits = _FACTS[key]
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not fits(value):
        shown = text if len(text) <= 40 else text[:40] + "…"
        raise WeightsError(f"{path} says of its '{key}' {shown!r}; allowed: {what}, as JSON")
    return value


# Where checkpoints keep the state dict, beside other things.
_WRAPPINGS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema")


def _plain(state: Any, path: Path) -> dict[str, Tensor]:
    """Tensors by key, out of the usual wrappings of checkpoints."""
    wrapped = False
    for key in _WRAPPINGS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state, wrapped = state[key], True
    if not wrapped:
        state = _only_one(state, path)
    if not isinstance(state, Mapping) or not state:
        raise WeightsError(f"{path} holds no state dict (a mapping of names to tensors)")
    return {key: _dense(key, value, path) for key, value in state.items()}


def _only_one(state: Any, path: Path) -> Any:
    """The only state dict among the values of a mapping without tensors of its own, whatever its name."""
    if not isinstance(state, Mapping) or any(isinstance(value, Tensor) for value in state.values()):
        return state
    named = {key: value for key, value in state.items() if isinstance(value, Mapping) and value
             and all(isinstance(part, Tensor) for part in value.values())}  # fmt: skip
    if len(named) > 1:
        raise WeightsError(f"{path} holds several state dicts: {', '.join(map(str, named))}; save the one meant alone")
    return next(iter(named.values()), state)


def _dense(key: object, value: object, path: Path) -> Tensor:
    """A tensor as networks hold it, half precision as float32; everything else is an error."""
    if not isinstance(key, str):
        raise WeightsError(f"{path} holds no state dict: it has the key {key!r}; allowed: names of tensors")
    if not isinstance(value, Tensor):
        raise WeightsError(
            f"{path} holds no state dict (a mapping of names to tensors): '{key}' is a {type(value).__name__}"
        )
    kind = (
        "on the meta device, without values" if value.is_meta
        else "quantised" if value.is_quantized
        else "sparse" if value.layout != torch.strided
        else "complex" if value.is_complex()
        else ""
    )  # fmt: skip
    if kind:
        raise WeightsError(f"{path} has a tensor that is {kind}: '{key}'; allowed: dense tensors of real numbers")
    return value.float() if value.is_floating_point() and value.dtype.itemsize <= 2 else value


def fitted_keys(state: Mapping[str, Tensor], module: nn.Module) -> tuple[dict[str, Tensor], str | None]:
    """`state` with its keys as those of `module`, and what was done to them in words, or None.

    Wrappers (DataParallel, Lightning, `torch.compile`, a class that holds the network as `model`) put a prefix before
    every key, or take it away. A prefix goes, or comes, where more keys fit for it; what a training module holds
    beside the network (a loss with weights) is left out if the whole network is there under one prefix.
    """
    own = set(module.state_dict())
    best, said, most = dict(state), None, len(own & set(state))
    candidates = [
        ({key[len(p) :]: v for key, v in state.items()}, f"without the prefix '{p}'") for p in _prefixes(state)
    ]
    candidates += [({p + key: v for key, v in state.items()}, f"with the prefix '{p}'") for p in _prefixes(own)]
    candidates += _held(state, module)
    for renamed, words in candidates:
        if len(own & set(renamed)) > most:
            best, said, most = renamed, words, len(own & set(renamed))
    return best, said


def _held(state: Mapping[str, Tensor], module: nn.Module) -> list[tuple[dict[str, Tensor], str]]:
    """The network under a prefix that not all keys have, if it is there whole, in its shapes, and under one only."""
    own = {k: v.shape for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    if not own:
        return []
    first = next(iter(own))
    found = []
    for prefix in (key[: -len(first)] for key in state if key.endswith("." + first)):
        part = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        if all(key in part and part[key].shape == shape for key, shape in own.items()):
            others = [key for key in state if not key.startswith(prefix)]
            found.append((part, f"without the prefix '{prefix}', and without {_some(others)}"))
    return found if len(found) == 1 else []


def _some(keys: Sequence[str], most: int = 5) -> str:
    """The first of several keys, and how many more there are."""
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more


def _prefixes(keys: Iterable[str]) -> list[str]:
    """What all keys begin with, whole names with their dots, shortest first."""
    parts = [key.split(".")[:-1] for key in keys]
    common: list[str] = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return [".".join(common[: n + 1]) + "." for n in range(len(common))]


def load_state(
    module: nn.Module, state: Mapping[str, Tensor], source: str, allow_nonfinite: bool = False
) -> str | None:
    """Load `state` into `module`, its keys fitted; what was done to them in words, or None.

    Raises `WeightsError` that lists the keys that do not match, or names the first tensor that is not finite.
    """
    state, fitted = fitted_keys(state, module)
    own = module.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in own]
    shapes = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(v.shape)}"
        for k, v in own.items()
        if k in state and isinstance(v, Tensor) and state[k].shape != v.shape
    ]
    parts = [("missing", missing), ("unexpected", extra), ("wrong shape", shapes)]
    said = "; ".join(f"{what}: {_some(keys)}" for what, keys in parts if keys)
    if said:
        raise WeightsError(f"{source} does not match {type(module).__name__}: {said}")
    try:
        module.load_state_dict(state, strict=False)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise WeightsError(f"{source} does not match {type(module).__name__}: {in_one_line(error)}") from error
    if not allow_nonfinite:
        check_weights(module, source)
    return fitted
