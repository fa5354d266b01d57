"""The pages that need data, a run or parts, on the network of colours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from deconvviz import EvolutionCheckpoints, scan
from deconvviz.analyses.accuracy.result import Accuracy, Series
from deconvviz.analyses.correspondence.result import Correspondence
from deconvviz.analyses.evolution.result import Evolution
from deconvviz.analyses.panels.result import PanelsPage
from deconvviz.analyses.probes.result import Probes
from deconvviz.paper.accuracy import PAPER, make
from deconvviz.paper.book import make as make_page
from deconvviz.paper.pages import BY_NAME
from deconvviz.paper.sources import Sources
from deconvviz.paper.training_run import measured_epochs, settings
from deconvviz.training import train

from .conftest import colours


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three checkpoints, the upper layer further from the last one than the lower."""
    folder = tmp_path_factory.mktemp("run")
    keep = EvolutionCheckpoints(folder)
    for epoch, distance in ((1, 2.0), (2, 1.0), (5, 0.0)):
        net = colours()
        with torch.no_grad():
            net.module.conv2.weight.mul_(1 - distance / 2).add_(distance * 0.3)  # type: ignore[union-attr, operator]
        keep(net, epoch)
    return folder


@pytest.fixture(scope="module")
def everything(folder: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """The network with data, run and parts."""
    boxes = {"left": [4, 4, 12, 12], "right": [4, 14, 12, 22]}
    images = [{"file": f"red/{n}.png", "parts": boxes} for n in range(3)]
    parts = tmp_path_factory.mktemp("parts") / "parts.json"
    parts.write_text(json.dumps({"images": images}))
    return Sources(colours, data=folder, run=run, parts=parts)


def test_units_from_data_and_from_a_store(everything: Sources, folder: Path, tmp_path: Path) -> None:
    made = make_page(BY_NAME["figure2"], everything)
    (result,) = made.results.values()
    assert isinstance(result, PanelsPage) and {p.layer for p in result.panels} == {"conv1", "conv2"}
    assert "over 6 pictures" in made.caption  # two of each category of ten are held out
    scan(everything.net, folder, "2", store=tmp_path / "scan.db", workers=0).close()
    stored = make_page(BY_NAME["figure2"], Sources(colours, store=tmp_path / "scan.db"))
    (result,) = stored.results.values()
    assert isinstance(result, PanelsPage) and {p.layer for p in result.panels} == {"conv2"}
    assert "over 30 pictures" in stored.caption


def test_evolution_and_convergence(everything: Sources) -> None:
    evolution = make_page(BY_NAME["figure4"], everything)
    convergence = make_page(BY_NAME["convergence"], everything)
    (result,) = evolution.results.values()
    assert isinstance(result, Evolution) and result.epochs == (1, 2, 5)
    assert result is convergence.results["evolution"], "computed once"
    assert "epochs 1, 2 and 5" in evolution.caption and convergence.table is not None
    assert result.settled()[result.layers[0].name] == 1


def test_correspondence(everything: Sources) -> None:
    figure, table = (make_page(BY_NAME[name], everything) for name in ("figure8", "table1"))
    assert isinstance(figure.results["correspondence"], Correspondence)
    assert figure.results["correspondence"] is table.results["correspondence"]
    assert table.table is not None and [row[0] for row in table.table.rows][:2] == ["Left", "Right"]
    assert "right eye .067 ± .007" in table.caption


def test_probes(everything: Sources) -> None:
    made = make_page(BY_NAME["table7"], everything)
    result = made.results["table7"]
    assert isinstance(result, Probes) and result.layers == ("1", "2", "3") and result.spans == ((8, 8),)
    assert result.per_category == (8,), "15 and 30 were asked for, and no category has more"
    assert made.table is not None and len(made.table.columns) == 3, "no figures of the paper beside other categories"


def test_accuracy(everything: Sources) -> None:
    figure, table = (make_page(BY_NAME[name], everything) for name in ("figure9", "table4"))
    result = figure.results["accuracy"]
    assert isinstance(result, Accuracy) and result is table.results["accuracy"]
    assert [line.name for line in result.lines] == ["features of Colours, layer 3", "the same, random weights"]
    assert all(line.measured and line.counts == (1, 5, 8) for line in result.lines)
    # Layer 3 is one number a colour: the classifier cannot fail.
    assert result.lines[0].values[-1] == 1.0


def test_accuracy_beside_the_paper_and_a_run(
    everything: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is one of `train`: what it writes is what is read here."""
    run = tmp_path / "run"
    assert everything.data is not None
    lines = train("lenet", everything.data, run, epochs=2, batch=2, per_category=30, workers=0)
    reached = lines[-1].get("test_ten_crops", lines[-1]["test"])
    monkeypatch.setattr(Sources, "caltech", True)
    made = make(Sources(colours, data=everything.data, run=run), BY_NAME["table4"])
    result = made.results["accuracy"]
    assert isinstance(result, Accuracy)
    assert result.lines[0] == Series("trained from scratch, 2 epochs", True, (30,), (reached,))
    assert result.lines[-2:] == PAPER
    row = ("trained from scratch, 2 epochs", "measured", "", "", f"{100 * reached:.1f}")
    assert made.table is not None and made.table.columns[2:] == ("8 a category", "15 a category", "30 a category")
    assert made.table.rows[0] == row
    assert made.table.rows[-2] == ("trained from scratch", "paper", "", "22.8 ± 1.5", "46.5 ± 1.7")
    assert Accuracy.load(result.save(tmp_path / "a.npz")) == result


def test_a_run_without_per_category_is_no_row(everything: Sources) -> None:
    result = make_page(BY_NAME["table4"], everything).results["accuracy"]
    assert isinstance(result, Accuracy) and not any(line.name.startswith("trained") for line in result.lines)


def test_a_run_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert settings(tmp_path) == {} and measured_epochs(tmp_path) == []
    (tmp_path / "last.pt").write_bytes(b"not a checkpoint")
    (tmp_path / "metrics.jsonl").write_text("{half a line")
    assert settings(tmp_path) == {} and measured_epochs(tmp_path) == []
