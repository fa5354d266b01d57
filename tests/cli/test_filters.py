"""`deconvviz filters` from end to end, on a network that only the test knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvviz import cli
from deconvviz.analyses.filters.result import Filters

SOURCE = """
import torch
from torch import nn
from deconvviz import Network

def make():
    torch.manual_seed(0)
    return Network(nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU()), input_size=32, mean=(0.5,) * 3, std=(0.25,) * 3)
"""


@pytest.fixture
def place(tmp_path: Path, network: Callable[[str, str], None]) -> Path:
    network("filters_for_tests", SOURCE)
    return tmp_path


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["filters", *args])
    return int(stopped.value.code or 0)


def test_writes_a_picture_and_tells_the_counts(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", "filters_for_tests:make") == 0
    out = capsys.readouterr().out
    assert out.endswith("Sequential-filters.png\n") and "aliased" in out and "3×3" in out
    assert (place / "Sequential-filters.png").stat().st_size > 1000


def test_two_networks_as_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    (place / "photos").mkdir()
    Image.fromarray(picture).save(place / "photos" / "a.png")
    args = ["--model", "filters_for_tests:make", "--against", "lenet", "--against-weights", "random"]
    assert run(*args, "--images", "photos", "--out", "both.npz", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["pictures"] == 1 and len(facts["fires"]) == 6 and facts["other"]["filters"] == 6
    assert Filters.load(facts["file"]).facts()["dominance"] == facts["dominance"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--model", "lenet", "--layer", "conv9"], "conv9"),
        (["--model", "lenet", "--against-weights", "random"], "--against"),
        (["--model", "lenet", "--out", "a.gif"], ".gif"),
        (["--model", "lenet", "--out", "no/a.png"], "does not exist"),
        (["--model", "lenet", "--format", "pdf", "--out", "a.png"], "contradicts"),
        (["--model", "nonet"], "nonet"),
    ],
)
def test_wrong_usage_is_2_and_one_line(
    place: Path, args: list[str], said: str, said_in_one_line: Callable[[str], None]
) -> None:
    assert run(*args) == 2
    said_in_one_line(said)
