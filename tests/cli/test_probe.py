"""`deconvviz probe` from end to end, on a network that only the test knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from deconvviz import cli
from deconvviz.analyses.probes.result import Probes

SOURCE = """
import torch
from torch import nn
from deconvviz import Network

def make():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU()]
    return Network(nn.Sequential(*layers), 16, (0.5,) * 3, (0.25,) * 3, aliases={"1": "0", "2": "2"})
"""


@pytest.fixture
def place(tmp_path: Path, network: Callable[[str, str], None]) -> Path:
    """A folder to work in, with a network and two categories of pictures."""
    network("probed_for_tests", SOURCE)
    for label, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        (tmp_path / "data" / label).mkdir(parents=True)
        for k in range(5):
            Image.new("RGB", (20, 20), tuple(c - 20 * k * (c > 0) for c in colour)).save(
                tmp_path / "data" / label / f"{k}.png"
            )
    return tmp_path


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["probe", "--model", "probed_for_tests:make", *args])
    return int(stopped.value.code or 0)


def test_writes_a_picture_and_prints_the_table(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--data", "data", "--per-category", "2", "--table", "latex") == 0
    out = capsys.readouterr().out
    assert r"SVM (1)" in out and r"\toprule" in out and "100.0" in out and out.endswith("Sequential-probes.png\n")
    assert (place / "Sequential-probes.png").stat().st_size > 1000


def test_layers_and_counts_as_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--data", "data", "--layer", "2", "--per-category", "1", "--per-category", "3", "--splits", "2"]
    assert run(*args, "--held-out", "none", "--out", "a.npz", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["layers"] == ["2"] and facts["per_category"] == [1, 3] and facts["policy"]["held_out"] is None
    assert facts["mean"][0][1] == 1.0 and Probes.load("a.npz").categories == ("blue", "red")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--data", "no"], "no"),
        (["--data", "data/red"], "one folder of pictures per category"),
        (["--data", "data", "--layer", "9"], "'9'"),
        (["--data", "data", "--held-out", "some"], "some"),
        (["--data", "data", "--out", "a.gif"], ".gif"),
    ],
)
def test_wrong_usage_is_2_and_one_line(
    place: Path, args: list[str], said: str, said_in_one_line: Callable[[str], None]
) -> None:
    assert run(*args) == 2
    said_in_one_line(said)


def test_ctrl_c_is_130_and_leaves_nothing(place: Path, ctrl_c_in: Callable[[str], None]) -> None:
    ctrl_c_in("deconvviz.analyses.probes.compute.features")
    assert run("--data", "data") == 130 and not list(place.glob("*.png"))
