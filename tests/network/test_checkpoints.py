"""Files of weights: kept at the chosen epochs, whole or not at all, listed in the order of the epochs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

import deconvviz
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError
from deconvviz.network.checkpoints import EvolutionCheckpoints, checkpoints, note_run, run_facts
from deconvviz.network.weights import write_weights


def test_a_loop_of_ones_own_keeps_the_chosen_epochs(tmp_path: Path) -> None:
    net = deconvviz.load("lenet", "random")
    keep = deconvviz.EvolutionCheckpoints(tmp_path / "new" / "run", epochs=(10, 1, 2))
    weight = net.module.features.conv1.weight
    written = []
    for epoch in range(1, 11):
        with torch.no_grad():
            weight.fill_(epoch)
        written.append(keep(net if epoch == 1 else net.module, epoch))
    files = [tmp_path / "new" / "run" / f"epoch{n}.safetensors" for n in (1, 2, 10)]
    assert [path for path in written if path] == files and written[9] == files[2]
    assert sorted((tmp_path / "new" / "run").iterdir()) == sorted(files)
    assert checkpoints(keep.folder) == list(zip((1, 2, 10), files, strict=True))
    for epoch, path in checkpoints(keep.folder):
        loaded = deconvviz.load("lenet", path)
        assert loaded.module.features.conv1.weight.unique().tolist() == [epoch]
    assert deconvviz.load("lenet", files[0]).card.labels == net.card.labels


def test_default_epochs_are_those_of_the_figure(tmp_path: Path) -> None:
    assert EvolutionCheckpoints(tmp_path).epochs == (1, 2, 5, 10, 20, 30, 40, 64)


def test_model_is_left_as_it_is_and_tied_weights_are_kept(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3)).train()
    model[2].weight = model[0].weight
    before = {key: value.clone() for key, value in model.state_dict().items()}
    path = EvolutionCheckpoints(tmp_path)(model, 5)
    assert path is not None and model.training and model[2].weight is model[0].weight
    stored = load_file(path)
    assert stored.keys() == before.keys()
    assert all(torch.equal(stored[key], before[key]) for key in before)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep, model = EvolutionCheckpoints(tmp_path), nn.Linear(2, 2)
    path = keep(model, 1)
    assert path is not None
    old = path.read_bytes()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    for epoch in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            keep(model, epoch)
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == old


@pytest.mark.parametrize("epochs", [(), (0, 1), (1.5,), (True,)])
def test_epochs_that_are_none(tmp_path: Path, epochs: tuple[int, ...]) -> None:
    with pytest.raises(DeconvvizValueError, match="allowed: whole numbers from 1 on"):
        EvolutionCheckpoints(tmp_path / "run", epochs)
    assert not (tmp_path / "run").exists()


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(DeconvvizTypeError, match="model is a dict"):
        EvolutionCheckpoints(tmp_path)({}, 1)  # type: ignore[arg-type]


def test_checkpoints_are_sorted_by_number_and_others_passed_over(tmp_path: Path) -> None:
    for name in ("epoch10", "epoch9", "epoch100", "epoch01", "epochs", "final", "epoch0"):
        write_weights(tmp_path / f"{name}.safetensors", {"a": torch.ones(1)}, {})
    (tmp_path / "epoch3.safetensors.part").touch()
    assert [epoch for epoch, _ in checkpoints(tmp_path)] == [9, 10, 100]


def test_a_folder_without_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(DeconvvizValueError, match="holds no checkpoint"):
        checkpoints(tmp_path)
    with pytest.raises(DeconvvizValueError, match="does not exist"):
        checkpoints(tmp_path / "run")


def test_facts_are_json_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "epoch1.safetensors"
    write_weights(path, {"a": torch.ones(2, 3).T}, {"labels": ["x", "y"], "accuracy": 0.5})
    with safe_open(path, framework="pt") as file:
        facts = {key: json.loads(value) for key, value in file.metadata().items()}
    assert facts == {"labels": ["x", "y"], "accuracy": 0.5}


def test_equal_weights_are_equal_files_in_every_process(tmp_path: Path) -> None:
    code = """
import sys, torch
from pathlib import Path
from deconvviz.network.weights import write_weights
write_weights(Path(sys.argv[1]), {"a": torch.arange(6.0), "b": torch.ones(3)}, {f"é{k}": k for k in range(9)})
"""
    files = [tmp_path / f"{k}.safetensors" for k in range(3)]
    for file in files:
        subprocess.run([sys.executable, "-c", code, str(file)], check=True)
    assert len({file.read_bytes() for file in files}) == 1
    assert torch.equal(load_file(files[0])["a"], torch.arange(6.0))
    with safe_open(files[0], framework="pt") as file:
        assert file.metadata() == {f"é{k}": str(k) for k in range(9)}


def test_the_note_of_a_run_tells_its_network_and_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run_facts("run") == {}
    note_run(Path("run"), "zfnet", "photos")
    assert run_facts("run") == {"model": "zfnet", "data": str(tmp_path / "photos")}
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(DeconvvizValueError, match="damaged"):
        run_facts("run")
