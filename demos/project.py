"""Project the strongest maps of layer 5 of the bundled ZFNet for a photograph, and save figure and numbers.

python demos/project.py [PICTURE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import deconvviz


def main() -> None:
    """Run the demo on the given picture, or on the cat."""
    default = Path(__file__).parent / "images" / "chelsea.jpg"
    picture = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    net = deconvviz.load("zfnet")
    result = deconvviz.project(net, picture, "conv5")
    for unit, activation, place in zip(result.units, result.activations, result.places, strict=True):
        print(f"unit {int(unit):4d}  activation {float(activation):8.3f}  place {tuple(place.tolist())}")
    print(result.save(f"{picture.stem}-demo.png"))
    print(result.save(f"{picture.stem}-demo.npz"))


if __name__ == "__main__":
    main()
