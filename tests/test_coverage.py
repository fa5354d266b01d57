"""A short list of `benchmarks/coverage.py`: each network by every method, against references that know no rule."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deconvviz

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "coverage.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_benchmark", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


coverage = load()
WRAPPED = dict(coverage.wrapper_entries())


class Net(nn.Module):
    """A stem, one block after another, logits."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return out


class Call(nn.Module):
    """A function of maps between two convolutions."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(self.function(self.one(x), x))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Places that attend to each other."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.inside, self.qkv = inside, nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).view(1, -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
        if self.inside:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q @ k.transpose(2, 3) / 2).softmax(3) @ v
        return x + mixed.transpose(1, 2).reshape(tokens.shape).transpose(1, 2).view(x.shape)


def squeezed(y: Tensor, x: Tensor) -> Tensor:
    return y * torch.sigmoid(x.mean((2, 3), keepdim=True))


def padded(y: Tensor, x: Tensor) -> Tensor:
    out = y.new_zeros(1, 8, y.shape[2] + 2, y.shape[3])
    out[:, :, 1:-1] = y
    out[:, :6, 0] = x[:, 2:, 0]
    return F.avg_pool2d(out, 3, 1, (0, 1))


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: Net(Call(lambda y, x: F.relu(y))),
    "GELU, LayerNorm": lambda: Net(Call(lambda y, x: F.layer_norm(F.gelu(y), (10,)))),
    "GroupNorm, SiLU": lambda: Net(Call(lambda y, x: F.silu(F.group_norm(y, 2)))),
    "ReLU6": lambda: Net(nn.Conv2d(8, 8, 3), nn.ReLU6(), nn.Conv2d(8, 8, 3), nn.ReLU6(inplace=True)),
    "squeeze and excitation": lambda: Net(Call(squeezed)),
    "up and down": lambda: Net(nn.ConvTranspose2d(8, 8, 2, 2), nn.MaxPool2d(2), nn.ReLU()),
    "a write into a fresh tensor": lambda: Net(Call(padded)),
    "circular padding": lambda: Net(nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular"), nn.ReLU()),
    "shuffled": lambda: Net(nn.ChannelShuffle(2), nn.PixelUnshuffle(2), nn.Conv2d(32, 8, 1), nn.ReLU()),
    "in place": lambda: Net(Call(lambda y, x: F.leaky_relu(y, 0.1, inplace=True)), nn.ReLU(inplace=True)),
    "antialiased": lambda: Net(Call(lambda y, x: F.interpolate(y, x.shape[2:], mode="bilinear", antialias=True))),
}


@pytest.mark.parametrize("name", [*BLOCKS, *WRAPPED])
@pytest.mark.usefixtures("one_thread")
def test_every_method_equals_its_reference(name: str) -> None:
    torch.manual_seed(0)
    module, x = (BLOCKS[name](), coverage.picture((3, 20, 20))) if name in BLOCKS else WRAPPED[name]()
    said = coverage.examine(module, x)
    assert {said[column] for column in coverage.COLUMNS} == {"ok"}, said


@pytest.mark.parametrize("inside", [True, False], ids=["as one operator", "spelt out"])
def test_attention_by_gradient_and_occlusion(inside: bool) -> None:
    torch.manual_seed(0)
    said: dict[str, Any] = coverage.examine(Net(Attention(inside)), coverage.picture((3, 20, 20)))
    assert said["attention"] == "yes"
    for column in ("record", "layers", "gradient", "occlude"):
        assert said[column] == "ok", said
    for method in ("deconvnet", "guided"):
        assert said[method].startswith("refused: operator"), said
        assert "attention" in said[method] and "method 'gradient' and occlude work" in said[method]


DETECTORS = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": "backbone.body.4",
    "maskrcnn_resnet50_fpn": "backbone.body.layer1",
    "retinanet_resnet50_fpn": "backbone.fpn.layer_blocks.1",
    "ssdlite320_mobilenet_v3_large": "backbone.features.0.5",
}


@pytest.mark.parametrize("name", list(DETECTORS))
@pytest.mark.usefixtures("one_thread")
def test_a_whole_detector_up_to_its_choice_of_boxes(name: str) -> None:
    """Layers of its backbone are projected; what comes behind the choice is refused by name."""
    from torchvision.models import get_model

    torch.manual_seed(0)
    size = {} if name.startswith("ssd") else {"min_size": 64, "max_size": 96}
    size |= {"rpn_post_nms_top_n_test": 10} if "rcnn" in name else {}
    model, layer = get_model(name, weights=None, weights_backbone=None, num_classes=3, **size), DETECTORS[name]
    model, x = model.double().eval(), torch.rand(1, 3, 64, 80, dtype=torch.float64)
    for method in coverage.METHODS:
        p = deconvviz.project(model, x, layer, top=1, method=method)
        want = coverage.wanted(model, x, layer, int(p.units[0]), tuple(p.places[0].tolist()), method)
        assert coverage._distance(p.pixels[0], want) < 1e-9, method
    # For random weights some choose by masks alone: these are recorded to the end.
    refused = (
        r"^operator '(nonzero'.* nor occlude can follow it \(layers before it can be projected|\S+' .* picture says)"
    )
    with pytest.raises(deconvviz.UnsupportedOperatorError, match=refused):
        deconvviz.occlude(model, x, window=32, stride=32, layer=layer)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "layers are listed up to where the recording ended: operator 'nonzero'")
        rows = deconvviz.Network(model, (64, 80)).layers()
    assert len(rows) > 50 and rows[0].name.startswith("backbone.")


def test_the_page_counts_and_names() -> None:
    rows = [
        {"name": "a", "attention": "no", **dict.fromkeys(coverage.COLUMNS, "ok")},
        {"name": "b", "attention": "yes", **dict.fromkeys(coverage.COLUMNS, "ok"), "guided": "refused: is attention"},
    ]
    page = coverage.page(rows)
    assert "| all | 100 % | 100 % | 100 % | 50 % | 100 % | 100 % |" in page
    assert "| without attention | 100 % | 100 % | 100 % | 100 % | 100 % | 100 % |" in page
    assert "| b | ✓ | ✓ | ✓ | – | ✓ | ✓ | is attention |" in page
