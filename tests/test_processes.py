"""Several processes give the weights of one with the same batches; only the first writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

import deconvviz
from deconvviz.models.recipes import RECIPES
from deconvviz.processes import Team
from deconvviz.training import leads, train


def test_two_processes_of_torchrun_give_the_weights_of_one(folder: Path, tmp_path: Path) -> None:
    settings = {"epochs": 2, "batch": 8, "seed": 3}
    options = [f"--{name}={value}" for name, value in (settings | {"workers": 0}).items()]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    command = ["deconvviz", "train", "--model=lenet", f"--data={folder}", f"--out={tmp_path / 'two'}", *options]
    done = subprocess.run([*torchrun, *command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1  size 28") == 1 and done.stdout.count("final.safetensors") == 1
    lines = train("lenet", folder, tmp_path / "one", workers=0, **settings)
    assert f"loss {lines[1]['loss']:.3f}" in done.stdout and f"test {lines[1]['test']:.2%}" in done.stdout
    one, two = (load_file(tmp_path / name / "epoch2.safetensors") for name in ("one", "two"))
    start = deconvviz.load("lenet", "random", classes=3, seed=3).module.state_dict()
    for key in one:
        moved = (one[key] - start[key]).norm()
        assert (one[key] - two[key]).norm() < 1e-3 * moved  # a rounding is all that differs
    assert not RECIPES["lenet"].batch_norm  # its statistics would be those of a share of the batch


def test_a_team_of_one_exchanges_nothing() -> None:
    team, x = Team(), torch.ones(3)
    team.add_([x])
    team.average_([x])
    team.follow_([x])
    team.wait()
    assert team.leads and leads() and x.tolist() == [1, 1, 1]
