"""`deconvviz invariance` from end to end, on a small network that only the test knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from deconvviz import cli
from deconvviz.analyses.invariance.result import Invariance
from deconvviz.cli._common import parse_fill
from deconvviz.cli.invariance import KINDS, parse_values
from deconvviz.data.transforms import TRANSFORMS

SOURCE = """
import torch
from torch import nn
from deconvviz import Network

def make():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 6), nn.ReLU(), nn.Linear(6, 3)]
    labels, aliases = ("ant", "bass", "7"), {"1": "0", "2": "3"}
    return Network(nn.Sequential(*layers), 32, (0.5,) * 3, (0.25,) * 3, labels, aliases)
"""


@pytest.fixture
def place(tmp_path: Path, network: Callable[[str, str], None]) -> Path:
    """A folder to work in with a network, and pictures in folders named like its classes and otherwise."""
    network("tiny_for_invariance", SOURCE)
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for k, name in enumerate(("ant/a.png", "bass/b.png", "other/c.png")):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(np.roll(noise, k, 0)).save(tmp_path / name)
    return tmp_path


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["invariance", "--model", "tiny_for_invariance:make", *args])
    return int(stopped.value.code or 0)


def test_one_picture_makes_one_figure(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ant/a.png") == 0
    out, err = capsys.readouterr()
    assert out == "a-Sequential-invariance.png\n" and err == ""
    assert (place / out.strip()).read_bytes().startswith(b"\x89PNG")


def test_options_reach_the_result(place: Path) -> None:
    options = ["--translation", "-4:4:2", "--transform", "flip", "--scale", "1,1.5", "--fill", "reflect", "--low", "2"]
    assert run(*options, "--label", "bass", "--out", "r.npz", "ant/a.png", "other") == 0
    result = Invariance.load(place / "r.npz")
    assert result.names == ("a.png", "c.png") and result.labels == ("bass", "bass") and result.layers == ("2", "2")
    assert result.transforms == ("translation", "scale", "flip") and result.policy["fill"] == "reflect"
    assert result.values.tolist() == [-4, -2, 0, 2, 4, 1, 1.5, 0, 1]


def test_labels_from_folders_by_number_and_by_name(place: Path) -> None:
    few = ["--transform", "flip", "--overwrite", "--out", "r.npz"]
    assert run(*few, "ant/a.png", "bass/b.png") == 0
    assert Invariance.load(place / "r.npz").labels == ("ant", "bass")
    assert Invariance.load(place / "r.npz").policy["labels"] == "given"
    assert run(*few, "ant/a.png", "other/c.png") == 0
    assert Invariance.load(place / "r.npz").policy["labels"] == "own top class"
    assert run(*few, "--label", "1", "--label", "7", "ant/a.png", "other/c.png") == 0
    assert Invariance.load(place / "r.npz").targets == (1, 2), "'7' is a label of this network, '1' is not"


def test_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json", "--transform", "flip", "ant", "bass") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["file"] == "Sequential-invariance.png" and facts["labels"] == ["ant", "bass"]
    assert facts["curves"]["flip"]["values"] == [0, 1] and (place / facts["file"]).is_file()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--translation", "1:2", "ant/a.png"], "--translation: '1:2' is not START:STOP:STEP"),
        (["--scale", "0", "ant/a.png"], "a value of scale is 0; allowed: numbers above 0"),
        (["--transform", "shear", "ant/a.png"], "'shear' is not one of"),
        (["--label", "cat", "ant/a.png"], "'cat' is not a label"),
        (["--label", "ant", "--label", "bass", "ant/a.png"], "labels has 2 for 1 pictures"),
        (["--fill", "gray", "ant/a.png"], "did you mean 'grey'"),
        (["--low", "9", "ant/a.png"], "unknown layer '9'"),
        (["nowhere.png"], "nowhere.png"),
        (["--out", "r.gif", "ant/a.png"], "cannot write .gif"),
    ],
)
def test_wrong_usage(place: Path, args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*args) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
    assert not [p for p in place.iterdir() if p.suffix in (".png", ".npz", ".part")]


def test_interrupted_leaves_nothing(
    place: Path, ctrl_c_in: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    ctrl_c_in("deconvviz.data.transforms._sample")
    assert run("ant/a.png") == 130
    assert capsys.readouterr().err.strip() == "deconvviz: interrupted"
    assert not list(place.glob("*invariance.png"))


def test_values() -> None:
    assert parse_values("-60:60:30", "--t") == [-60, -30, 0, 30, 60]
    assert parse_values("1:1.8:0.1", "--t") == [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8]
    assert parse_values("10:0:-5", "--t") == [10, 5, 0] and parse_values("0:1:0.4", "--t") == [0, 0.4, 0.8]
    assert parse_values("1,2.5", "--t") == [1, 2.5] and parse_values("3", "--t") == [3]
    for wrong in ("", "a", "1:2:0", "1:2:-1", "0:1:1e-9", "1:2:3:4", "1,,2"):
        with pytest.raises(click.BadParameter, match="is not START:STOP:STEP"):
            parse_values(wrong, "--t")


def test_fills_and_names() -> None:
    assert parse_fill("edge") == "edge" and parse_fill("-1.5") == -1.5 and parse_fill("0,0,1") == [0, 0, 1]
    assert tuple(TRANSFORMS) == KINDS
