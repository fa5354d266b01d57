"""What tests share: no display is ever wanted; a small data set."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pytest
import torch
from PIL import Image

matplotlib.use("Agg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes, told apart by where the picture is bright: 16 noisy pictures each, and a broken one."""
    g = torch.Generator().manual_seed(0)
    for c, label in enumerate(("bottom", "middle", "top")):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(16):
            x = torch.randint(0, 90, (32, 32), generator=g, dtype=torch.uint8)
            x[20 - 8 * c : 28 - 8 * c, 4:28] += 140  # not left and right: mirror images keep their class
            Image.fromarray(x.numpy()).save(tmp_path / "data" / label / f"{i:03}.png")
    (tmp_path / "data" / "bottom" / "broken.png").write_bytes(b"not a picture")
    (tmp_path / "data" / "BACKGROUND_Google").mkdir()
    (tmp_path / "data" / ".hidden").mkdir()
    return tmp_path / "data"
