"""Weights on disk: the files that training writes, and the checkpoints of a run in the order of its epochs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError
from deconvviz.files import write_whole
from deconvviz.network.network import Network

# The epochs of Fig. 4 of the paper.
KEPT = (1, 2, 5, 10, 20, 30, 40, 64)
# Where `deconvviz train` notes the network and the folder of pictures, for the analyses of the run.
NOTE = "run.json"


def checkpoint_name(epoch: int) -> str:
    """File name of the weights after `epoch`, counted from 1."""
    return f"epoch{epoch}.safetensors"


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


def checkpoints(folder: str | os.PathLike[str]) -> list[tuple[int, Path]]:
    """(epoch, file) of every checkpoint `epochN.safetensors` in the folder of a run, first epoch first.

    Raises `DeconvvizValueError` if there is no such folder, or none in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DeconvvizValueError(f"the folder {root} does not exist")
    found = kept(root)
    if not found:
        raise DeconvvizValueError(f"{root} holds no checkpoint; they are called {checkpoint_name(1)} and so on")
    return found


def kept(folder: Path) -> list[tuple[int, Path]]:
    """As `checkpoints`, for a folder that is there; empty if it holds none."""
    matches = [(re.fullmatch(r"epoch([1-9]\d*)\.safetensors", path.name), path) for path in folder.iterdir()]
    return sorted((int(match[1]), path) for match, path in matches if match)


def note_run(folder: Path, model: str, data: str | os.PathLike[str]) -> None:
    """Note in the folder of a run which network it trains, on the pictures of which folder."""
    facts = {"model": model, "data": str(Path(data).resolve())}
    write_whole(folder / NOTE, (json.dumps(facts) + "\n").encode())


def run_facts(folder: str | os.PathLike[str]) -> dict[str, str]:
    """What `note_run` has noted; empty if there is no note."""
    path = Path(folder) / NOTE
    try:
        facts: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise DeconvvizValueError(f"{path} is damaged: {error}") from error
    return facts


class EvolutionCheckpoints:
    """Keeps the weights of chosen epochs, for feature evolution (Fig. 4 of the paper), in a loop of one's own::

        keep = deconvviz.EvolutionCheckpoints("run")
        for epoch in range(1, 65):
            ...
            keep(model, epoch)

    `folder` is created if need be. `epochs` count from 1. The files are named as those of `deconvviz train`,
    and each appears whole or not at all. Raises `DeconvvizValueError` for epochs that are not positive.
    """

    def __init__(self, folder: str | os.PathLike[str], epochs: Collection[int] = KEPT) -> None:
        wrong = [e for e in epochs if isinstance(e, bool) or not isinstance(e, int) or e < 1]
        if wrong or not epochs:
            raise DeconvvizValueError(f"epochs are {tuple(epochs)!r}; allowed: whole numbers from 1 on")
        self.folder = Path(folder)
        self.epochs = tuple(sorted(set(epochs)))
        self.folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, model: nn.Module | Network, epoch: int) -> Path | None:
        """Write the weights of `model` if `epoch`, the number of epochs done, is one to keep.

        Returns the file, or None. The class names of a `Network` are kept with its weights. Raises
        `DeconvvizTypeError` for a model that is neither.
        """
        if not isinstance(model, nn.Module | Network):
            raise DeconvvizTypeError(f"model is a {type(model).__name__}; allowed: a torch.nn.Module or a Network")
        if epoch not in self.epochs:
            return None
        module, labels = (model.module, model.card.labels) if isinstance(model, Network) else (model, ())
        path = self.folder / checkpoint_name(epoch)
        write_weights(path, module.state_dict(), {"labels": list(labels)} if labels else {})
        return path
