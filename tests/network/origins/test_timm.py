"""Networks of timm: as timm builds them, with its data configuration and its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import deconvviz
from deconvviz.errors import UnknownNameError, WeightsError
from deconvviz.network.load import stored_weights

Repository = Callable[[str], Path]
timm = pytest.importorskip("timm")
from timm.data import ImageNetInfo, create_transform, resolve_model_data_config  # noqa: E402

NAME = "test_resnet.r160_in1k"


def their_input(module: torch.nn.Module, picture: Image.Image) -> torch.Tensor:
    made: torch.Tensor = create_transform(**resolve_model_data_config(module), is_training=False)(picture)
    return made


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext.r160_in1k", "test_efficientnet", "resnet10t.c3_in1k"])
def test_inputs_equal_those_of_its_own_transform(name: str, picture: Image.Image) -> None:
    net = deconvviz.load(f"timm:{name}", "random")
    expected = their_input(timm.create_model(name), picture)
    assert torch.allclose(net.preprocess(picture)[0], expected, rtol=0, atol=1e-6)
    assert net.card.labels == tuple(ImageNetInfo().label_descriptions())


def test_weights_in_the_hubs_cache(repository: Repository, folders: Path) -> None:
    theirs = timm.create_model(NAME)
    save_file({k: v.clone() for k, v in theirs.state_dict().items()}, repository(f"timm/{NAME}") / "model.safetensors")
    for name, weights in ((NAME, None), ("test_resnet", "r160_in1k"), ("test_resnet", None)):
        net = deconvviz.load(f"timm:{name}", weights)
        assert all(torch.equal(a, b) for a, b in zip(net.module.parameters(), theirs.parameters(), strict=True))
        assert net.card.weights is not None and net.card.weights.name == "r160_in1k"
        assert "state_dict" not in net.module.pretrained_cfg  # type: ignore[operator]
    assert [(w.name, path and path.is_file()) for w, path in stored_weights("timm:test_resnet")] == [
        ("r160_in1k", True)
    ]
    # timm adapts the trained weights to other channels and classes.
    grey = deconvviz.load(f"timm:{NAME}", in_chans=1, num_classes=3)
    assert grey.card.labels == () and grey.preprocess(Image.new("RGB", (50, 60))).shape[1] == 1


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    theirs = timm.create_model(NAME)
    torch.save({"state_dict": {f"module.{k}": v for k, v in theirs.state_dict().items()}}, tmp_path / "mine.pth")
    net = deconvviz.load("timm:test_resnet", tmp_path / "mine.pth")
    assert all(torch.equal(a, b) for a, b in zip(net.module.parameters(), theirs.parameters(), strict=True))
    assert net.card.weights is not None and net.card.weights.note == "mine.pth, its keys without the prefix 'module.'"


def test_missing_weights_are_one_line(folders: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        deconvviz.load(f"timm:{NAME}")
    said, at = str(caught.value), "hf/hub/models--timm--test_resnet.r160_in1k/snapshots/main/model.safetensors"
    assert f"https://huggingface.co/timm/{NAME}/resolve/main/model.safetensors" in said
    assert str(folders / at) in said and "\n" not in said
    # And there it is found.
    (folders / at).parent.mkdir(parents=True)
    save_file({k: v.clone() for k, v in timm.create_model(NAME).state_dict().items()}, folders / at)
    assert deconvviz.load(f"timm:{NAME}").card.weights is not None


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="timm has no model 'test_resnett'; did you mean 'test_resnet'"):
        deconvviz.load("timm:test_resnett", "random")
    with pytest.raises(UnknownNameError, match="no weights 'r161_in1k' for test_resnet; allowed: r160_in1k, random"):
        deconvviz.load("timm:test_resnet.r161_in1k")
