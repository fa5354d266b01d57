"""Networks of the hub, from repositories as its cache has them: timm's and transformers'."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import deconvviz
from deconvviz.errors import DeconvvizError, DeconvvizValueError, UnknownNameError, WeightsError
from deconvviz.network.load import stored_weights

Repository = Callable[[str], Path]
timm = pytest.importorskip("timm")


def timm_repository(repository: Repository, **config: Any) -> torch.nn.Module:
    """A repository `me/tiny` of a network with three classes."""
    folder = repository("me/tiny")
    module: torch.nn.Module = timm.create_model("test_resnet", num_classes=3)
    save_file({k: v.clone() for k, v in module.state_dict().items()}, folder / "model.safetensors")
    stated = {"input_size": [3, 96, 96], "interpolation": "bicubic", "crop_pct": 0.9, "mean": [0.5, 0.4, 0.3],
              "std": [0.2, 0.2, 0.2], "first_conv": "conv1.0", "classifier": "fc", **config}  # fmt: skip
    said = {"architecture": "test_resnet", "num_classes": 3, "label_names": ["a", "b", "c"], "pretrained_cfg": stated}
    (folder / "config.json").write_text(json.dumps(said))
    return module


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_a_network_of_timm(repository: Repository, mode: str, folders: Path, picture: Image.Image) -> None:
    theirs = timm_repository(repository, crop_mode=mode)
    net = deconvviz.load("hf-hub:me/tiny")
    assert all(torch.equal(a, b) for a, b in zip(net.module.parameters(), theirs.parameters(), strict=True))
    transform = timm.data.create_transform(
        96, interpolation="bicubic", crop_pct=0.9, crop_mode=mode, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2)
    )
    assert torch.allclose(net.preprocess(picture)[0], transform(picture), rtol=0, atol=1e-6)
    assert net.card.labels == ("a", "b", "c") and net.card.mean == (0.5, 0.4, 0.3)
    top, left, bottom, right = net.shown_region((240, 301))
    height, width = {"center": (217, 217), "squash": (217, 273), "border": (273, 273)}[mode]
    assert abs(bottom - top - height) < 3 and abs(right - left - width) < 3
    assert abs(top + bottom - 240) < 3 and abs(left + right - 301) < 3


def test_random_weights_need_no_weights(repository: Repository, folders: Path) -> None:
    timm_repository(repository)
    (folders / "hf/hub/models--me--tiny/snapshots/0123abcd/model.safetensors").unlink()
    assert deconvviz.load("hf-hub:me/tiny", "random").module.num_classes == 3
    with pytest.raises(WeightsError, match="https://huggingface.co/me/tiny/resolve/main/model.safetensors and put it"):
        deconvviz.load("hf-hub:me/tiny")


def test_what_is_no_network(repository: Repository, folders: Path) -> None:
    folder = repository("me/other")
    (folder / "config.json").write_text("{}")
    with pytest.raises(DeconvvizValueError, match="neither a network of timm nor one of transformers"):
        deconvviz.load("hf-hub:me/other")
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config.json cannot be read"):
        deconvviz.load("hf-hub:me/other")
    with pytest.raises(UnknownNameError, match="ORG/NAME"):
        deconvviz.load("hf-hub:../etc/passwd")
    with pytest.raises(WeightsError, match="config.json of me/none is missing"):
        deconvviz.load("hf-hub:me/none")


# transformers ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def transformers() -> Any:
    found = pytest.importorskip("transformers")
    found.utils.logging.disable_progress_bar()
    return found


def classifier(transformers: Any, folder: Path) -> torch.nn.Module:
    labels = {0: "cat", 1: "dog", 2: "cow"}
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3, id2label=labels
    )
    module: torch.nn.Module = transformers.ResNetForImageClassification(config).eval()
    module.save_pretrained(folder)  # type: ignore[operator]
    return module


PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "small, cut": ("ConvNextImageProcessor", {"size": {"shortest_edge": 64}, "crop_pct": 0.875}),
    "large, squeezed": ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
    "exact": ("ViTImageProcessor", {"size": {"height": 64, "width": 48}}),
    "cut": ("BitImageProcessor", {"size": {"shortest_edge": 64}, "crop_size": {"height": 56, "width": 56}}),
}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_an_image_classifier(
    repository: Repository, kind: str, folders: Path, picture: Image.Image, transformers: Any
) -> None:
    folder = repository("me/classifier")
    theirs = classifier(transformers, folder)
    name, options = PROCESSORS[kind]
    processor = getattr(transformers, name)(**options)
    processor.save_pretrained(folder)
    net = deconvviz.load("hf-hub:me/classifier")
    expected = processor(images=picture, return_tensors="pt")["pixel_values"]
    x = net.preprocess(picture)
    assert torch.allclose(x, expected, rtol=0, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(net.module(x), theirs(expected).logits)
    assert net.card.labels == ("cat", "dog", "cow") and net.shown_region((240, 301))
    p = deconvviz.project(net, x, net.layers()[0].name, top=1)
    assert p.pixels.shape[1:] == x.shape[1:]


def test_code_of_a_repository_is_not_run(repository: Repository, folders: Path, transformers: Any) -> None:
    folder = repository("me/code")
    (folder / "config.json").write_text(
        json.dumps(
            {
                "model_type": "mine",
                "auto_map": {"AutoConfig": "code.Mine", "AutoModelForImageClassification": "code.Net"},
            }
        )
    )
    (folder / "code.py").write_text(f"open({str(folders / 'ran')!r}, 'w').close()\n")
    with pytest.raises(DeconvvizError):
        deconvviz.load("hf-hub:me/code", "random")
    assert not (folders / "ran").exists()


def test_what_classifies_no_images(repository: Repository, folders: Path, transformers: Any) -> None:
    transformers.BertConfig(hidden_size=8, num_attention_heads=1, num_hidden_layers=1).save_pretrained(
        folder := repository("me/text")
    )
    assert folder.is_dir()
    with pytest.raises(DeconvvizValueError, match="is a bert, no image classifier of transformers"):
        deconvviz.load("hf-hub:me/text", "random")


def test_files_in_pieces(repository: Repository, folders: Path, transformers: Any) -> None:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=3)
    model = transformers.ResNetForImageClassification(config).eval()
    folder = repository("me/pieces")
    model.save_pretrained(folder, max_shard_size="4KB")
    index = folder / "model.safetensors.index.json"
    pieces = sorted(folder.glob("model-*.safetensors"))
    assert len(pieces) > 1
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(deconvviz.load("hf-hub:me/pieces").module(x), model(x).logits)
    ((weights, path),) = stored_weights("hf-hub:me/pieces")
    assert path == index and weights.source == "me/pieces at main"
    pieces[0].unlink()
    with pytest.raises(WeightsError, match=f"{pieces[0].name} of me/pieces is missing"):
        deconvviz.load("hf-hub:me/pieces")
    index.write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))
    with pytest.raises(WeightsError, match="no index of weights: it names the file"):
        deconvviz.load("hf-hub:me/pieces")


def test_leave_to_run_code_is_not_asked_for(repository: Repository, folders: Path, transformers: Any) -> None:
    folder = repository("me/asks")
    (folder / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "code.Mine"}}))
    (folder / "code.py").write_text("")
    with pytest.raises(DeconvvizValueError, match="needs code of its own repository, which is never run") as caught:
        deconvviz.load("hf-hub:me/asks", "random")
    assert "trust_remote_code" not in str(caught.value)


def test_where_the_weights_of_a_repository_belong(folders: Path) -> None:
    ((_, path),) = stored_weights("hf-hub:me/none")
    assert path is not None and not path.exists() and path.name == "model.safetensors"
