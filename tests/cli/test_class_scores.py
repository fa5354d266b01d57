"""Which class scores a command asks about: one of several outputs, places of a dense one, units that drive a class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import deconvviz
from deconvviz import cli
from deconvviz.analyses.occlusion.result import Occlusion
from deconvviz.analyses.projection.result import Projection

SOURCE = """
import torch
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.maps = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU())
        self.dense, self.aux = nn.Conv2d(6, 3, 1), nn.Conv2d(6, 3, 1)

    def forward(self, x):
        y = self.maps(x)
        return {"out": self.dense(y), "aux": self.aux(y)}
"""


@pytest.fixture
def net(pictures: Path, network: Callable[[str, str], None]) -> deconvviz.Network:
    network("dense_for_tests", SOURCE)
    return deconvviz.load("dense_for_tests:Two", input_size=32, mean=(0.5,) * 3, std=(0.25,) * 3)


def run(command: str, *args: str) -> int:
    said = ["--model", "dense_for_tests:Two", "--size", "32", "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25"]
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, *said, "--overwrite", "--out", "r.npz", *args, "a.png"])
    return int(stopped.value.code or 0)


def dense(net: deconvviz.Network, output: str) -> Tensor:
    """What the network says of the picture, (classes, H, W)."""
    module: nn.Module = net.module
    with torch.no_grad():
        found: Tensor = module(net.preprocess("a.png"))[output][0]
    return found


def test_places_of_one_of_several_outputs(net: deconvviz.Network) -> None:
    window = ("--window", "16", "--target", "1", "--output", "aux")
    maps = dense(net, "aux")
    assert run("occlude", *window) == 0
    torch.testing.assert_close(Occlusion.load("r.npz").baseline, maps.mean((1, 2)))
    assert run("occlude", *window, "--target-place", "0", "4") == 0
    torch.testing.assert_close(Occlusion.load("r.npz").baseline, maps[:, 0, 4])
    mask = np.zeros(maps.shape[1:], dtype=np.uint8)
    mask[3:5, 2:9] = 255
    Image.fromarray(mask).save("mask.png")
    assert run("occlude", *window, "--target-mask", "mask.png") == 0
    o = Occlusion.load("r.npz")
    torch.testing.assert_close(o.baseline, maps[:, 3:5, 2:9].mean((1, 2)))
    assert o.target == 1


def test_units_that_drive_a_class(net: deconvviz.Network) -> None:
    layer = ("--layer", "maps.1", "--top", "3", "--no-distinct")
    assert (
        run("project", *layer, "--unit", "class", "--target", "2", "--output", "out", "--target-place", "3", "5") == 0
    )
    want = deconvviz.project(net, "a.png", "maps.1", "class", top=3, target=(2, (3, 5)), output="out")
    found = Projection.load("r.npz")
    assert found.units.tolist() == want.units.tolist()
    torch.testing.assert_close(found.pixels, want.pixels)


@pytest.mark.parametrize(
    ("command", "args", "said"),
    [
        ("occlude", ("--window", "16"), "output='out' or 'aux'"),
        ("occlude", ("--window", "16", "--output", "auz"), "did you mean 'aux'"),
        ("occlude", ("--output", "aux", "--target-place", "1", "1", "--target-mask", "a.png"), "not both"),
        ("occlude", ("--window", "16", "--output", "aux", "--target-place", "99", "0"), "outside the 15×15 output"),
        ("project", ("--layer", "maps.1", "--target", "1"), "go with --unit class"),
    ],
)
def test_what_is_not_allowed(
    command: str, args: tuple[str, ...], said: str, net: deconvviz.Network, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, *args) == 2
    assert said in capsys.readouterr().err
