"""Training of a network of the zoo on a folder of pictures: checkpoints, resume, kept epochs.

What is random is drawn from (seed, epoch, picture), so that a run that was stopped and resumed gives the same
weights, bit for bit, as one that was not.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvviz.analyses.curves.compute import learning_curves
from deconvviz.data.pictures import Pictures, read_data, split
from deconvviz.errors import DeconvvizValueError, UnknownNameError, suggest
from deconvviz.files import write_whole
from deconvviz.models import registry
from deconvviz.models.recipes import Recipe
from deconvviz.network.checkpoints import KEPT, note_run
from deconvviz.network.network import Network
from deconvviz.processes import Team, team
from deconvviz.progress import Progress, heard
from deconvviz.training.balance import balanced
from deconvviz.training.evaluation import accuracy, logits_of, score
from deconvviz.training.plan import Changes, Course, Shown, recipe_of
from deconvviz.training.scaffold import Guess, keep_but_linear, renormalise
from deconvviz.training.schedule import rate
from deconvviz.training.start import largest_size, start
from deconvviz.training.state import (
    CURVES,
    FINAL,
    LAST,
    UNREADABLE,
    Run,
    chosen_state,
    clear,
    finish,
    left_by_run,
    restore,
    save,
    write_metrics,
)
from deconvviz.training.teacher import Teacher, load_teacher
from deconvviz.training.views import Blend, normalise, resized_side, seed_of


def train(
    model: str,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    recipe: str | Recipe | None = None,
    teacher: str | None = None,
    teacher_weights: str | os.PathLike[str] | None = None,
    seed: int = 0,
    workers: int = 1,
    fraction: float = 0.12,
    validation: float = 0.12,
    per_category: int | None = None,
    data_source: str | None = None,
    test_every: int = 1,
    weights: str | os.PathLike[str] | None = None,
    resume: bool = False,
    fresh: bool = False,
    report: Callable[[dict[str, Any]], None] | None = None,
    shown: Shown | None = None,
    progress: Progress = None,
    **changes: Any,
) -> list[dict[str, Any]]:
    """Train the network `model` of the zoo on the pictures of the folder `data`; returns the metrics.

    Into the folder `out` go `last.pt` after every epoch, for `resume`; `epochN.safetensors` after the
    epochs `KEPT` and the last one, `best.safetensors` (by accuracy on the validation pictures, at the latest input
    size) and, at the end, `final.safetensors` (the best, or without validation pictures the last, in float16), all for
    `deconvviz.load(model, path)`; `metrics.jsonl`, one line an epoch, and `curves.png` and `.pdf` of it;
    `unreadable.txt` if there were such pictures. Every file of weights holds perceptual hashes of the pictures that
    were trained and chosen on.

    `recipe`: a name or a `Recipe`; `changes` to it are the fields of `Changes` (epochs, size, stages, batch, lr, flip,
    precision). A recipe that another one goes on from (`then`) is followed by that, in a folder of its name within
    `out`, unless its epochs, sizes or rate are changed. `teacher`: a network of the zoo or of timm, with the file of
    its weights. `weights`: a file to start from. `data_source`: name and licence of the pictures, for the written
    files, where they are not recognised. The validation pictures (shares `fraction` and `validation` of each category
    are for test and validation, see `split`) are looked at every `test_every` epochs, after the epochs `KEPT` and at
    the end; the test pictures once, with the final weights, for the last line of metrics. Accuracies are means over
    categories. `progress`: True for a bar of the steps of all epochs, or what to call with the steps done and to do.
    `report` is called with each line of metrics, `shown` with what is being done, the number done and the number to do.

    Started by `torchrun`, the processes share each batch, and the first one writes, into a folder that all of
    them see. Raises `DeconvvizValueError`, `UnknownNameError`, `WeightsError`.
    """
    if model not in registry.names():
        raise UnknownNameError(f"unknown model '{model}'{suggest(model, registry.names())}")
    chosen = Changes(**changes).apply(recipe_of(recipe, model))
    folder = Path(out)
    _check_start(folder, (weights, teacher_weights), resume, fresh)
    shown = shown or _silent
    with team() as processes, torch.random.fork_rng(devices=[]), heard(progress, "steps") as told:
        if chosen.batch % processes.size:
            raise DeconvvizValueError(f"batch is {chosen.batch}; allowed: a multiple of the {processes.size} processes")
        teaching = None if teacher is None else load_teacher(teacher, teacher_weights)
        pictures = _read(data, model, chosen, teaching, workers, shown)
        if data_source is not None:
            pictures = replace(pictures, source=data_source)
        parts = split(pictures, fraction, per_category, validation=validation)
        settings = {
            "model": model,
            "recipe": json.loads(json.dumps(asdict(chosen))),
            "seed": seed,
            "data": pictures.fingerprint(),
            "split": {"fraction": fraction, "validation": validation, "per_category": per_category},
            "start": None if weights is None else hashlib.sha256(Path(weights).read_bytes()).hexdigest(),
            "teacher": None if teaching is None else [teacher, teaching.weights_hash()],
            "processes": processes.size,
        }
        expert = None
        if teaching is not None:
            expert = Teacher(teaching, pictures, parts.train, chosen.teaching, lambda n, of: shown("teacher", n, of))
        course = Course(chosen, pictures, parts, seed, workers, test_every, processes, expert, shown)
        if processes.leads:
            course = replace(course, report=told)
        card = replace(registry.card(model), labels=pictures.labels)
        run = start(model, card, course, settings, None if weights is None else Path(weights), resume)
        if resume:
            restore(run, folder / LAST)
        # Last: whatever is wrong with what was given is said before an earlier run is lost.
        _prepare(folder, pictures, processes, resume)
        if processes.leads:
            note_run(folder, model, data)
        lines = _go(run, course, folder, report)
    if not chosen.then:
        return lines
    again = functools.partial(
        train, model, data, folder / chosen.then, recipe=chosen.then, weights=folder / FINAL, teacher=teacher,
        teacher_weights=teacher_weights, seed=seed, workers=workers, fraction=fraction, validation=validation,
        per_category=per_category, data_source=data_source, test_every=test_every, report=report, shown=shown,
        progress=progress,
    )  # fmt: skip
    kept = {name: changes[name] for name in ("batch", "flip", "precision") if name in changes}
    there = resume and (folder / chosen.then / LAST).is_file()
    return [*lines, *again(resume=there, fresh=not there, **kept)]


def _silent(what: str, done: int, total: int) -> None:
    return None


def _check_start(folder: Path, read: Sequence[str | os.PathLike[str] | None], resume: bool, fresh: bool) -> None:
    """Raise `DeconvvizValueError` where a run would lose what an earlier one has left, or what it `read`s itself."""
    if resume and fresh:
        raise DeconvvizValueError("give either resume or fresh, not both")
    there = left_by_run(folder)
    if resume and folder / LAST not in there:
        raise DeconvvizValueError(f"nothing to resume: there is no {folder / LAST}")
    for given in read:
        if given is not None and Path(given).is_file() and any(path.samefile(given) for path in there):
            raise DeconvvizValueError(f"{given} is read by this run, which would overwrite it; give another folder")
    if there and not (resume or fresh):
        go_on = "resume to go on, or " if folder / LAST in there else ""
        raise DeconvvizValueError(f"{there[0]} is there already; give {go_on}fresh to overwrite it")


def _read(
    data: str | os.PathLike[str], model: str, recipe: Recipe, teaching: Network | None, workers: int, shown: Shown
) -> Pictures:
    """The pictures, as large as the network and its teacher need them."""
    card = registry.card(model)
    side = resized_side(card, largest_size(recipe, card))
    if teaching is not None:
        side = max(side, *teaching.card.input_size)
    return read_data(data, card.channels, side, workers, lambda n, of: shown("reading", n, of))


def _prepare(folder: Path, pictures: Pictures, processes: Team, resume: bool) -> None:
    """The folder of the run, without what an earlier run has left; the first process sees to it."""
    processes.wait()  # all have seen what was there
    if not processes.leads:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not resume:
        clear(folder)
    if pictures.unreadable:
        write_whole(folder / UNREADABLE, ("\n".join(pictures.unreadable) + "\n").encode())


def _go(
    run: Run, course: Course, folder: Path, report: Callable[[dict[str, Any]], None] | None
) -> list[dict[str, Any]]:
    if course.team.leads:
        write_metrics(run, folder)
    while run.epoch < course.recipe.epochs:
        line = run_epoch(run, course)
        if not course.team.leads:
            continue
        save(run, folder, course)
        if run.epoch % 5 == 0 or run.epoch == course.recipe.epochs:
            curves = learning_curves(folder)
            for name in CURVES:
                curves.save(folder / name)
        if report is not None:
            report(line)
    _conclude(run, course, folder)
    return run.metrics


def _conclude(run: Run, course: Course, folder: Path) -> None:
    """Choose the weights by the validation pictures, look at the test pictures with them, once, and write both."""
    course.team.wait()  # the first process has written the best ones
    epoch, weights = chosen_state(run, folder)
    size = int(run.metrics[epoch - 1]["size"])
    if course.recipe.balance:
        weights, run.tested["balance"] = balanced(run, course, weights, size)
    if course.parts.test and not course.recipe.then:  # else the one that goes on looks at them
        module = run.with_weights(weights)
        for name, crops in (("test", 1), ("test_ten_crops", 10)):
            found = score(module, run.card, course.data, course.parts.test, size, crops, course.team)
            run.tested |= {name: found.mean, f"{name}_error": found.error}
    run.metrics[-1] |= run.tested
    if course.team.leads:
        finish(run, folder, course, epoch, weights)


def run_epoch(run: Run, course: Course) -> dict[str, Any]:
    """One epoch and its line of metrics."""
    size = course.recipe.size_at(run.epoch) or max(run.card.input_size)
    # Dropout: the same after a resume, and another in each process.
    torch.manual_seed(seed_of(course.seed, run.epoch, -1 - course.team.rank))
    run.modules.train()
    if run.epoch >= course.recipe.epochs - course.recipe.head:
        keep_but_linear(run.modules)
    sums = torch.zeros(2, dtype=torch.float64)
    what = f"epoch {run.epoch + 1}"
    for step, batch in enumerate(course.batches(size, run.epoch)):
        course.shown(what, step, course.steps)
        sums += _step(run, course, *batch)
        if course.report is not None:
            course.report(run.step, course.recipe.epochs * course.steps)
    course.shown(what, course.steps, course.steps)
    course.team.average_([sums])
    loss, right = (sums / course.steps).tolist()
    run.epoch += 1
    if not math.isfinite(loss):
        raise DeconvvizValueError(f"the loss is no longer a number in epoch {run.epoch}; try a lower lr")
    line: dict[str, Any] = {"epoch": run.epoch, "size": size, "loss": loss, "train": right}
    line |= _validate(run, course, size)
    run.metrics.append(line)
    return line


def _validate(run: Run, course: Course, size: int) -> dict[str, float]:
    """Accuracy on the validation pictures, after the epochs in which it is measured."""
    last = run.epoch == course.recipe.epochs
    parts, found = course.parts, {}
    if parts.validation and (last or run.epoch in KEPT or run.epoch % course.test_every == 0):
        found["validation"] = accuracy(run.written(), run.card, course.data, parts.validation, size, team=course.team)
    return found


def _step(run: Run, course: Course, views: Tensor, classes: Tensor, pictures: Tensor, places: Tensor) -> Tensor:
    """One step. Returns the mean loss and the share of right answers, (2,)."""
    recipe = course.recipe
    lr = rate(recipe, run.step, recipe.epochs * course.steps)
    for group in run.optimiser.param_groups:
        group["lr"] = lr * group["factor"]
    blend = Blend.drawn(recipe, run.epoch, len(views))
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        logits = logits_of(run.model, blend.of(normalise(views, run.card))).float()
    truth = blend.of(F.one_hot(classes, logits.shape[1]).to(logits))
    loss = F.cross_entropy(logits, truth, label_smoothing=recipe.smoothing)
    if course.teacher is not None:
        student: Guess = run.modules["head"]()
        rows, columns = student.maps.shape[2:]
        maps = course.teacher.look(pictures.tolist(), places, (rows, columns))
        loss = course.teacher.loss(logits, student, loss, blend.of(maps), blend.of(course.teacher.likely(maps)))
    run.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = [p for p in run.modules.parameters() if p.grad is not None]
    course.team.average_([p.grad for p in parameters if p.grad is not None])
    if recipe.clip:
        nn.utils.clip_grad_norm_(parameters, recipe.clip)
    run.optimiser.step()
    course.team.average_([b for b in run.modules.buffers() if b.is_floating_point()])  # of BatchNorm
    run.step += 1
    if recipe.filter_rms:
        renormalise(run.model, recipe.filter_rms, recipe.input_scale)
    if recipe.ema:
        run.average(recipe.ema)
    return torch.stack([loss.detach(), (logits.argmax(1) == classes).float().mean()]).double()
