"""Biases freed of how frequent categories were: by hand, and chosen by the validation pictures alone."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from deconvviz.data.pictures import Pictures, Split, read_data, split
from deconvviz.models import registry
from deconvviz.models.recipes import RECIPES, Recipe
from deconvviz.processes import Team
from deconvviz.training import train
from deconvviz.training.balance import STRENGTHS, balanced
from deconvviz.training.evaluation import score
from deconvviz.training.plan import Course
from deconvviz.training.start import start


def test_the_bias_by_hand() -> None:
    """Of a network that has learned nothing but how frequent the categories are."""
    x = torch.randint(0, 255, (20, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    classes = torch.tensor([0] * 12 + [1] * 8)
    data = Pictures(list(x), classes, tuple(map(str, range(20))), ("often", "seldom"))
    parts = Split([*range(8), 12, 13], [*range(8, 12), *range(14, 20)], [])  # 8 and 2 train
    recipe = replace(RECIPES["lenet"], ema=0.0, balance=True)
    course = Course(recipe, data, parts, 0, 0, 1, Team(), None, lambda what, done, total: None)
    with torch.random.fork_rng(devices=[]):
        run = start(
            "lenet", replace(registry.card("lenet"), labels=data.labels), course, {"model": "lenet"}, None, True
        )
    weights = {key: torch.zeros_like(value) for key, value in run.averaged().items()}
    weights["classifier.fc5.bias"] = torch.tensor([0.7 * math.log(4), 0.0])
    found, strength = balanced(run, course, weights, 28)
    # "often" wins up to 0.7 of the logarithm of four to one, "seldom" beyond: each is half of the mean, so the first.
    assert strength == STRENGTHS[0] and torch.equal(found["classifier.fc5.bias"], weights["classifier.fc5.bias"])
    right = replace(data, classes=torch.tensor([0] * 8 + [1] * 4 + [0] * 2 + [1] * 6))
    course = replace(course, data=right, parts=Split([*range(8), 12, 13], [*range(8, 12), *range(14, 20)], []))
    counts = torch.bincount(right.classes[course.parts.train]).tolist()
    assert counts == [10]  # the second category never trained: as if once
    found, strength = balanced(run, course, weights, 28)
    # Now only "seldom" is asked for, and half of the logarithm of ten to one is enough for it.
    assert strength == 0.5
    prior = [math.log(10 / 11), math.log(1 / 11)]
    wanted = torch.tensor([0.7 * math.log(4) - prior[0] / 2, -prior[1] / 2])
    assert torch.allclose(found["classifier.fc5.bias"], wanted, atol=1e-6)
    assert all(torch.equal(found[key], weights[key]) for key in weights if key != "classifier.fc5.bias")


def test_it_is_in_what_is_written_and_never_worse_on_the_validation_pictures(
    folder: Path, full: Recipe, tmp_path: Path
) -> None:
    lines = train("lenet", folder, tmp_path, recipe=replace(full, balance=True), workers=0)
    with safe_open(tmp_path / "final.safetensors", framework="pt") as file:
        assert '"balance"' in file.metadata()["accuracy"]
    assert lines[-1]["balance"] in STRENGTHS
    data, card = read_data(folder, 1, 28), registry.card("lenet")
    found = []
    for name in ("best", "final"):
        module = registry.build("lenet", classes=3).eval()
        module.load_state_dict({k: v.float() for k, v in load_file(tmp_path / f"{name}.safetensors").items()})
        found.append(score(module, card, data, split(data).validation, 28).mean)
    assert found[1] >= found[0]


def test_a_recipe_goes_on_from_the_weights_of_another(
    folder: Path, full: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = replace(full, name="second", stages=((1, 28),), initialisation="model")
    monkeypatch.setitem(RECIPES, "second", second)
    first = replace(full, stages=((2, 28),), then="second")
    lines = train("lenet", folder, tmp_path, recipe=first, workers=0)
    assert [line["epoch"] for line in lines] == [1, 2, 1]
    # The test pictures are looked at once, with what it all comes to.
    assert ["test" in line for line in lines] == [False, False, True]
    start_of = load_file(tmp_path / "final.safetensors")
    alone = tmp_path / "alone"
    train("lenet", folder, alone, recipe=second, weights=tmp_path / "final.safetensors", workers=0)
    both = [load_file(path / "final.safetensors") for path in (tmp_path / "second", alone)]
    assert all(torch.equal(both[0][key], both[1][key]) for key in start_of)
    again = train("lenet", folder, tmp_path, recipe=first, workers=0, resume=True)
    assert again == lines
    assert not (tmp_path / "short" / "second").exists()
    train("lenet", folder, tmp_path / "short", recipe=first, workers=0, epochs=1)
    assert not (tmp_path / "short" / "second").exists()
