"""Probes keep their numbers through files; the table is the paper's Table 7."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from deconvviz.analyses.probes.result import Probes


def make(splits: int = 3) -> Probes:
    accuracy = torch.tensor([[[0.1, 0.2, 0.3], [0.2, 0.3, 0.4]], [[0.5, 0.6, 0.7], [0.8, 0.8, 0.8]]])[..., :splits]
    return Probes(
        ("conv1", "fc7"), (15, 30), accuracy, (3456, 512), (45, 90, 120), ("a", "b", "c"), "Seen before.",
        policy={"penalty": 10.0}, model={"name": "zfnet"},
    )  # fmt: skip


def test_npz_loads_as_the_same_result(tmp_path: Path) -> None:
    loaded = Probes.load(make().save(tmp_path / "a.npz"))
    assert loaded == make() and loaded.layers == ("conv1", "fc7") and loaded.per_category == (15, 30)
    assert loaded != dataclasses.replace(loaded, accuracy=loaded.accuracy + 0.1)


def test_table_tells_mean_and_deviation_in_percent() -> None:
    table = make().table()
    assert table.columns == ("layer", "features", "15 a category", "30 a category")
    assert table.rows[0] == ("SVM (conv1)", "3456", "20.0 ± 10.0", "30.0 ± 10.0")
    assert table.rows[1] == ("SVM (fc7)", "512", "60.0 ± 10.0", "80.0 ± 0.0")
    assert table.caption.endswith(
        "3 random splits, 120 test pictures. After ± the standard deviation over the splits. Seen before."
    )
    one = dataclasses.replace(make(1), errors=torch.full((2, 2, 1), 0.015), spans=((13, 15), (30, 30)))
    assert one.table().rows[0][2:] == ("10.0 ± 1.5", "20.0 ± 1.5") and "standard error" in one.table().caption
    assert one.table().columns[2:] == ("13 to 15 a category", "30 a category")
    assert make(1).table().rows[0] == ("SVM (conv1)", "3456", "10.0", "20.0")
    assert r"20.0 $\pm$ 10.0" in table.render("latex")


def test_facts_hold_the_numbers() -> None:
    facts = json.loads(json.dumps(make().facts()))
    assert facts["chance"] == pytest.approx(1 / 3) and facts["pictures"] == [45, 90, 120]
    assert facts["mean"][1] == pytest.approx([0.6, 0.8]) and len(facts["accuracy"][0][0]) == 3
