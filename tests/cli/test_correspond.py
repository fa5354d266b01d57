"""`deconvviz correspond` from end to end, on a small network that only the test knows; the example's boxes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvviz import cli
from deconvviz.analyses.correspondence.result import Correspondence

SOURCE = """
import torch
from torch import nn
from deconvviz import Network

def make():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 6), nn.ReLU(), nn.Linear(6, 3)]
    return Network(nn.Sequential(*layers), 32, (0.5,) * 3, (0.25,) * 3, None, {"5": "0", "7": "3"})
"""
BOXES = {"left eye": [10, 12, 16, 20], "nose": [18, 16, 26, 24]}


@pytest.fixture
def place(tmp_path: Path, network: Callable[[str, str], None]) -> Path:
    """A folder to work in with a network, three pictures in a folder and boxes for them."""
    network("tiny_for_correspond", SOURCE)
    (tmp_path / "photos").mkdir()
    for k in range(3):
        noise = np.random.default_rng(k).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{k}.png")
    entries = [{"file": f"{k}.png", "parts": BOXES} for k in range(3)]
    (tmp_path / "heads.json").write_text(json.dumps({"images": entries}))
    return tmp_path


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["correspond", "--model", "tiny_for_correspond:make", "--parts", "heads.json", *args])
    return int(stopped.value.code or 0)


def test_a_table_and_a_figure(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--images", "photos", "--random", "2") == 0
    out, err = capsys.readouterr()
    assert err == "" and out.splitlines()[-1] == "heads-Sequential-correspondence.png"
    assert out.splitlines()[0].split() == ["Covered", "part", "Layer", "5", "Layer", "7"]
    assert (place / "heads-Sequential-correspondence.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("kind", "start"), [("markdown", "| Covered part |"), ("latex", r"\begin{table}")])
def test_tables_to_paste_stand_alone(place: Path, kind: str, start: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--images", "photos", "--random", "0", "--table", kind, "--out", "r.npz") == 0
    out, err = capsys.readouterr()
    assert out.startswith(start) and "r.npz" not in out and err == "r.npz\n"


def test_options_reach_the_result(place: Path) -> None:
    options = ["--layer", "7", "--layer", "1", "--normalise", "active", "--random", "3", "--seed", "4", "--fill", "0.5"]
    assert run("--images", "photos", *options, "--out", "r.npz") == 0
    r = Correspondence.load(place / "r.npz")
    assert r.layers == ("7", "1") and r.random.shape[1] == 3 and r.names == ("0.png", "1.png", "2.png")
    assert r.policy["seed"] == 4 and r.policy["fill"] == [0.5] * 3 and "either" in r.policy["share of"]


def test_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--images", "photos", "--random", "1", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parts"] == ["left eye", "nose"] and set(facts["delta"]) >= {"left eye", "random"}
    assert (place / facts["file"]).is_file()


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 1, "no such picture"),
        (["--images", "photos", "--layer", "9"], 2, "unknown layer '9'"),
        (["--images", "photos", "--fill", "edge"], 2, "fill is 'edge'; allowed: 'grey', a number"),
        (["--images", "nowhere"], 2, "nowhere"),
        (["--images", "photos", "--table", "word"], 2, "'word' is not one of"),
        (["--images", "photos", "--out", "r.gif"], 2, "cannot write .gif"),
    ],
)
def test_wrong_usage(place: Path, args: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*args) == code
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
    assert not list(place.glob("*.png"))


def test_interrupted_leaves_nothing(
    place: Path, ctrl_c_in: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    ctrl_c_in("deconvviz.analyses.correspondence.compute.draw_boxes")
    assert run("--images", "photos") == 130
    assert capsys.readouterr().err.strip() == "deconvviz: interrupted"
    assert not list(place.glob("*.png"))


def test_the_example_s_boxes_are_well_formed() -> None:
    faces = json.loads((Path(__file__).parents[2] / "demos" / "faces.json").read_text(encoding="utf-8"))
    assert len(faces["images"]) >= 5 and len({e["file"] for e in faces["images"]}) == len(faces["images"])
    for entry in faces["images"]:
        assert entry["file"].startswith("Faces_easy/image_")
        assert list(entry["parts"]) == ["left eye", "right eye", "nose", "mouth"]
        left, right, nose, mouth = entry["parts"].values()
        for top, start, bottom, end in (left, right, nose, mouth):
            assert 20 <= bottom - top <= 50 and 30 <= end - start <= 75
        assert left[3] < right[1] and left[2] <= nose[2] <= mouth[0] and left[1] < nose[1] < nose[3] < right[3]
