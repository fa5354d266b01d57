"""What pictures are, wherever an analysis takes several: a folder, arrays, a data set, its loader give the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import deconvviz
from deconvviz import Network

RNG = np.random.default_rng(0)
ARRAYS = [RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8) for _ in range(8)]


class Items(Dataset[Any]):
    """Pictures of two classes."""

    classes = ("x", "y")

    def __len__(self) -> int:
        return len(ARRAYS)

    def __getitem__(self, k: int) -> Any:
        return Image.fromarray(ARRAYS[k]), k // 4


@pytest.fixture(scope="module")
def net() -> Network:
    torch.manual_seed(0)
    maps = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU()]
    module = nn.Sequential(*maps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))
    return Network(module.eval(), 24, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures below a folder, deeper than its categories."""
    root = tmp_path_factory.mktemp("pictures")
    for k, pixels in enumerate(ARRAYS):
        (root / "xy"[k // 4] / "deep").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / "xy"[k // 4] / "deep" / f"{k}.png")
    return root


def scanned(net: Network, images: Any, store: Path) -> Tensor:
    with deconvviz.scan(net, images, ["2"], top=2, store=store, workers=0) as found:
        return torch.tensor([[p.activation for p in found.top("2", unit)] for unit in range(5)])


# Each by what it makes of pictures.
ANALYSES: dict[str, Callable[[Network, Any, Path], Any]] = {
    "inputs": lambda net, images, _: net.inputs(images)[0],
    "evolve": lambda net, images, _: deconvviz.evolve({1: net, 2: net}, images, "0", count=2).layers[0].activations,
    "occlude": lambda net, images, _: torch.stack([o.logits for o in deconvviz.occlude(net, images, None, 12, 12)]),
    "scan": scanned,
}


@pytest.mark.parametrize("analysis", list(ANALYSES))
def test_all_are_the_same_pictures(analysis: str, net: Network, place: Path, tmp_path: Path) -> None:
    given = {"folder": place, "list": ARRAYS, "data set": Items(), "loader": DataLoader(Items(), batch_size=3)}
    found = {kind: ANALYSES[analysis](net, images, tmp_path / f"{kind}.db") for kind, images in given.items()}
    for kind, value in found.items():
        assert torch.equal(value, found["folder"]), kind


def test_classes_of_a_folder_and_of_a_data_set(net: Network, place: Path) -> None:
    found = [deconvviz.probe(net, data, "2", 2) for data in (place, Items(), DataLoader(Items(), shuffle=True))]
    assert len({str(p.table().rows) for p in found[1:]}) == 1 and found[0].facts().keys() == found[1].facts().keys()


def test_filters_look_at_a_folder_and_a_loader(net: Network, place: Path) -> None:
    one, two = (deconvviz.filters(net, images=images) for images in (place, DataLoader(Items())))
    assert one == two
