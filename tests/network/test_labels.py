"""Class names: each way to give them is the same names, and what is none is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import deconvviz
from deconvviz.errors import DeconvvizError, DeconvvizTypeError, DeconvvizValueError
from deconvviz.network.labels import class_names

NAMES = ("cat", "dog", "cow")
GIVEN: dict[str, Any] = {
    "a list": list(NAMES),
    "an array": np.array(NAMES),
    "a generator": (name for name in NAMES),
    "id2label": {2: "cow", 0: "cat", 1: "dog"},
    "id2label of JSON": {"1": "dog", "2": "cow", "0": "cat"},
    "class_to_idx": {"cow": 2, "dog": 1, "cat": 0},
}


@pytest.mark.parametrize("kind", GIVEN)
def test_names_in_output_order(kind: str) -> None:
    assert class_names(GIVEN[kind]) == NAMES


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "\ufeffcat\ndog \ncow\n"),
        ("names.json", json.dumps(NAMES)),
        ("names.json", json.dumps({"0": "cat", "2": "cow", "1": "dog"})),
        ("names.json", json.dumps({"cow": 2, "dog": 1, "cat": 0})),
    ],
)
def test_names_of_a_file(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert class_names(tmp_path / name) == class_names(str(tmp_path / name)) == NAMES


def test_none_are_no_names() -> None:
    assert class_names(None) == class_names([]) == ()


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"cat", "dog"}, DeconvvizTypeError, "labels is a set"),
        (5, DeconvvizTypeError, "labels is a int"),
        ([["n01", "cat"]], DeconvvizTypeError, "a list for a name"),
        ({0: "cat", 2: "dog"}, DeconvvizValueError, "from 0 to 1"),
        ({"cat": 1, "dog": 1}, DeconvvizValueError, "from 0 to 1"),
        ({"cat": 0.0}, DeconvvizValueError, "from 0 to 0"),
        ("cat", DeconvvizValueError, "cannot read class names from cat"),
    ],
)
def test_what_is_no_name(given: Any, error: type[DeconvvizError], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        class_names(given)
    assert "\n" not in str(caught.value)


def test_a_network_takes_them_and_needs_one_for_each_class() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    net = deconvviz.Network(module, 8, labels={2: "cow", 0: "cat", 1: "dog"})
    x = torch.randn(1, 3, 8, 8)
    assert deconvviz.occlude(net, x, "cow", window=4, stride=4).target == 2
    with pytest.raises(DeconvvizValueError, match="labels has 2 names, and this output 3 classes"):
        deconvviz.occlude(net.adjusted(labels=NAMES[:2]), x, window=4, stride=4)
