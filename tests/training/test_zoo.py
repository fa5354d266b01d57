"""Networks of the zoo learn: a few steps on tiny pictures, with the parts that `train` is made of."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deconvviz.data.pictures import Pictures, Split
from deconvviz.models import registry
from deconvviz.models.recipes import RECIPES, Augmentation, recipe_for
from deconvviz.processes import Team
from deconvviz.training.plan import Course
from deconvviz.training.run import run_epoch
from deconvviz.training.start import start


def coloured(channels: int, size: int) -> Pictures:
    """Two classes of eight noisy pictures: bright above, bright below."""
    x = torch.randint(0, 90, (16, channels, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    x[:8, :, : size // 2] += 140
    x[8:, :, size // 2 :] += 140
    return Pictures(list(x), torch.arange(16) // 8, tuple(map(str, range(16))), ("above", "below"))


@pytest.mark.parametrize(
    ("model", "size", "epochs", "share"), [("alexnet_28", 28, 5, 0.8), ("vgg11_32", 32, 5, 0.97), ("zfnet", 64, 3, 0.7)]
)
def test_the_loss_falls(model: str, size: int, epochs: int, share: float) -> None:
    recipe = replace(
        RECIPES[recipe_for(model)],
        stages=((epochs, size),),
        batch=8,
        warmup=0,
        augmentation=Augmentation(),
        initialisation="model",
        precision="float32",
        mixup=0.0,
        head=0,
        factors=(),
    )
    card = registry.card(model)
    data = coloured(card.channels, size)
    with torch.random.fork_rng(devices=[]):
        course = Course(
            recipe, data, Split(list(range(16)), [], []), 0, 0, 1, Team(), None, lambda what, done, total: None
        )
        run = start(model, replace(card, labels=data.labels), course, {"model": model}, None, False)
        lines = [run_epoch(run, course) for _ in range(epochs)]
    assert [line["size"] for line in lines] == [size] * epochs and run.step == 2 * epochs
    assert lines[-1]["loss"] < share * lines[0]["loss"]
    fresh = registry.build(model, **run.options)
    fresh.load_state_dict(run.averaged())  # what is written has the network's own keys
    with torch.no_grad():
        assert fresh.eval()(torch.zeros(1, card.channels, size, size)).shape == (1, 2)
