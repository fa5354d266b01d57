"""Networks of torchvision: as torchvision builds them, with its own transforms, class names and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision import models
from torchvision.models import GoogLeNet_Weights, ShuffleNet_V2_X0_5_Weights

import deconvviz
from deconvviz.errors import DeconvvizValueError, UnknownNameError, WeightsError
from deconvviz.network.load import stored_weights

OWN = ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1
NAME, FILE = "shufflenet_v2_x0_5", "shufflenetv2_x0.5-f707e7126e.pth"


@pytest.mark.parametrize("name", ["squeezenet1_1", "efficientnet_b1", "inception_v3", "mobilenet_v3_small", "resnet50"])
def test_inputs_equal_those_of_its_own_transform(name: str, picture: Image.Image) -> None:
    own = models.get_model_weights(name)["DEFAULT"]
    net = deconvviz.load(f"torchvision:{name}", "random")
    assert torch.allclose(net.preprocess(picture)[0], own.transforms()(picture), rtol=0, atol=1e-6)
    assert net.card.labels == tuple(own.meta["categories"]) and not net.module.training
    back = net.denormalise(net.preprocess(picture))
    assert back.min() >= 0 and back.max() <= 1
    # The middle of the picture is in the middle of the input.
    top, left, bottom, right = net.shown_region((240, 301))
    assert abs(top + bottom - 240) <= 2 and abs(left + right - 301) <= 2


def test_random_weights_come_from_the_seed() -> None:
    first, again, other = (deconvviz.load(f"torchvision:{NAME}", "random", seed=s) for s in (1, 1, 2))
    assert first.weights_hash() == again.weights_hash() != other.weights_hash()
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(
        first.module.parameters(), models.get_model(NAME).parameters(), strict=True
    ))  # fmt: skip


def test_a_file_in_torch_hubs_folder(folders: Path) -> None:
    theirs = models.get_model(NAME)
    at = folders / "torch" / "hub" / "checkpoints"
    at.mkdir(parents=True)
    torch.save(theirs.state_dict(), at / FILE)
    for weights in (
        None,
        "IMAGENET1K_V1",
        "imagenet1k_v1",
        "ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1",
        ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1,
    ):
        net = deconvviz.load(f"torchvision:{NAME}", weights)
        assert torch.equal(net.module.fc.weight, theirs.fc.weight)  # type: ignore[union-attr, arg-type]
        assert net.card.weights is not None and net.card.weights.name == "IMAGENET1K_V1"
        assert "SHA-256" in str(net.card.weights.note)  # it is not torchvision's own, and that is said
    assert [path and path.is_file() for _, path in stored_weights(f"torchvision:{NAME}")] == [True]


def test_what_the_weights_ask_of_the_network(folders: Path) -> None:
    """GoogLeNet's weights drop its auxiliary heads and convert its inputs, as torchvision has it."""
    at = folders / "torch" / "hub" / "checkpoints"
    at.mkdir(parents=True)
    torch.save(models.googlenet(init_weights=False).state_dict(), at / "googlenet-1378be20.pth")
    net = deconvviz.load("torchvision:googlenet", GoogLeNet_Weights.IMAGENET1K_V1)
    assert net.module.transform_input and net.module.aux1 is None
    assert net.card.aliases["conv1"] == "conv1.conv"  # of the zoo's network of this name
    assert "get_state_dict" not in vars(GoogLeNet_Weights.IMAGENET1K_V1)


def test_missing_weights_are_one_line(folders: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        deconvviz.load(f"torchvision:{NAME}", "IMAGENET1K_V1")
    said = str(caught.value)
    place = folders / "torch" / "hub" / "checkpoints" / FILE
    assert f"https://download.pytorch.org/models/{FILE}" in said and str(place) in said and "\n" not in said


def test_options_go_to_the_network() -> None:
    net = deconvviz.load(f"torchvision:{NAME}", "random", num_classes=7)
    assert net.module.fc.out_features == 7 and net.card.labels == ()
    with pytest.raises(DeconvvizValueError, match=r"cannot be built with \{'clases': 7\}"):
        deconvviz.load(f"torchvision:{NAME}", "random", clases=7)


def test_no_weights_of_a_backbone_are_fetched(folders: Path) -> None:
    assert deconvviz.load("torchvision:lraspp_mobilenet_v3_large", "random").card.labels[1] == "aeroplane"


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="no model 'resnet51'; did you mean 'resnet50'"):
        deconvviz.load("torchvision:resnet51", "random")
    with pytest.raises(UnknownNameError, match="no weights 'IMAGENET1K_V3' for resnet50; allowed: IMAGENET1K_V1.*mean"):
        deconvviz.load("torchvision:resnet50", "IMAGENET1K_V3")


@pytest.mark.parametrize("kind", [str, lambda member: member], ids=["a name", "a member"])
def test_weights_of_another_network(kind: Any, folders: Path) -> None:
    theirs = models.ResNet50_Weights.IMAGENET1K_V1
    with pytest.raises(
        UnknownNameError, match="no weights 'ResNet50_Weights.IMAGENET1K_V1' for resnet18; allowed: IMA"
    ):
        deconvviz.load("torchvision:resnet18", kind(theirs))


@pytest.mark.parametrize(("name", "taken"), [("r3d_18", "videos"), ("raft_small", "pairs of pictures")])
def test_networks_of_something_else_than_pictures(name: str, taken: str) -> None:
    with pytest.raises(DeconvvizValueError, match=f"^torchvision:{name} takes {taken}"):
        deconvviz.load(f"torchvision:{name}", "random")
