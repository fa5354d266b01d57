"""Rates and recipes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deconvviz.models.recipes import RECIPES, Recipe, recipe_for
from deconvviz.training import rate


def test_rates() -> None:
    cosine = Recipe("c", ((1, 0),), lr=1.0, warmup=10, floor=0.01)
    assert rate(cosine, 0, 1000) == pytest.approx(0.1)
    assert rate(cosine, 500, 1000) == pytest.approx(0.505)
    assert rate(cosine, 1000, 1000) == pytest.approx(0.01)
    # The epochs of the head start again at a third; before them nothing changes but that they are the whole.
    headed = replace(cosine, stages=((10, 0),), head=2)
    whole = replace(cosine, stages=((8, 0),))
    assert [rate(headed, s, 1000) for s in (0, 400, 799)] == [rate(whole, s, 800) for s in (0, 400, 799)]
    assert [rate(headed, s, 1000) for s in (800, 900, 1000)] == pytest.approx([1 / 3, 0.505 / 3, 0.01 / 3])
    small = replace(RECIPES["small"], warmup=0)
    assert [rate(small, e, 200) for e in (0, 59, 60, 120, 160)] == pytest.approx([0.1, 0.1, 0.02, 0.004, 0.0008])


def test_recipes_belong_together() -> None:
    assert recipe_for("zfnet") == "zfnet" and recipe_for("vgg16_32") == "small"
    zfnet = RECIPES["zfnet"]
    assert zfnet.epochs == 94 and [zfnet.size_at(e) for e in (0, 55, 56, 80, 93)] == [128, 128, 160, 224, 224]
