"""Any model by its name on the command line, what is said of its preprocessing, and which weights are on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file
from torchvision import transforms

import deconvviz
from deconvviz import cli
from deconvviz.analyses.occlusion.result import Occlusion
from deconvviz.analyses.projection.result import Projection

SOURCE = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    maps = [nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU()]
    return nn.Sequential(*maps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
"""
SAID = ["--size", "32", "--mean", "0.5,0.4,0.3", "--std", "0.2,0.25,0.3"]


@pytest.fixture
def place(pictures: Path, network: Callable[[str, str], None]) -> Path:
    """The folder with pictures, and a module in it that says nothing of its preprocessing."""
    network("module_for_tests", SOURCE)
    return pictures


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(args)
    return int(stopped.value.code or 0)


@pytest.mark.parametrize("model", ["module_for_tests:make", "module_for_tests.py:make"])
def test_what_a_module_does_not_say(model: str, place: Path) -> None:
    assert run("project", "--model", model, *SAID, "--layer", "2", "--out", "p.npz", "a.png") == 0
    steps = [transforms.Resize(32), transforms.CenterCrop(32), transforms.ToTensor()]
    expected = transforms.Compose([*steps, transforms.Normalize((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))])
    picture = Image.open(place / "a.png")
    assert torch.allclose(Projection.load(place / "p.npz").image, expected(picture), rtol=0, atol=1e-6)


def letterboxed(picture: Image.Image) -> Image.Image:
    """The whole picture inside 32×32, framed in the mean colour."""
    return ImageOps.pad(picture, (32, 32), Image.Resampling.BILINEAR, color=(128, 102, 76))


@pytest.mark.parametrize(
    ("more", "steps"),
    [
        (["--resize", "36"], [transforms.Resize(36), transforms.CenterCrop(32)]),
        (["--resize", "40x36"], [transforms.Resize((40, 36)), transforms.CenterCrop(32)]),
        (["--fit", "crop"], [transforms.Resize(32), transforms.CenterCrop(32)]),
        (["--fit", "stretch"], [transforms.Resize((32, 32))]),
        (["--fit", "letterbox"], [letterboxed]),
    ],
)
def test_how_a_picture_fits(more: list[str], steps: list[object], place: Path) -> None:
    given = ["--model", "module_for_tests:make", *SAID, *more, "--layer", "2", "--out", "p.npz", "a.png"]
    assert run("project", *given) == 0
    expected = transforms.Compose(
        [*steps, transforms.ToTensor(), transforms.Normalize((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))]
    )
    assert torch.allclose(Projection.load(place / "p.npz").image, expected(Image.open(place / "a.png")), atol=1e-6)


@pytest.mark.parametrize(("name", "text"), [("names.txt", "a\nb\nc\n"), ("names.json", '["a", "b", "c"]')])
def test_labels_of_a_file(name: str, text: str, place: Path) -> None:
    (place / name).write_text(text)
    given = ["--model", "module_for_tests:make", *SAID, "--labels", name, "--target", "b", "--window", "16"]
    assert run("occlude", *given, "--stride", "16", "--out", "o.npz", "a.png") == 0
    assert Occlusion.load(place / "o.npz").labels == ("a", "b", "c")


def test_imagenets_mean_is_not_assumed(place: Path, said_in_one_line: Callable[[str], None]) -> None:
    (place / "a.png").rename(place / "a.bmp")
    (place / "more" / "a.png").unlink()
    assert run("project", "--model", "module_for_tests:make", "--layer", "2", "a.bmp") == 2
    said_in_one_line("give --mean and --std on the command line")


def test_a_callable_that_ends_the_program(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("project", "--model", "builtins:exit", "--layer", "2", "a.png") == 2
    assert (
        capsys.readouterr().err == "deconvviz: builtins:exit ended the program (exit code None) and made no network\n"
    )


def test_a_prefix_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = deconvviz.load("module_for_tests:make").module.state_dict()
    save_file({f"model.{key}": value for key, value in state.items()}, place / "w.safetensors")
    given = ["--model", "module_for_tests:make", "--weights", "w.safetensors", *SAID, "--layer", "2", "--out", "p.npz"]
    assert run("project", *given, "a.png") == 0
    assert "deconvviz: w.safetensors, its keys without the prefix 'model.'\n" in capsys.readouterr().err


def test_a_store_finds_its_network_again(place: Path) -> None:
    (place / "more" / "bad.jpg").unlink()
    given = ["--model", "module_for_tests.py:make", *SAID]
    assert run("scan", *given, "--images", "more", "--layers", "2", "--store", "s.db", "--workers", "0") == 0
    assert run("top", "--store", "s.db", *SAID, "--layer", "2", "--unit", "0", "--out", "t.npz") == 0


def test_layers_of_a_network_of_torchvision(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("layers", "--model", "torchvision:squeezenet1_1", "--size", "64", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "squeezenet1_1" and found["layers"][0]["size"] == [31, 31]


def test_which_weights_are_on_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    for there in (False, True):
        assert run("models", "torchvision:resnet18", "resnet18", "zfnet", "--json") == 0
        theirs, zoo, bundled = json.loads(capsys.readouterr().out)["models"]
        for found in (theirs, zoo):
            assert found["weights"][0]["file"] == str(file) and found["weights"][0]["on_disk"] is there
        assert bundled["weights"][0]["on_disk"] is True
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert run("models", "mine:make") == 2
