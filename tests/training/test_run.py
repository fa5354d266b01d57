"""The loss falls, a resumed run is the same run, what is written loads."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import deconvviz
from deconvviz.errors import DeconvvizValueError, UnknownNameError
from deconvviz.models.recipes import Augmentation, Recipe
from deconvviz.training import accuracy, read_data, split, train


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
        *(f"epoch{n}.safetensors" for n in (1, 2, 5, 10)),
        "best.safetensors",
        "final.safetensors",
    }
    data = read_data(folder, 1, 28)
    net = deconvviz.load("lenet", out / "final.safetensors")
    assert net.card.labels == ("bottom", "middle", "top") and not net.module.training
    assert accuracy(net.module, net.card, data, split(data)[1], 28) == 1.0
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
    for name in ("final.safetensors", "epoch2.safetensors"):
        assert same(load_file(whole / name), load_file(parts / name))
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
    (out / "epoch64.safetensors").touch()
    train("lenet", folder, out, recipe=full, epochs=1, workers=0, fresh=True)
    assert not (out / "epoch64.safetensors").exists()  # of the earlier run
    with pytest.raises(UnknownNameError, match="'zfnet'"):
        train("lenet", folder, out, recipe="zfnt", fresh=True)


def test_killed_at_any_moment_it_resumes_bit_equal(folder: Path, full: Recipe, tmp_path: Path) -> None:
    recipe = replace(full, stages=((3, 28),))
    train("lenet", folder, tmp_path / "whole", recipe=recipe, workers=0)
    # Children that die without a word: at the start, within an epoch, just before a file appears, after some did.
    code = f"""
import os, signal, sys
from pathlib import Path
import torch
from deconvviz.models.recipes import Augmentation, Recipe, Teaching
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
    for name in ("final.safetensors", "epoch1.safetensors", "epoch2.safetensors", "best.safetensors"):
        assert same(load_file(tmp_path / "whole" / name), load_file(tmp_path / "killed" / name))
    assert (tmp_path / "whole" / "metrics.jsonl").read_bytes() == (tmp_path / "killed" / "metrics.jsonl").read_bytes()
