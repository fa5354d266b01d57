"""The result of `correspondence`: means, deviations, tables, saving."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deconvviz.analyses.correspondence.result import Correspondence
from deconvviz.errors import DeconvvizValueError


def make(draws: int = 4) -> Correspondence:
    """Three pictures, two parts, two layers, three pairs."""
    g = torch.Generator().manual_seed(1)
    return Correspondence(
        images=torch.rand(3, 3, 8, 8, generator=g), names=("a.jpg", "b.jpg", "c.jpg"), parts=("left eye", "nose"),
        boxes=torch.tensor([[[0, 0, 2, 3]] * 3, [[4, 4, 6, 8]] * 3]), layers=("5", "7"),
        distances=torch.tensor([[[0.1, 0.2, 0.3], [0.5] * 3], [[0.2] * 3, [0.0, 0.3, 0.6]]], dtype=torch.float64),
        random=torch.rand(2, draws, 2, 3, generator=g, dtype=torch.float64),
        one_place=torch.rand(2, draws, 2, 3, generator=g, dtype=torch.float64),
        random_boxes=torch.zeros(2, draws, 3, 4, dtype=torch.long),
        policy={"share of": "all features", "fill": "grey", "draws": draws}, mean=(0.5,) * 3, std=(0.5,) * 3,
        model={"name": "tiny"},
    )  # fmt: skip


def test_delta_against_plain_lists() -> None:
    r = make()
    delta = r.delta()
    assert list(delta) == ["left eye", "nose", "random", "random, one place"]
    assert delta["left eye"] == [pytest.approx((0.2, 0.1)), pytest.approx((0.5, 0.0))]
    for name, values in (("random", r.random), ("random, one place", r.one_place)):
        for layer in range(2):
            every = [v for part in values.tolist() for draw in part for v in draw[layer]]
            assert delta[name][layer] == pytest.approx((statistics.mean(every), statistics.stdev(every)))
    assert list(make(0).delta()) == ["left eye", "nose"]
    assert replace(r, distances=r.distances[..., :1]).delta()["nose"] == [
        pytest.approx((0.2, 0)),
        pytest.approx((0, 0)),
    ]


def test_the_share_of_draws_below_a_part() -> None:
    r = make()
    below = r.below()
    for name, values in (("random", r.random), ("random, one place", r.one_place)):
        for p, part in enumerate(r.parts):
            for layer in range(2):
                own = sum(r.distances[p, layer].tolist()) / 3
                count = sum(sum(draw[layer].tolist()) / 3 < own for draw in values[p])
                assert below[name][part][layer] == count / 4
    lowest = replace(r, distances=0 * r.distances)
    assert lowest.below()["random"] == {"left eye": [0, 0], "nose": [0, 0]}
    assert make(0).below() == {}


def test_the_table() -> None:
    table = make().table()
    assert table.columns == ("Covered part", "Layer 5", "Layer 7")
    assert table.rows[0] == ("Left eye", "0.200 ± 0.100", "0.500 ± 0.000")
    assert [row[0] for row in table.rows] == ["Left eye", "Nose", "Random", "Random, one place"] and table.rules == (2,)
    assert "0.200 ± 0.100" in table.text() and "| Nose |" in table.markdown() and r"0.200 $\pm$ 0.100" in table.latex()
    for said in ("tiny", "3 pictures", "all features", "3 pairs of pictures", "4 draws"):
        assert said in table.caption
    assert len(make(0).table().rows) == 2 and "Random" not in make(0).caption()


def test_saved_and_loaded(tmp_path: Path) -> None:
    for r in (make(), make(0)):
        r.save(tmp_path / "r.npz")
        assert Correspondence.load(tmp_path / "r.npz") == r
    assert make() != replace(make(), distances=make().distances + 0.1)
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(DeconvvizValueError, match="not a saved correspondence"):
        Correspondence.load(tmp_path / "bad.npz")


def test_facts_are_json() -> None:
    facts = json.loads(json.dumps(make().facts()))
    assert facts["delta"]["left eye"][0] == {"mean": 0.2, "std": 0.1} and facts["boxes"][1][0] == [4, 4, 6, 8]
    assert "images" not in facts and set(facts["below"]) == {"random", "random, one place"}
    assert make().title == "tiny correspondence in layers 5 and 7"
