"""`deconvviz evolve` from end to end, on a run of LeNet with random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import deconvviz
from deconvviz import cli
from deconvviz.analyses.evolution.result import Evolution
from deconvviz.network.checkpoints import note_run
from deconvviz.network.weights import write_weights


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a run and a folder of pictures."""
    (tmp_path / "run").mkdir()
    (tmp_path / "photos").mkdir()
    for k, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{k}.png")
    for epoch in (1, 2):
        state = deconvviz.load("lenet", "random", seed=epoch).module.state_dict()
        write_weights(tmp_path / "run" / f"epoch{epoch}.safetensors", state, {"model": "lenet"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evolve", *args])
    return int(stopped.value.code or 0)


def test_a_run_that_knows_its_pictures_needs_nothing_else(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note_run(place / "run", "lenet", place / "photos")
    assert run("--run", "run", "--count", "2") == 0
    out = capsys.readouterr().out
    assert out.endswith("run-evolution.png\nrun-evolution-convergence.png\n") and "epoch 2" in out
    assert {p.name for p in place.glob("*.png")} == {"run-evolution.png", "run-evolution-convergence.png"}


def test_chosen_layers_and_units_as_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--run", "run", "--images", "photos", "--layer", "1-2", "--unit", "3,0-1", "--most", "2"]
    assert run(*args, "--out", "made", "--format", "npz", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["files"] == ["made/run-evolution.npz"] and facts["pictures"] == 2 and facts["epochs"] == [1, 2]
    result = Evolution.load(facts["files"][0])
    assert [x.units.tolist() for x in result.layers] == [[3, 0, 1]] * 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--run", "photos", "--images", "photos"], "holds no checkpoint"),
        (["--run", "run"], "give images"),
        (["--run", "no"], "no"),
        (["--run", "run", "--images", "photos", "--layer", "9"], "'9'"),
        (["--run", "run", "--images", "photos", "--layer", "3-1"], "3-1"),
        (["--run", "run", "--images", "photos", "--unit", "99"], "unit 99"),
        (["--run", "run", "--images", "photos", "--out", "a.gif"], ".gif"),
        (["--run", "run", "--images", "photos", "--model", "nonet"], "nonet"),
    ],
)
def test_wrong_usage_is_2_and_one_line(
    place: Path, args: list[str], said: str, said_in_one_line: Callable[[str], None]
) -> None:
    assert run(*args) == 2
    said_in_one_line(said)


def test_ctrl_c_is_130_and_leaves_nothing(place: Path, ctrl_c_in: Callable[[str], None]) -> None:
    ctrl_c_in("deconvviz.analyses.evolution.compute.features")
    assert run("--run", "run", "--images", "photos") == 130 and not list(place.glob("*evolution*"))
