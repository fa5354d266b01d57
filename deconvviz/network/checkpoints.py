"""The checkpoints of a run in the order of its epochs, and what is noted beside them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from pathlib import Path

from torch import nn

from deconvviz.errors import DeconvvizValueError
from deconvviz.files import write_whole
from deconvviz.network.network import Network
from deconvviz.network.weights import write_weights

# The epochs of Fig. 4 of the paper.
KEPT = (1, 2, 5, 10, 20, 30, 40, 64)
# Where `deconvviz train` notes the network and the folder of pictures, for the analyses of the run.
NOTE = "run.json"


def checkpoint_name(epoch: int) -> str:
    """File name of the weights after `epoch`, counted from 1."""
    return f"epoch{epoch}.safetensors"


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

    Example, of a network that is not trained at all:

    >>> net = deconvviz.load("lenet")
    >>> keep = deconvviz.EvolutionCheckpoints("my-run", epochs=(1, 2))
    >>> [keep(net, epoch) is not None for epoch in (1, 2, 3)]
    [True, True, False]
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
        net = Network.of(model)
        if epoch not in self.epochs:
            return None
        path = self.folder / checkpoint_name(epoch)
        labels = list(net.card.labels)
        write_weights(path, net.module.state_dict(), {"labels": labels} if labels else {})
        return path
