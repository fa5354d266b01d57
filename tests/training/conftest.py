"""Made-up pictures, and a recipe that leaves nothing out."""

from __future__ import annotations

import pytest

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
