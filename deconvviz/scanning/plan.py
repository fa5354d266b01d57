"""What one scan is: pictures, layers and options, agreed with the store that it goes on with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deconvviz.engine.capture import Tap, find_taps
from deconvviz.engine.geometry import field_of
from deconvviz.engine.layers import FoundLayer, check_maps
from deconvviz.engine.passes import fitting
from deconvviz.engine.recorder import record
from deconvviz.engine.recording import Recording
from deconvviz.errors import DeconvvizTypeError, StoreError, UnsupportedOperatorError
from deconvviz.network.network import Network
from deconvviz.scanning.rows import StoreLayer
from deconvviz.scanning.sources import Files, Items, Names, PictureSource, first_readable, source_of
from deconvviz.scanning.store import Store
from deconvviz.scanning.tally import Tally
from deconvviz.scanning.writer import Writer, blank, lock_of

BATCH = 32


@dataclass(frozen=True)
class Plan:
    """What is scanned, the same in every process.

    `names` are path and label of every picture by its number, of which `done` are scanned; `shape` (C, H, W) and
    `dtype` those of one input; `taps` say where the layers' values appear.
    """

    layers: tuple[StoreLayer, ...]
    taps: tuple[Tap, ...]
    names: Names
    done: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    top: int
    per_picture: int
    batch: int
    folder: str | None

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where the units of each layer begin among all units, and at last their number."""
        return np.cumsum([0, *(x.maps for x in self.layers)])

    @property
    def units(self) -> int:
        """Number of units of all layers."""
        return int(self.offsets[-1])

    def nothing(self) -> Tally:
        """The tally of no picture."""
        return Tally.empty(self.units, self.top)

    def source(self, net: Network, images: Any) -> PictureSource:
        """The pictures under their numbers."""
        if self.folder is None:
            return Items(net, images)
        return Files(net, self.folder, self.names)


def make_plan(
    net: Network, images: Any, layers: Any, top: int, per_picture: int, batch: int | None, processes: int, path: Path
) -> tuple[Plan, Writer]:
    """Check everything against each other and against an existing store, then open it for writing, or make it.

    Nothing is written before all is known to be right. Raises the errors of `scan`.
    """
    chosen = _listed(layers)
    # From before the old pictures are read until the run has ended: what is new is decided by one scan alone.
    lock = lock_of(path)
    try:
        old, root = _known(path)
        source = source_of(net, images, root)
        names, fresh, labels = _numbered(source.names(), old, path)
        if source.folder is not None:
            source = Files(net, source.folder, names)
        sample = first_readable(source, len(names)).input[None]
        rows, taps = _layers(net, sample, chosen)
    except BaseException:
        lock.release()
        raise
    facts = {
        **_model_facts(net), "input": list(sample.shape[1:]), "dtype": str(sample.dtype), "images": source.kind,
        "top": top, "per_picture": per_picture, "batch": batch or BATCH,
    }  # fmt: skip
    writer = Writer.open(path, lock)
    try:
        with writer.transaction():
            if writer.new:
                writer.create(facts, rows)
            else:
                _agree(writer, facts, rows, ignore=() if batch else ("batch",))
            writer.begin(now(), source.folder, processes, _machine(net), fresh, labels, known=len(old))
        told = writer.facts
        plan = Plan(
            rows, taps, names, writer.done, tuple(sample.shape[1:]), sample.dtype, top, per_picture, told["batch"],
            source.folder,
        )  # fmt: skip
    except BaseException:
        writer.close()
        raise
    return plan, writer


def _listed(layers: str | nn.Module | Sequence[str | nn.Module]) -> list[str | nn.Module]:
    if isinstance(layers, str | nn.Module):
        return [layers]
    if not isinstance(layers, Sequence) or not layers:
        raise DeconvvizTypeError(f"layers is {layers!r}; allowed: one or more aliases, module paths or modules")
    return list(layers)


def now() -> str:
    """This moment, for the table of runs."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


# Pictures -------------------------------------------------------------------------------------------------------------


def _known(path: Path) -> tuple[list[tuple[str | None, str | None, bool]], Path | None]:
    """Path, label and whether it could be read of each picture that a store knows, and where the paths start."""
    if blank(path):
        return [], None
    with Store.open(path) as store:
        return [(p.path, p.label, p.error is None) for p in store.pictures()], store.folder


def _numbered(
    names: Names, old: Sequence[tuple[str | None, str | None, bool]], path: Path
) -> tuple[Names, Names, dict[int, str | None]]:
    """All pictures by number, the old ones first; those that are new; the labels of old ones that changed."""
    if len(old) and (old[0][0] is None) != (names[0][0] is None):
        raise StoreError(f"{path} was made of {'a data set' if old[0][0] is None else 'files'}; use another store")
    if names[0][0] is None:
        if len(names) < len(old):
            raise StoreError(f"{path} knows {len(old)} items of the data set, which now has {len(names)}")
        return names, names[len(old) :], {}
    there = dict(names)
    gone = [str(name) for name, _, readable in old if readable and name not in there]
    if gone:
        raise StoreError(
            f"{len(gone)} of the {len(old)} pictures in {path} are not among those given (the first: {gone[0]}); "
            "what they added cannot be taken out: put them back, or use another store"
        )
    known = {name for name, _, _ in old}
    fresh = [(name, label) for name, label in names if name not in known]
    labels = {n: there[name] for n, (name, label, _) in enumerate(old) if name in there and there[name] != label}
    return [(name, there.get(name, label)) for name, label, _ in old] + fresh, fresh, labels


# Layers ---------------------------------------------------------------------------------------------------------------


def _layers(
    net: Network, sample: Tensor, chosen: Sequence[str | nn.Module]
) -> tuple[tuple[StoreLayer, ...], tuple[Tap, ...]]:
    """Rows of the store for the chosen layers in the order of the network, and their taps."""
    rec = record(net.plain, fitting(net.module, sample))
    layers: dict[int, FoundLayer] = {}
    for layer in chosen:
        found = net.find_layer(rec, layer)
        layers.setdefault(found.value, found)
    values = sorted(layers)
    rows = tuple(_row(rec, n, layers[value]) for n, value in enumerate(values))
    return rows, find_taps(rec, values)


def _row(rec: Recording, number: int, found: FoundLayer) -> StoreLayer:
    shape = rec.values[found.value].shape
    check_maps(found.path, shape)
    try:
        stride, field = field_of(rec, found.value)
    except UnsupportedOperatorError:
        stride, field = None, None  # its units can be scanned all the same
    size = (int(shape[2]), int(shape[3])) if len(shape) == 4 else None
    kind = rec.kinds[found.path.partition("#")[0]]
    return StoreLayer(number, found.path, found.alias, kind, int(shape[1]), size, stride, field, found.value)


# Facts ----------------------------------------------------------------------------------------------------------------


def _model_facts(net: Network) -> dict[str, Any]:
    card = net.card
    return {
        # Hashed anew: writing through `.data` changes weights and leaves no sign.
        "model": {
            "name": card.name, "weights": net.weights_source, "sha256": net.weights_hash(),
            **({"spec": card.spec} if card.spec is not None else {}),
        },
        "preprocessing": net.preparation(),
        "aliases": dict(card.aliases), "labels": list(card.labels),
    }  # fmt: skip


_DECIDES = {
    "preprocessing": "preprocessing", "input": "shape of input", "dtype": "dtype", "images": "kind of pictures",
    "top": "top", "per_picture": "places per picture", "batch": "batch",
}  # fmt: skip


_ADVICE = "use another store, or the same as before"


def check_model(store: Store, net: Network) -> None:
    """Raise `StoreError` if the store was made with another model, weights or preprocessing."""
    _differ(store, _model_facts(net), ("preprocessing",))


def _differ(store: Store, facts: Mapping[str, Any], keys: Sequence[str]) -> None:
    old = store.facts
    for key, what in (("name", "model"), ("sha256", "weights")):
        if old["model"][key] != facts["model"][key]:
            was, given = old["model"][key], facts["model"][key]
            if key == "sha256":
                was, given = was[:16], given[:16]
            raise StoreError(f"{store.path} was made with the {what} {was}, not {given}; {_ADVICE}")
    for key in keys:
        if old[key] != facts[key]:
            raise StoreError(f"{store.path} was made with {_DECIDES[key]} {old[key]}, not {facts[key]}; {_ADVICE}")


def _agree(store: Store, facts: Mapping[str, Any], rows: Sequence[StoreLayer], ignore: Sequence[str]) -> None:
    """Raise `StoreError` that says what differs from the scan in the store."""
    _differ(store, facts, [key for key in _DECIDES if key not in ignore])
    if store.layers() != tuple(rows):
        was, given = (", ".join(x.title for x in layers) for layers in (store.layers(), rows))
        raise StoreError(f"{store.path} was made for the layers {was}, not {given}; {_ADVICE}")


def _machine(net: Network) -> dict[str, Any]:
    from deconvviz import __version__

    device = next((str(p.device) for p in net.module.parameters()), "cpu")
    return {"deconvviz": __version__, "torch": torch.__version__, "device": device, "cores": os.cpu_count()}
