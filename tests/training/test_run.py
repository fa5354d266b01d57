"""The loss falls, a resumed run is the same run, what is written loads."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import deconvviz
from deconvviz import learning_curves
from deconvviz.data import likeness
from deconvviz.data.pictures import read_data, split
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnknownNameError
from deconvviz.models.recipes import RECIPES, Augmentation, Recipe
from deconvviz.training import Changes, accuracy, train
from deconvviz.training.evaluation import score
from deconvviz.training.state import Run

TESTED = ("", "_error", "_ten_crops", "_ten_crops_error")


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_loss_falls_and_files_load(folder: Path, full: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    recipe = replace(full, stages=((12, 0),), filter_rms=0.0, augmentation=Augmentation())
    lines = train("lenet", folder, out, recipe=recipe, workers=0)
    assert [line["epoch"] for line in lines] == list(range(1, 13))
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    assert lines[-1]["test"] == 1.0 and lines[-1]["test_ten_crops"] == 1.0
    assert [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()] == lines
    assert "broken.png" in (out / "unreadable.txt").read_text()
    assert {p.name for p in out.glob("*.safetensors")} == {
        *(f"epoch{n}.safetensors" for n in (1, 2, 5, 10, 12)),  # the last one too
        "best.safetensors",
        "final.safetensors",
    }
    data = read_data(folder, 1, 28)
    net = deconvviz.load("lenet", out / "final.safetensors")
    assert net.card.labels == ("bottom", "middle", "top") and not net.module.training
    assert accuracy(net.module, net.card, data, split(data).test, 28) == 1.0
    early = deconvviz.load("lenet", out / "epoch1.safetensors")
    assert early.module(torch.zeros(1, 1, 28, 28)).shape == (1, 3)


def test_resumed_is_bit_equal_to_uninterrupted(folder: Path, full: Recipe, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train("lenet", folder, whole, recipe=full, workers=0)

    def stop(line: dict[str, object]) -> None:
        torch.rand(7)  # whatever else the program draws must not matter
        raise KeyboardInterrupt

    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            train("lenet", folder, parts, recipe=full, workers=0, resume=resume, report=stop)
    train("lenet", folder, parts, recipe=full, workers=0, resume=True)
    a, b = (torch.load(p / "last.pt", weights_only=True) for p in (whole, parts))
    assert a["epoch"] == 3 and same(a, b)
    assert (whole / "last.pt").read_bytes() == (parts / "last.pt").read_bytes()
    for name in ("final.safetensors", "epoch2.safetensors"):
        assert same(load_file(whole / name), load_file(parts / name))
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    assert (whole / "metrics.jsonl").read_bytes() == (parts / "metrics.jsonl").read_bytes()
    assert not list(parts.glob("*.part"))


def test_resume_refuses_another_run(folder: Path, full: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DeconvvizValueError, match="nothing to resume"):
        train("lenet", folder, out, recipe=full, resume=True)
    train("lenet", folder, out, recipe=full, epochs=1, workers=0)
    with pytest.raises(DeconvvizValueError, match="fresh"):
        train("lenet", folder, out, recipe=full, epochs=1)
    with pytest.raises(DeconvvizValueError, match="recipe, seed"):
        train("lenet", folder, out, recipe=full, epochs=2, seed=1, resume=True)
    with pytest.raises(UnknownNameError, match="did you mean 'lenet'"):
        train("lennet", folder, out)
    for name in ("epoch64.safetensors", "epoch77.safetensors"):
        (out / name).touch()
    before = {p: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(DeconvvizValueError, match="does not take inputs of size 4"):
        train("lenet", folder, out, recipe=full, epochs=1, size=4, workers=0, fresh=True)
    assert {p: p.read_bytes() for p in out.iterdir()} == before  # a wrong option costs no earlier run
    train("lenet", folder, out, recipe=full, epochs=1, workers=0, fresh=True)
    assert [p.name for p in out.glob("epoch*")] == ["epoch1.safetensors"]  # none of the earlier run
    with pytest.raises(UnknownNameError, match="'zfnet'"):
        train("lenet", folder, out, recipe="zfnt", fresh=True)


def test_killed_at_any_moment_it_resumes_bit_equal(folder: Path, full: Recipe, tmp_path: Path) -> None:
    recipe = replace(full, stages=((3, 28),))
    # Children that die without a word: at the start, within an epoch, just before a file appears, after some did.
    code = f"""
import os, signal, sys
from pathlib import Path
from typing import Any
import torch
from deconvviz.models.recipes import RECIPES, Augmentation, Recipe, Teaching
from deconvviz.training import train
torch.set_num_threads(1)
out = Path({str(tmp_path / "killed")!r})
left, replace = 0, os.replace
def tick(*arguments):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return arguments
os.replace = lambda *arguments: replace(*tick(*arguments))
if os.fork() == 0:  # the run that nothing interrupts, in a process like theirs
    train("lenet", {str(folder)!r}, {str(tmp_path / "whole")!r}, recipe={recipe!r}, workers=0)
    os._exit(0)
os.wait()
ends = []
for left in (53, 5, 11, 4, 8, 9, 10, 0):
    child = os.fork()
    if child == 0:
        train("lenet", {str(folder)!r}, out, recipe={recipe!r}, workers=0, shown=tick,
              resume=(out / "last.pt").exists(), fresh=not (out / "last.pt").exists())
        os._exit(0)
    ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(ends)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == str([-9] * 7 + [0]), done.stderr
    a, b = (torch.load(tmp_path / run / "last.pt", weights_only=True) for run in ("whole", "killed"))
    assert a["epoch"] == 3 and same(a, b)
    assert (tmp_path / "whole" / "last.pt").read_bytes() == (tmp_path / "killed" / "last.pt").read_bytes()
    for name in ("final.safetensors", "epoch1.safetensors", "epoch2.safetensors", "best.safetensors"):
        assert same(load_file(tmp_path / "whole" / name), load_file(tmp_path / "killed" / name))
    assert (tmp_path / "whole" / "metrics.jsonl").read_bytes() == (tmp_path / "killed" / "metrics.jsonl").read_bytes()


def test_what_the_files_say_of_themselves(folder: Path, full: Recipe, tmp_path: Path) -> None:
    how: dict[str, Any] = {"seed": 5, "fraction": 0.2, "validation": 0.1, "epochs": 1, "data_source": "mine"}
    lines = train("lenet", folder, tmp_path, recipe=full, workers=0, **how)
    data = read_data(folder, 1, 28)
    parts = split(data, 0.2, validation=0.1)
    for name in ("epoch1", "best", "final"):
        with safe_open(tmp_path / f"{name}.safetensors", framework="pt") as file:
            facts = {key: json.loads(value) for key, value in file.metadata().items()}
        assert facts["model"] == "lenet" and facts["seed"] == 5 and facts["epoch"] == 1
        assert facts["labels"] == ["bottom", "middle", "top"] and facts["options"] == {"classes": 3}
        measured = set(facts["accuracy"])
        assert measured == {"validation"} | ({f"test{k}" for k in TESTED} if name == "final" else set())
        assert facts["accuracy"] == {key: lines[0][key] for key in measured}
        assert facts["data"]["split"] == {"fraction": 0.2, "validation": 0.1, "per_category": None}
        assert facts["data"]["pictures"] == {"train": 30, "validation": 6, "test": 12}
        seen = deconvviz.load("lenet", tmp_path / f"{name}.safetensors").seen
        assert seen is not None and len(seen.trained) == 30 and len(seen.chosen) == 6
        assert likeness.known(data.hashes[parts.train + parts.validation], seen.trained).sum() >= 30
        assert facts["data"]["source"] == "mine" and len(facts["data"]["fingerprint"]) == 64
        assert facts["recipe"]["name"] == "full" and facts["recipe"]["stages"] == [[1, 28]]
        assert facts["teacher"] is None and facts["start"] is None


def test_best_is_the_first_of_the_highest_accuracy(folder: Path, full: Recipe, tmp_path: Path) -> None:
    recipe = replace(full, stages=((7, 0),), ema=0.0, lr=2e-2)
    lines = train("lenet", folder, tmp_path, recipe=recipe, workers=0)
    scores = [line["validation"] for line in lines]
    with safe_open(tmp_path / "best.safetensors", framework="pt") as file:
        best = json.loads(file.metadata()["epoch"])
    assert best == 1 + scores.index(max(scores))
    # That is what the run comes to, and what the test pictures are looked at with.
    with safe_open(tmp_path / "final.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["epoch"]) == best
    final, chosen = (load_file(tmp_path / f"{name}.safetensors") for name in ("final", "best"))
    assert same(final, {key: value.half() for key, value in chosen.items()})
    data, net = read_data(folder, 1, 28), deconvviz.load("lenet", tmp_path / "final.safetensors")
    found = score(net.module, net.card, data, split(data).test, 28)
    assert (lines[-1]["test"], lines[-1]["test_error"]) == found and not any("test" in line for line in lines[:-1])


def test_without_validation_pictures_the_last_epoch_counts(folder: Path, full: Recipe, tmp_path: Path) -> None:
    lines = train("lenet", folder, tmp_path, recipe=full, workers=0, validation=0)
    assert not any("validation" in line for line in lines) and "test" in lines[-1]
    assert not (tmp_path / "best.safetensors").exists()
    final, last = (load_file(tmp_path / f"{name}.safetensors") for name in ("final", f"epoch{len(lines)}"))
    assert same(final, {key: value.half() for key, value in last.items()})


def test_the_best_counts_only_at_the_last_size() -> None:
    run = Run.__new__(Run)
    line: dict[str, Any] = {"size": 20, "validation": 0.9, "epoch": 1}
    run.metrics = [line]
    assert run.best() == 1
    run.metrics = [line, {**line, "size": 28, "epoch": 2}, {**line, "size": 28, "validation": 0.5, "epoch": 3}]
    assert run.best() == 2
    run.metrics = [line, {"size": 28, "epoch": 2}]
    assert run.best() is None


def test_frozen_layers_stay_and_at_the_end_the_head_learns_alone(folder: Path, full: Recipe, tmp_path: Path) -> None:
    recipe = replace(full, stages=((5, 28),), head=3, ema=0.0, filter_rms=0.0, mixup=0.4)
    recipe = replace(recipe, factors=(("features.conv1.", 0.0),))
    train("lenet", folder, tmp_path, recipe=recipe, workers=0)
    first, second, last = (load_file(tmp_path / f"epoch{n}.safetensors") for n in (1, 2, 5))
    moved = {key for key in last if not torch.equal(last[key], second[key])}
    assert moved and all(key.startswith("classifier.") for key in moved)
    early = {key for key in last if not torch.equal(first[key], second[key])}
    assert any(key.startswith("features.") for key in early) and "features.conv1.weight" not in early


def test_tests_are_as_rare_as_wanted(folder: Path, full: Recipe, tmp_path: Path) -> None:
    recipe = replace(full, stages=((8, 0),), initialisation="model")
    lines = train("lenet", folder, tmp_path, recipe=recipe, workers=0, test_every=3)
    assert [line["epoch"] for line in lines if "validation" in line] == [1, 2, 3, 5, 6, 8]
    curves = learning_curves(tmp_path)
    assert curves.epochs.tolist() == list(range(1, 9)) and curves.sizes.tolist() == [28] * 8
    assert curves.loss.tolist() == [line["loss"] for line in lines]
    assert curves.test.isnan().tolist() == ["validation" not in line for line in lines] and curves.part == "validation"
    assert curves.test_ten_crops == lines[-1]["test_ten_crops"]
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG" and (tmp_path / "curves.pdf").exists()


def test_what_is_being_done_is_told(folder: Path, full: Recipe, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    train("lenet", folder, tmp_path, recipe=full, epochs=1, workers=0, shown=lambda *what: seen.append(what))
    order = list(dict.fromkeys(what for what, _, _ in seen))
    assert order == ["reading", "initialisation", "epoch 1"]
    assert [s for s in seen if s[0] == "epoch 1"] == [("epoch 1", n, 4) for n in range(5)]
    assert all(0 <= done <= total for _, done, total in seen)


def test_nothing_that_is_there_is_lost_unasked(folder: Path, full: Recipe, tmp_path: Path) -> None:
    (tmp_path / "curves.png").write_text("the user's own")
    with pytest.raises(DeconvvizValueError, match=r"curves.png is there already; give fresh to overwrite it$"):
        train("lenet", folder, tmp_path, recipe=full, epochs=1, workers=0)
    assert (tmp_path / "curves.png").read_text() == "the user's own"
    train("lenet", folder, tmp_path, recipe=full, epochs=1, workers=0, fresh=True)
    with pytest.raises(DeconvvizValueError, match=r"last.pt is there already; give resume to go on, or fresh to"):
        train("lenet", folder, tmp_path, recipe=full, epochs=1, workers=0)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.*")}
    link = tmp_path.parent / "by-another-name.safetensors"
    link.symlink_to(tmp_path / "final.safetensors")
    for given in (tmp_path / "final.safetensors", link):
        with pytest.raises(DeconvvizValueError, match="is read by this run, which would overwrite it"):
            train("lenet", folder, tmp_path, recipe=full, epochs=1, workers=0, weights=given, fresh=True)
    assert {path: path.read_bytes() for path in tmp_path.glob("*.*")} == before
    train("lenet", folder, tmp_path / "next", recipe=full, epochs=1, workers=0, weights=link)


def test_progress_counts_the_steps_of_all_epochs(folder: Path, full: Recipe, tmp_path: Path) -> None:
    said: list[tuple[int, int]] = []
    train("lenet", folder, tmp_path, recipe=full, epochs=3, workers=0, progress=lambda *n: said.append(n))
    assert said == [(n, 12) for n in range(1, 13)]
    with pytest.raises(DeconvvizTypeError, match=r"progress is 'yes'; allowed: True, a callable"):
        train("lenet", folder, tmp_path / "b", recipe=full, epochs=1, workers=0, progress="yes")  # type: ignore[arg-type]


def test_bfloat16_trains_and_writes_float32(folder: Path, full: Recipe, tmp_path: Path) -> None:
    recipe = replace(full, augmentation=Augmentation(), stages=((6, 0),))
    lines = train("lenet", folder, tmp_path, recipe=recipe, workers=0, precision="bfloat16")
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    state = load_file(tmp_path / "epoch1.safetensors")
    assert {v.dtype for v in state.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ((1, 28),), "epochs": 2}, "either stages or epochs"),
        ({"stages": ((0, 28),)}, "stages are"),
        ({"stages": ()}, "stages are"),
        ({"flip": 1.5}, "flip is 1.5; allowed: 0 to 1"),
        ({"precision": "float16"}, "precision is 'float16'; allowed: float32, bfloat16"),
        ({"batch": 0}, "batch is 0; allowed: above 0"),
    ],
)
def test_changes_that_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DeconvvizValueError, match=message):
        train("lenet", tmp_path, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_changes_of_a_recipe() -> None:
    recipe = RECIPES["zfnet"]
    assert Changes(epochs=66).apply(recipe).stages == ((39, 128), (17, 160), (10, 224))
    assert Changes(epochs=1).apply(recipe).epochs == 1
    assert Changes(size=64).apply(recipe).stages == ((94, 64),)
    changed = Changes(stages=((5, 64), (1, 128)), flip=0.0, precision="bfloat16", batch=32, lr=0.5).apply(recipe)
    assert changed.stages == ((5, 64), (1, 128)) and changed.augmentation == replace(recipe.augmentation, flip=0.0)
    assert (changed.precision, changed.batch, changed.lr) == ("bfloat16", 32, 0.5)
    assert Changes().apply(recipe) == recipe


def test_a_size_that_the_network_does_not_take(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DeconvvizValueError, match="lenet does not take inputs of size 32"):
        train("lenet", folder, tmp_path / "out", stages=((1, 28), (1, 32)))
