"""`deconvviz train`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors import safe_open

from deconvviz.cli import cli
from deconvviz.cli._progress import Stages
from deconvviz.cli.train import _report


def test_command(folder: Path, tmp_path: Path) -> None:
    args = ["train", "--model", "lenet", "--data", str(folder), "--out", str(tmp_path / "out")]
    args += ["--epochs", "1", "--batch", "8", "--workers", "0"]
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == 0, done.output
    assert "epoch 1  size 28  loss" in done.output and "1 pictures could not be read" in done.output
    again = CliRunner().invoke(cli, args)
    assert again.exit_code == 2 and "--resume" in again.output
    assert CliRunner().invoke(cli, [*args, "--resume"]).exit_code == 0


def test_straight_into_evolution(folder: Path, tmp_path: Path) -> None:
    args = ["train", "--model", "lenet", "--data", str(folder), "--out", str(tmp_path / "run"), "--evolve"]
    done = CliRunner().invoke(cli, [*args, "--epochs", "3", "--batch", "8", "--workers", "0"])
    assert done.exit_code == 0, done.output
    assert "epoch 1  epoch 2  epoch 3" in done.output  # the last one too, whatever its number
    assert {p.name for p in (tmp_path / "run").glob("run-evolution*")} == {
        "run-evolution.png",
        "run-evolution-convergence.png",
    }


def test_options_of_the_recipe_reach_the_run(folder: Path, tmp_path: Path) -> None:
    args = ["train", "--model", "lenet", "--data", str(folder), "--out", str(tmp_path / "out"), "--workers", "0"]
    args += ["--stages", "1x28, 2x28", "--batch", "8", "--flip", "1", "--precision", "bfloat16", "--teacher", "lenet"]
    done = CliRunner().invoke(cli, [*args, "--size", "28"])
    assert done.exit_code == 2 and "--stages contradicts" in done.output
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == 0, done.output
    assert "epoch 3  size 28" in done.output
    with safe_open(tmp_path / "out" / "final.safetensors", framework="pt") as file:
        facts = {key: json.loads(value) for key, value in file.metadata().items()}
    assert facts["recipe"]["augmentation"]["flip"] == 1 and facts["recipe"]["precision"] == "bfloat16"
    assert facts["teacher"][0] == "lenet"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stages", "5by112"], "'5by112' is not of the form"),
        (["--stages", "0x112"], "'0x112' is not of the form"),
        (["--teacher-weights", "w.pth"], "--teacher-weights needs --teacher"),
        (["--flip", "2"], "not in the range"),
    ],
)
def test_options_that_are_refused(options: list[str], message: str, tmp_path: Path) -> None:
    args = ["train", "--model", "lenet", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, [*args, *options])
    assert done.exit_code == 2 and message in done.output
    assert not (tmp_path / "out").exists()


def test_bars_come_and_go_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Stages() as bars:
        bars.report("reading", 1, 2)
        bars.report("epoch 1", 0, 3)
        assert bars._bar is not None and bars._bar._bar is not None
        assert [task.description for task in bars._bar._bar._bar.tasks] == ["epoch 1"]
        bars.report("epoch 1", 2, 3)
        assert bars._bar._bar._bar.tasks[0].completed == 2 and bars._bar._bar._bar.tasks[0].total == 3
        bars.report("epoch 1", 3, 3)
        assert bars._bar is None
        _report(bars, {"epoch": 1, "size": 28, "loss": 0.5, "train": 0.25, "validation": 0.125})
    assert capsys.readouterr().out == "epoch 1  size 28  loss 0.5000  train 25.00%  validation 12.50%\n"
