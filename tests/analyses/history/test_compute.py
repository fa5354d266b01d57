"""The history of ILSVRC: the usual mistake is not made, and the sizes are those of the networks themselves."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import deconvviz
from deconvviz import cli
from deconvviz.analyses.history.compute import ENTRIES, depth, size_of
from deconvviz.analyses.history.result import History

NEEDS_TIMM = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="SENet-154 is timm's")


@pytest.fixture(scope="module")
def result() -> History:
    return deconvviz.history()


def test_zfnet_did_not_win(result: History) -> None:
    winners = {e.year: e.team for e in result.winners()}
    assert winners[2013] == "Clarifai" and winners[2012] == "SuperVision" and len(winners) == 8
    (own,) = [e for e in result.entries if e.team == "ZF"]
    assert own.place == 3 and own.error > next(e.error for e in result.winners() if e.year == 2013)


def test_places_follow_the_errors(result: History) -> None:
    for year in range(2010, 2018):
        errors = [e.error for e in result.entries if e.year == year]
        assert len(errors) >= 2 and errors == sorted(errors)
    assert all(e.extra is None or e.extra < e.error for e in result.entries)


@pytest.mark.parametrize(
    ("name", "layers", "parameters"),
    [
        ("alexnet", 8, 61_100_840),
        ("zfnet", 8, 62_357_608),
        ("vgg19", 19, 143_667_240),
        ("googlenet", 22, 6_624_904),
        ("resnet152", 152, 60_192_808),
        ("resnext101", 101, 88_791_336),
        pytest.param("senet154", 154, 115_088_984, marks=NEEDS_TIMM),
    ],
)
def test_sizes_are_the_published_ones(name: str, layers: int, parameters: int) -> None:
    assert size_of(name) == (layers, parameters)


class Branches(nn.Module):
    """Two convolutions beside one, then a gate with two linear layers, then one linear layer: depth 2 + 1."""

    def __init__(self) -> None:
        super().__init__()
        self.long = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.short = nn.Conv2d(3, 4, 1)
        self.gate = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 4), nn.Sigmoid())
        self.top = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.long(x) + self.short(x)
        x = x * self.gate(x.mean((2, 3)))[:, :, None, None]
        return self.top(x.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_depth_by_hand(device: str) -> None:
    with torch.device(device):
        module = Branches().eval()
    assert depth(module, (8, 8)) == 3


def test_a_missing_package_costs_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> tuple[int, int]:
        if name == "senet154":
            raise ImportError("this network needs the package timm")
        return 1, 2

    monkeypatch.setattr("deconvviz.analyses.history.compute.size_of", missing)
    found = deconvviz.history()
    assert len(found.entries) == len(ENTRIES)
    assert [e.network for e in found.entries if e.network and e.depth is None] == ["SENet-154"]


def test_table_and_facts(result: History) -> None:
    rows = [line for line in result.table("markdown").splitlines() if line.startswith("| 20")]
    assert len(rows) == len(ENTRIES)
    assert rows[8] == "| 2013 | 3 | ZF | 13.51 |  | ZFNet | 8 | 62.36 |"
    assert json.loads(json.dumps(result.facts()))["entries"][6]["team"] == "Clarifai"


def test_saved_and_loaded(result: History, tmp_path: Path) -> None:
    loaded = History.load(result.save(tmp_path / "h.npz"))
    assert loaded == result and loaded.entries[8].network == "ZFNet"


def test_the_chart_shows_the_numbers(result: History) -> None:
    errors, depths, sizes = result.figure().axes
    widths = [bar.get_width() for bar in errors.patches]
    assert [e.error for e in result.entries] == widths[: len(result.entries)]
    assert [bar.get_width() for bar in depths.patches] == [e.depth for e in result.entries if e.depth]
    assert [bar.get_width() * 1e6 for bar in sizes.patches] == pytest.approx(
        [e.parameters for e in result.entries if e.parameters]
    )


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["history", *args])
    return int(stopped.value.code or 0)


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("--table", "latex") == 0
    assert capsys.readouterr().out.startswith(r"\begin{table}") and not list(tmp_path.iterdir())
    assert run() == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "ilsvrc-history.png" and out[0].startswith("year") and Path(out[-1]).is_file()
    assert run("--json", "--out", "h.svg") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["file"] == "h.svg" and len(facts["entries"]) == len(ENTRIES)
    assert "Clarifai" in Path("h.svg").read_text(encoding="utf-8")
    assert run("--out", "h.doc") == 2
