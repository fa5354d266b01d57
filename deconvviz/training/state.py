"""The state of a run: all that its folder holds, written whole or not at all, and read back for a resume."""

from __future__ import annotations

import io
import json
import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.card import Card
from deconvviz.errors import DeconvvizValueError, WeightsError, in_one_line
from deconvviz.files import write_whole
from deconvviz.models import registry
from deconvviz.network.checkpoints import KEPT, NOTE, checkpoint_name, kept
from deconvviz.network.seen import Seen, seen_text
from deconvviz.network.weights import read_weights, write_weights
from deconvviz.training.plan import Course
from deconvviz.training.quick import quicken
from deconvviz.training.scaffold import Norms

LAST, BEST, FINAL, METRICS, UNREADABLE = (
    "last.pt", "best.safetensors", "final.safetensors", "metrics.jsonl", "unreadable.txt",
)  # fmt: skip
CURVES = ("curves.png", "curves.pdf")


@dataclass
class Run:
    """All that a checkpoint has to hold, and the fixed things around it.

    `modules`: the network under "model", its "norms", and the "head" for a teacher if there is one. `ema`:
    the moving average of the first two, empty if there is none. `settings`: what a resumed run must share.
    `options`: what the network is built with. `tested`: what it came to on the test pictures, once it is finished.
    """

    modules: nn.ModuleDict
    optimiser: torch.optim.Optimizer
    settings: dict[str, Any]
    card: Card
    options: dict[str, Any]
    ema: dict[str, Tensor] = field(default_factory=dict)
    epoch: int = 0
    step: int = 0
    metrics: list[dict[str, Any]] = field(default_factory=list)
    tested: dict[str, float] = field(default_factory=dict)

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.modules["model"]

    @property
    def norms(self) -> Norms:
        """Its BatchNorms that exist only while training."""
        norms = self.modules["norms"]
        assert isinstance(norms, Norms)
        return norms

    def lasting(self) -> dict[str, Tensor]:
        """Current values of all that the written network is made of: "model.…" and "norms.…"."""
        return {k: v for k, v in self.modules.state_dict().items() if not k.startswith("head.")}

    def averaged(self) -> dict[str, Tensor]:
        """The state dict of the network as it is written: moving average, norms folded."""
        state = self.ema or self.lasting()
        model = {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
        own = {k.removeprefix("norms."): v for k, v in state.items() if k.startswith("norms.")}
        return self.norms.fold(model, own)

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """Take the current values into the moving average."""
        # Short at first, so that the start does not linger in the average.
        decay = min(decay, (1 + self.step) / (10 + self.step))
        for key, value in self.lasting().items():
            if value.is_floating_point():
                self.ema[key].lerp_(value, 1 - decay)
            else:
                self.ema[key].copy_(value)

    def written(self) -> nn.Module:
        """A network of its own with the weights as they are written, so that what is measured is what is kept."""
        return self.with_weights(self.averaged())

    def with_weights(self, state: Mapping[str, Tensor]) -> nn.Module:
        """A network of its own with the weights `state`, in eval mode."""
        with torch.random.fork_rng(devices=[]):
            module = registry.build(self.settings["model"], **self.options)
        module.load_state_dict(state)
        quicken(module)
        return module.eval()

    def best(self) -> int | None:
        """The epoch with the best accuracy on the validation pictures, of those at the latest input size; the first of
        equals. None if none was measured."""
        size = self.metrics[-1]["size"] if self.metrics else None
        lines = [line for line in self.metrics if "validation" in line and line["size"] == size]
        return None if not lines else int(max(lines, key=lambda line: float(line["validation"]))["epoch"])


def left_by_run(folder: Path) -> list[Path]:
    """The files in a folder that a run writes there, `LAST` the first."""
    if not folder.is_dir():
        return []
    names = (LAST, NOTE, BEST, FINAL, METRICS, UNREADABLE, *CURVES)
    return [path for path in [*(folder / name for name in names), *(p for _, p in kept(folder))] if path.is_file()]


def clear(folder: Path) -> None:
    """Remove what an earlier run has written: its epochs must not be taken for this one's."""
    for path in left_by_run(folder):
        path.unlink()


def save(run: Run, folder: Path, course: Course) -> None:
    """Write what the end of an epoch leaves in the folder of a run; `last.pt` comes last."""
    weights, facts = run.averaged(), _facts(run, course, run.epoch)
    if run.epoch == course.recipe.epochs or run.epoch in KEPT:  # the last one is what an evolution leads to
        write_weights(folder / checkpoint_name(run.epoch), weights, facts)
    if run.best() == run.epoch:
        write_weights(folder / BEST, weights, facts)
    write_metrics(run, folder)
    buffer = io.BytesIO()
    state = {
        "modules": run.modules.state_dict(),
        "ema": run.ema,
        "optimiser": run.optimiser.state_dict(),
        "epoch": run.epoch,
        "step": run.step,
        "metrics": run.metrics,
        "settings": run.settings,
    }
    torch.save(_canonical(state), buffer)
    write_whole(folder / LAST, buffer.getvalue())


def _canonical(value: Any) -> Any:
    """The same value, of containers of its own and one object for equal strings.

    Pickling notes which parts are one object: those of a resumed run are others than those of a run in one go.
    """
    if type(value) is str:
        return sys.intern(value)
    if isinstance(value, OrderedDict):
        made = OrderedDict((_canonical(k), _canonical(v)) for k, v in value.items())
        if hasattr(value, "_metadata"):  # of a state dict
            made._metadata = _canonical(value._metadata)  # type: ignore[attr-defined]
        return made
    if type(value) is dict:
        return {_canonical(k): _canonical(v) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_canonical, value))
    return value


def chosen_state(run: Run, folder: Path) -> tuple[int, dict[str, Tensor]]:
    """What a finished run comes to: the best of its epochs by the validation pictures, or without them the last one;
    the epoch and the weights, in half precision."""
    best = run.best()
    if best is None or best == run.epoch:
        return run.epoch, _halves(run.averaged())
    return best, _halves(read_weights(folder / BEST)[0])


def finish(run: Run, folder: Path, course: Course, epoch: int, weights: Mapping[str, Tensor]) -> None:
    """Write the weights that the run has come to, those of `epoch`, with what was measured on the test pictures."""
    write_weights(folder / FINAL, weights, _facts(run, course, epoch))
    write_metrics(run, folder)


def _facts(run: Run, course: Course, epoch: int) -> dict[str, Any]:
    """What is written into a file of weights, for `deconvviz.load` and for the reader."""
    settings, parts = run.settings, course.parts
    line = {k: v for k, v in run.metrics[epoch - 1].items() if k == "validation"} | run.tested
    hashes = course.data.hashes
    return {
        "labels": list(run.card.labels),
        "options": run.options,
        "model": settings["model"],
        "epoch": epoch,
        "accuracy": line,
        "pictures": seen_text(Seen(hashes[parts.train], hashes[parts.validation])),
        "data": {
            "source": course.data.source,
            "fingerprint": settings["data"],
            "split": settings["split"],
            "pictures": {name: len(part) for name, part in parts._asdict().items()},
        },
        **{key: settings[key] for key in ("recipe", "seed", "teacher", "start", "processes")},
    }


def _halves(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.half() if v.is_floating_point() else v for k, v in state.items()}


def write_metrics(run: Run, folder: Path) -> None:
    """Write one line of JSON for each epoch."""
    write_whole(folder / METRICS, "".join(json.dumps(line) + "\n" for line in run.metrics).encode())


def restore(run: Run, last: Path) -> None:
    """Put `run` where the file `last` says. Raises `WeightsError`, or `DeconvvizValueError` if its settings differ."""
    try:
        found = torch.load(last, map_location="cpu", weights_only=True)
        settings = dict(found["settings"])
    except Exception as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{last} is damaged, or no checkpoint: {line}") from error
    other = [key for key, value in run.settings.items() if settings.get(key) != value]
    if other:
        raise DeconvvizValueError(f"{last} is of a run with other settings ({', '.join(other)}); give fresh")
    try:
        run.modules.load_state_dict(found["modules"])
        run.optimiser.load_state_dict(found["optimiser"])
        run.ema, run.epoch, run.step = found["ema"], found["epoch"], found["step"]
        run.metrics = list(found["metrics"])
    except Exception as error:
        raise WeightsError(f"{last} is damaged, or no checkpoint: {in_one_line(error)}") from error
