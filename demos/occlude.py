"""Where does the bundled ZFNet look? Cover each place of a photograph and draw the paper's Fig. 7.

python demos/occlude.py [PICTURE [LABEL]]
"""

from __future__ import annotations

import sys
from pathlib import Path

import deconvviz


def main() -> None:
    """Run the demo on the given picture, or on the cat, whose nearest category is the cougar's face."""
    default = Path(__file__).parent / "images" / "chelsea.jpg"
    picture = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    label = sys.argv[2] if len(sys.argv) > 2 else None
    net = deconvviz.load("zfnet")
    result = deconvviz.occlude(net, picture, target=label, window=64, stride=8, layer="5")
    worst = int(result.probability.argmin())
    top, left = result.origins[worst].tolist()
    print(f"{result.label(result.target)}: {float(result.baseline.softmax(0)[result.target]):.3f}")
    print(f"{len(result)} positions covered in turn; lowest {float(result.probability.min()):.3f}, where rows", end=" ")
    print(
        f"{top}-{top + 63} and columns {left}-{left + 63} are covered:",
        result.label(int(result.prediction.flatten()[worst])),
    )
    print(result.save(f"{picture.stem}-occlusion.png"))
    print(result.save(f"{picture.stem}-attribution.png", kind="attribution"))
    print(result.save(f"{picture.stem}-occlusion.npz"))


if __name__ == "__main__":
    main()
