"""Made-up pictures, and a recipe that leaves nothing out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from deconvviz.models.recipes import Augmentation, Recipe


@pytest.fixture
def full() -> Recipe:
    """Everything a recipe can ask for but a teacher, on a network that is small."""
    return Recipe(
        name="full",
        stages=((2, 28), (1, 0)),
        batch=8,
        optimiser="adamw",
        lr=5e-3,
        warmup=2,
        factors=(("features.conv1.", 0.5),),
        smoothing=0.05,
        ema=0.9,
        clip=5.0,
        dropout_inputs=0.1,
        undecayed=("features.conv1.",),
        augmentation=Augmentation((0.7, 1.0), 1.1, flip=0.5, colour=0.5, erase=0.2),
        initialisation="data",
        batch_norm=True,
        filter_rms=0.5,
    )


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
