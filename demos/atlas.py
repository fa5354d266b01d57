"""Build an atlas of the bundled ZFNet from a folder of pictures, from scratch, and say how long it took.

python demos/atlas.py --images FOLDER [--out site] [--layers 1 2 3 4 5]

FOLDER holds pictures, or one folder of pictures for each class, such as Caltech-101. An interrupted demo goes on where
it was when it is started again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import deconvviz
from deconvviz.atlas import build


def main() -> None:
    """Take the arguments; what is wrong with them is one line."""
    parser = argparse.ArgumentParser(description="Build an atlas of the bundled ZFNet from a folder of pictures.")
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--out", type=Path, default=Path("site"), help="folder of the site")
    parser.add_argument("--layers", nargs="+", default=["1", "2", "3", "4", "5"], help="layers of the network")
    given = parser.parse_args()
    try:
        make(given.images, given.out, given.layers)
    except deconvviz.DeconvvizError as error:
        sys.exit(f"{parser.prog}: {error}")


def make(images: Path, out: Path, layers: list[str]) -> None:
    """Scan the pictures, then write the pages."""
    start = time.monotonic()
    net = deconvviz.load("zfnet")
    store = out.with_name(f"{out.name}.db")
    with deconvviz.scan(
        net, images, layers, store=store, report=lambda done, total: tell("scan", done, total)
    ) as scanned:
        pictures, middle = scanned.done, time.monotonic()
        again = len(scanned.runs()) > 1
        site = build(scanned, out, deconvviz.PanelSource(net, scanned), tell)
    end = time.monotonic()
    print(f"scan   {middle - start:7.0f} s   {pictures} pictures, {site.units} units -> {store}")
    print(f"atlas  {end - middle:7.0f} s   {site.files} files, {site.bytes / 1e6:.0f} MB -> {site.index}")
    print(f"whole  {end - start:7.0f} s{'   of this run: earlier ones are not counted' if again else ''}")


def tell(what: str, done: int, total: int) -> None:
    """Say on a terminal how far the work is."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}: {done} of {total}", end="\n" if done == total else "", file=sys.stderr)


if __name__ == "__main__":
    main()
