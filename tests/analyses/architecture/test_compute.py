"""Fig. 3: blocks are the layers of the network, by hand for a small one, in groups for a deep one."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from deconvviz import Network, load
from deconvviz.analyses.architecture.compute import architecture
from deconvviz.analyses.architecture.result import Architecture, Block

from ...paper.conftest import colours


def test_blocks_by_hand() -> None:
    found = architecture(colours())
    assert found.blocks == (
        Block("input", "", "", 0, 3, (24, 24)),
        Block("convolution", "conv1", "1", 1, 6, (24, 24), (3, 3), (1, 1), (1, 1), (3, 3), 168, ("max 3×3, stride 2",)),
        # 24 pooled by 3 at stride 2 in ceil mode is 12; one step of it is 2 pixels: 3 + 2 + 2 * 2 = 9 are seen.
        Block("convolution", "conv2", "2", 1, 4, (12, 12), (3, 3), (1, 1), (1, 1), (9, 9), 220),
        Block("linear", "fc3", "3", 1, 3, None, parameters=15),
    )
    assert found.parameters == 168 + 220 + 15


def test_zfnet_is_the_papers() -> None:
    blocks = {block.alias: block for block in architecture(load("zfnet")).blocks}
    sizes = {name: (blocks[name].maps, blocks[name].size, blocks[name].field) for name in blocks if "conv" in name}
    assert sizes == {
        "conv1": (96, (110, 110), (7, 7)),
        "conv2": (256, (26, 26), (27, 27)),
        "conv3": (384, (13, 13), (75, 75)),
        "conv4": (384, (13, 13), (107, 107)),
        "conv5": (256, (13, 13), (139, 139)),
    }
    assert blocks["conv1"].after == ("max 3×3, stride 2", "contrast norm")


def test_many_layers_are_groups_of_one_size() -> None:
    layers: list[nn.Module] = []
    channels = 3
    for maps in (4, 8, 16):
        for _ in range(5):
            layers += [nn.Conv2d(channels, maps, 3, padding=1), nn.ReLU()]
            channels = maps
        layers.append(nn.MaxPool2d(2))
    net = Network(nn.Sequential(*layers).eval(), 16, (0.5,) * 3, (0.25,) * 3)
    found = architecture(net)
    assert [(b.layers, b.maps, b.size) for b in found.blocks[1:]] == [
        (5, 4, (16, 16)),
        (5, 8, (8, 8)),
        (5, 16, (4, 4)),
    ]
    assert sum(b.parameters for b in found.blocks) == found.parameters
    assert all(b.kernel is None and b.after == ("max 2×2, stride 2",) for b in found.blocks[1:])


def test_saved_drawn_and_told(tmp_path: Path) -> None:
    found = architecture(colours())
    assert Architecture.load(found.save(tmp_path / "a.npz")) == found
    (ax,) = found.figure().axes
    texts = [text.get_text() for text in ax.texts]
    assert {"picture", "24×24", "6 maps", "12×12", "max 3×3", "stride 2"} <= set(texts)
    low, high = ax.get_xlim()
    assert all(low < text.get_position()[0] < high for text in ax.texts)
    rows = found.table().rows
    assert rows[1] == ("1", "3×3", "1×1", "1×1", "6", "24×24", "3×3", "168", "max 3×3, stride 2")
    facts = found.facts()["blocks"]
    assert isinstance(facts, list) and facts[1]["maps"] == 6


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_network_of_one_layer(tmp_path: Path, kind: str) -> None:
    net = Network(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 2)).eval(), 4, (0.5,) * 3, (0.25,) * 3)
    assert architecture(net).save(tmp_path / f"a.{kind}").stat().st_size > 0
