"""Files of weights: written whole, read without unpickling, loaded into a module."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.errors import WeightsError
from deconvviz.files import write_whole

_USED = ("labels", "options", "model", "pictures")


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
    facts: dict[str, Any] = {}
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                stored = file.metadata() or {}
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
            facts = {key: json.loads(stored[key]) for key in _USED if key in stored}
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
