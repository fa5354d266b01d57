"""`deconvviz compare` from end to end: one picture, several, a unit, and what is wrong usage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvviz import cli
from deconvviz.analyses.comparison.result import Comparison, Comparisons

QUICK = ("--steps", "4", "--subsets", "2", "--methods", "gradient,occlusion, random")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["compare", "--model", "lenet", *arguments])
    return int(stopped.value.code or 0)


def test_one_picture(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*QUICK, "a.png") == 0
    out = capsys.readouterr().out
    assert (pictures / "a-lenet-comparison.png").is_file() and out.endswith("a-lenet-comparison.png\n")
    assert out.splitlines()[0].split()[:2] == ["method", "deletion"] and "over random" in out
    assert run(*QUICK, "--json", "--out", "r.npz", "--target", "3", "a.png") == 0
    facts, loaded = json.loads(capsys.readouterr().out), Comparison.load("r.npz")
    assert loaded.target == 3 and loaded.methods == ("gradient", "occlusion", "random")
    assert facts["deletion_auc"]["gradient"] == pytest.approx(float(loaded.deletion_auc[0]))


def test_several_pictures_and_tables(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.full((30, 30, 3), 90, np.uint8)).save(pictures / "b.png")
    assert run(*QUICK, "--table", "latex", "--format", "npz", "a.png", "b.png") == 0
    assert r"\toprule" in capsys.readouterr().out
    loaded = Comparisons.load(pictures / "lenet-comparison.npz")
    assert loaded.names == ("a.png", "b.png") and loaded.policy["steps"] == 4


def test_a_unit(pictures: Path) -> None:
    assert run(*QUICK, "--mode", "unit", "--layer", "conv2", "--unit", "3", "--format", "npz", "a.png") == 0
    loaded = Comparison.load(pictures / "a-lenet-comparison-conv2-u3.npz")
    assert (loaded.mode, loaded.target, loaded.alias) == ("unit", 3, "conv2")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "grad-camm"], "did you mean 'grad-cam'"),
        (["--mode", "unit"], "give the layer"),
        (["--unit", "3"], "unit goes with"),
        (["--layer", "conv9"], "conv9"),
        (["--fill", "gray"], "fill is 'gray'"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments, "a.png") == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not list(pictures.glob("*comparison*"))


def test_a_picture_that_cannot_be_read_is_named_and_loses_no_other(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.full((30, 30, 3), 90, np.uint8)).save(pictures / "b.png")
    (pictures / "broken.png").write_bytes(b"no picture")
    assert run(*QUICK, "--format", "npz", "a.png", "broken.png", "b.png") == 1
    said = capsys.readouterr().err
    assert "broken.png" in said and "1 of 3 pictures failed" in said
    assert Comparisons.load(pictures / "lenet-comparison.npz").names == ("a.png", "b.png")
    (pictures / "worse.png").write_bytes(b"")
    assert run(*QUICK, "broken.png", "worse.png") == 1
    assert "none of the pictures can be read" in capsys.readouterr().err
