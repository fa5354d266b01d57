"""Draw the pictures of the README into docs/pictures/ (or the given folder), all from the bundled ZFNet.

python demos/readme_pictures.py [FOLDER]
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

import deconvviz
from deconvviz.results.style import new_figure, styled

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "demos" / "images"
LIMIT = 400_000  # bytes a picture may have: a clone stays small


def main() -> None:
    """Draw the pictures and print their paths."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    net = deconvviz.load("zfnet")
    rec = deconvviz.record(net, IMAGES / "chelsea.jpg")
    result = rec.project("conv5", distinct=True)
    write(result.figure(), folder / "chelsea-zfnet-conv5.jpg")
    occlusion = rec.occlude(window=64, stride=8, layer="5")
    write(occlusion.figure(), folder / "occlusion.jpg", limit=150_000)
    methods = ("deconvnet", "guided", "gradient", "input-x-gradient", "integrated-gradients", "smoothgrad", "grad-cam")
    methods = (*methods, "layer-cam", "occlusion", "edges", "random")
    comparison = deconvviz.compare(net, IMAGES / "chelsea.jpg", methods)
    write(comparison.figure(), folder / "comparison.jpg", dpi=150, limit=300_000)
    write(filters(net), folder / "zfnet-filters.jpg")
    write(layers(net, ("astronaut", "rocket")), folder / "zfnet-layers.jpg", dpi=130)


def write(figure: Figure, path: Path, dpi: int = 170, limit: int = LIMIT) -> None:
    """Write `figure` as a JPEG of less than `limit` bytes: photographs do not compress as PNG."""
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format="png", dpi=dpi)
    picture = Image.open(buffer).convert("RGB")
    for quality in range(94, 50, -4):
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality, subsampling=0, optimize=True)
        if len(data.getvalue()) < limit:
            break
    path.write_bytes(data.getvalue())
    print(f"{path} ({len(data.getvalue()) / 1000:.0f} kB, quality {quality})")


def filters(net: deconvviz.Network, columns: int = 16) -> Figure:
    """Draw all filters of conv1 with one contrast, zero as mid-grey."""
    weight = net.module.state_dict()["conv1.weight"].float().permute(0, 2, 3, 1).numpy()
    shown = np.clip(0.5 + 0.5 * weight / np.percentile(np.abs(weight), 99.8), 0, 1)
    rows = -(-len(shown) // columns)
    figure = new_figure(0.42 * columns, 0.42 * rows)
    for k, picture in enumerate(shown):
        row, column = divmod(k, columns)
        where = ((column + 0.04) / columns, 1 - (row + 0.96) / rows, 0.92 / columns, 0.92 / rows)
        panel(figure, where, picture)
    return figure


def layers(net: deconvviz.Network, photographs: tuple[str, ...], top: int = 6) -> Figure:
    """Draw for each photograph and layers 2 to 5 (rows) the strongest maps, each beside its crop."""
    side, gap, head, left = 0.62, 0.04, 0.28, 0.2  # inches
    names = ("conv2", "conv3", "conv4", "conv5")
    block = head + len(names) * (side + 2 * gap)
    width, height = left + top * (2 * side + 3 * gap), block * len(photographs)
    with styled():
        figure = new_figure(width, height)
        for n, photograph in enumerate(photographs):
            rec = deconvviz.record(net, IMAGES / f"{photograph}.jpg")
            y0 = height - n * block - head
            title = (y0 + 0.14) / height
            figure.text(left / width, title, photograph, va="center", fontsize=8, weight="bold")
            for row, layer in enumerate(names):
                y = y0 - row * (side + 2 * gap) - side
                where = (0.1 / width, (y + side / 2) / height)
                figure.text(*where, layer, va="center", ha="center", rotation=90, fontsize=7)
                result = rec.project(layer, top=top)
                images, crops = result.images(), result.crops()
                for k, (t, x, b, r) in enumerate(result.boxes.tolist()):
                    at = left + k * (2 * side + 3 * gap)
                    for step, shown in enumerate((images[k, t:b, x:r], crops[k])):
                        at_x = (at + step * (side + 0.02)) / width
                        panel(figure, (at_x, y / height, side / width, side / height), shown)
    return figure


def panel(figure: Figure, where: tuple[float, float, float, float], shown: NDArray[np.generic]) -> None:
    """Show a picture (h, w, 3) at `where` (left, bottom, width, height of the figure), without axes."""
    ax = figure.add_axes(where)
    ax.imshow(shown, interpolation="nearest")
    ax.set_anchor("W")
    ax.set_axis_off()


if __name__ == "__main__":
    main()
