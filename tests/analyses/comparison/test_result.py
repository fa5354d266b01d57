"""Comparisons keep their numbers through files; tables say means and standard errors."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from deconvviz.analyses.comparison.result import Comparison, Comparisons, spread
from deconvviz.errors import ResultError

Make, Several = Callable[..., Comparison], Callable[[], Comparisons]


def test_npz_loads_as_the_same_result(tmp_path: Path, make: Make, several: Several) -> None:
    one = make(place=(3, 4), mode="unit")
    loaded = Comparison.load(one.save(tmp_path / "a.npz"))
    assert loaded == one and loaded.place == (3, 4) and loaded.kinds == one.kinds
    bare = make(sensitivity_n=None, infidelity=None, sizes=())
    assert Comparison.load(bare.save(tmp_path / "b.npz")) == bare
    assert Comparisons.load(several().save(tmp_path / "c.npz")) == several()
    assert several() != dataclasses.replace(several(), pictures=(make(0), make(1), make(3)))


def test_what_cannot_be_one(tmp_path: Path, make: Make, several: Several) -> None:
    for wrong, said in (
        (make(kinds=("baseline",)), "not one for each of 4"),
        (make(mode="place"), "neither 'class' nor 'unit'"),
        (make(deletion=torch.zeros(3, 8)), "shape"),
    ):
        with pytest.raises(ResultError, match=said):
            Comparison.load(wrong.save(tmp_path / "a.npz"))
    uneven = dataclasses.replace(several(), names=("a.jpg",))
    with pytest.raises(ResultError, match="'pictures' are 3"):
        Comparisons.load(uneven.save(tmp_path / "a.npz"))


def test_the_table_of_one_picture(make: Make) -> None:
    curves = torch.tensor([[0.9, 0.1], [0.5, 0.1], [0.9, 0.9], [0.9, 0.5]])
    table = make(deletion=curves, insertion=curves.flip(0), baseline=0.9, blurred=0.1).table()
    assert table.columns[:5] == ("method", "deletion ↓", "insertion ↑", "over edges", "over random")
    # Areas by hand: deletion of grad-cam is (0.9 + 0.5)/4 + (0.5 + 0.1)/4, insertion (0.1 + 0.9)/4 + (0.9 + 0.9)/4.
    assert table.rows[1][1:3] == ("0.500", "0.700")
    lost = [0.7, 0.5, 0.9, 0.8]
    won = [(0.1 + 0.9) / 4 + (0.9 + 0.5) / 4, 0.7, (0.1 + 0.5) / 4 + (0.5 + 0.1) / 4, (0.1 + 0.9) / 4 + (0.9 + 0.1) / 4]
    gap = [w - d for w, d in zip(won, lost, strict=True)]
    assert [row[1] for row in table.rows] == [f"{v:.3f}" for v in lost]
    assert [row[3] for row in table.rows] == [f"{gap[m] - gap[2]:+.3f}" if m != 2 else "" for m in range(4)]
    assert [row[4] for row in table.rows] == [f"{gap[m] - gap[3]:+.3f}" if m != 3 else "" for m in range(4)]
    assert table.rows[0][5:] == ("+0.500", "0.500") and table.rules == (2,)
    assert r"a \$dollar\_dog" in table.latex() and "deletion ↓" in table.markdown()


def test_no_columns_for_what_is_not_there(make: Make) -> None:
    table = make(sensitivity_n=None, infidelity=None, sizes=()).table()
    assert table.columns == ("method", "deletion ↓", "insertion ↑", "over edges", "over random")


def test_means_and_standard_errors(several: Several) -> None:
    values = several().deletion_auc[:, 0].double()
    error = float(((values - values.mean()).square().sum() / 2).sqrt()) / math.sqrt(3)
    assert several().table().rows[0][1] == f"{float(values.mean()):.3f} ± {error:.3f}"
    assert several().facts()["deletion_auc"]["guided"] == pytest.approx(  # type: ignore[index]
        {"mean": float(values.mean()), "error": error}
    )
    assert "± standard error over 3 pictures" in several().table().caption
    assert spread(torch.tensor([1.0, math.nan, 3.0])) == (2.0, 1.0)
    assert math.isnan(spread(torch.tensor([1.0])).error) and math.isnan(spread(torch.tensor([math.nan])).mean)


def test_facts_are_json_and_name_the_methods(make: Make, several: Several) -> None:
    facts = json.loads(json.dumps(make().facts()))
    assert facts["asked"] == "a $dollar_dog" and facts["infidelity"]["grad-cam"] == 0.25
    assert facts["sensitivity_n"]["guided"] == 0.5
    assert json.loads(json.dumps(several().facts()))["names"] == ["a.jpg", "b.jpg", "c.jpg"]
