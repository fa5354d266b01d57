"""Claims: each holds on numbers made so that it must, and does not on numbers made so that it must not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from deconvviz.analyses.accuracy.result import Accuracy, Series
from deconvviz.analyses.correspondence.result import Correspondence
from deconvviz.analyses.evolution.result import Evolution, EvolutionLayer
from deconvviz.analyses.invariance.result import Invariance
from deconvviz.analyses.occlusion.result import Occlusion
from deconvviz.analyses.probes.result import Probes
from deconvviz.analyses.sanity.result import Sanity
from deconvviz.paper.claims import Claim, as_markdown, as_text, check
from deconvviz.results.base import Result


def layer(name: str, similarity: list[float]) -> EvolutionLayer:
    count = len(similarity)
    numbers = torch.zeros(count, 1, dtype=torch.long)
    values = torch.tensor(similarity)[:, None]
    return EvolutionLayer(
        layer=name, alias=None, units=torch.tensor([0]), activations=torch.ones(count, 1), pictures=numbers,
        places=numbers[..., None].expand(-1, -1, 2), boxes=numbers[..., None].expand(-1, -1, 4),
        pixels=torch.zeros(count, 1, 3, 2, 2), photos=torch.zeros(count, 1, 3, 2, 2), features=values,
        projections=values,
    )  # fmt: skip


def evolution(low: list[float], high: list[float]) -> Evolution:
    return Evolution((1, 2, 5, 10), (layer("conv1", low), layer("conv5", high)), ("a.png",))


def invariance(low: Tensor, high: Tensor) -> Invariance:
    values = torch.arange(-10.0, 11.0)
    return Invariance(
        images=torch.zeros(1, 3, 4, 4), names=("a",), labels=("a",), targets=(0,), transforms=("translation",),
        counts=(21,), values=values, layers=("1", "7"), low=low[None], high=high[None],
        probability=torch.ones(1, 21), norms=torch.ones(1, 2),
    )  # fmt: skip


def occlusion(covered: float, free: float, uncovered: float) -> Occlusion:
    """10 × 10 positions; the map's activity is lowest at the first ten, where the probability is `covered`."""
    probability = torch.full((100,), free)
    probability[:10] = covered
    activity = torch.linspace(0, 1, 100).view(10, 10)
    logit = torch.special.logit
    return Occlusion(
        origins=torch.zeros(100, 2, dtype=torch.long), shape=(10, 10), window=(2, 2), stride=(1, 1),
        logits=torch.stack([logit(probability), torch.zeros(100)], 1),
        baseline=torch.tensor([float(logit(torch.tensor(uncovered))), 0.0]), target=0, image=torch.zeros(3, 11, 11),
        fill_values=torch.zeros(3, 1, 1), activity=activity, labels=("cat", "dog"),
    )  # fmt: skip


def correspondence(parts: list[float], random: float, one: float) -> Correspondence:
    count = len(parts)
    own = torch.tensor(parts, dtype=torch.float64)[:, None, None].expand(-1, 2, 3).contiguous()
    draws = torch.ones(count, 4, 2, 3, dtype=torch.float64)
    return Correspondence(
        images=torch.zeros(3, 3, 4, 4), names=("a", "b", "c"), parts=tuple(f"part {n}" for n in range(count)),
        boxes=torch.zeros(count, 3, 4, dtype=torch.long), layers=("5", "7"), distances=own, random=draws * random,
        one_place=draws * one, random_boxes=torch.zeros(count, 4, 3, 4, dtype=torch.long),
    )  # fmt: skip


def probes(accuracy: list[float]) -> Probes:
    names = ("1", "2", "3", "4", "5", "7")[: len(accuracy)]
    values = torch.tensor(accuracy)[:, None, None]
    return Probes(names, (30,), values, (9,) * len(names), (30, 50), ("a", "b"))


def accuracy(features: float, scratch: float) -> Accuracy:
    lines = (
        Series("trained from scratch, 64 epochs", True, (30,), (scratch,)),
        Series("features of zfnet, layer 7", True, (15, 30), (0.1, features)),
        Series("trained from scratch", False, (30,), (0.465,)),
    )
    return Accuracy(lines, 0.01)


def only(folder: Path, which: int, **results: Result) -> Claim:
    for name, result in results.items():
        result.save(folder / f"{name.replace('_', '-')}.npz")
    claims = check(folder)
    assert [c.holds for n, c in enumerate(claims) if n != which] == [None] * (len(claims) - 1)
    return claims[which]


def test_nothing_is_checked_without_numbers(tmp_path: Path) -> None:
    claims = check(tmp_path)
    assert len(claims) == 7 and all(c.holds is None and c.numbers.startswith("Needs ") for c in claims)
    (tmp_path / "table7.npz").write_bytes(b"not a result")
    assert all(c.holds is None for c in check(tmp_path))


RISING, LATE = [0.95, 0.97, 0.99, 1.0], [0.1, 0.3, 0.6, 1.0]


@pytest.mark.parametrize(("low", "high", "holds"), [(RISING, LATE, True), (LATE, RISING, False), (LATE, LATE, False)])
def test_settling(tmp_path: Path, low: list[float], high: list[float], holds: bool) -> None:
    claim = only(tmp_path, 0, evolution=evolution(low, high))
    assert claim.holds is holds
    if holds:
        assert "conv1 from epoch 1, conv5 from epoch 10" in claim.numbers and "conv1 0.95, conv5 0.10" in claim.numbers


def test_settling_by_the_recipe_is_said(tmp_path: Path) -> None:
    found = evolution(RISING, LATE)
    assert "The recipe helps" not in only(tmp_path, 0, evolution=found).numbers
    slowed = replace(found, policy={"initialisation": "data", "factors": [["conv1.", 0.15]]})
    claim = only(tmp_path, 0, evolution=slowed)
    assert (
        "the filters start from the data and some layers learn at a fraction of the rate (conv1 0.15)" in claim.numbers
    )


def test_smoothness(tmp_path: Path) -> None:
    away = torch.arange(-10.0, 11.0).abs()
    at_once, line = (away > 0).float(), away / 10
    claim = only(tmp_path, 1, figure5=invariance(at_once, line))
    assert claim.holds is True and "100% of its largest in layer 1 and 10% in layer 7" in claim.numbers
    assert only(tmp_path, 1, figure5=invariance(line, at_once)).holds is False


def test_covering(tmp_path: Path) -> None:
    claim = only(tmp_path, 2, figure7_1=occlusion(0.2, 0.9, 0.95), figure7_2=occlusion(0.5, 0.8, 0.9))
    assert claim.holds is True and claim.numbers.startswith("In 2 of 2 pictures: cat 0.950, covered at worst 0.200")
    assert "over the strongest map's place 0.200, away from it 0.900" in claim.numbers
    # Away from the object it falls more: that is no support.
    claim = only(tmp_path, 2, figure7_2=occlusion(0.9, 0.3, 0.95))
    assert claim.holds is False and claim.numbers.startswith("In 1 of 2 pictures")


def test_parts(tmp_path: Path) -> None:
    claim = only(tmp_path, 3, correspondence=correspondence([0.2, 0.25], 0.3, 0.4))
    assert claim.holds is True and "part 0 0.200 against 0.300" in claim.numbers and "one place" not in claim.numbers
    claim = only(tmp_path, 3, correspondence=correspondence([0.2, 0.35], 0.3, 0.1))
    assert claim.holds is False and "for 1 of 2 parts" in claim.numbers and "it is 0.100" in claim.numbers


def test_depth(tmp_path: Path) -> None:
    claim = only(tmp_path, 4, table7=probes([0.4, 0.6, 0.7, 0.8, 0.75, 0.78]))
    assert claim.holds is True and "Not at every step: 5 below 4." in claim.numbers and "layer 4 80.0%" in claim.numbers
    assert only(tmp_path, 4, table7=probes([0.8, 0.7, 0.6, 0.5, 0.4, 0.3])).holds is False


def test_features(tmp_path: Path) -> None:
    claim = only(tmp_path, 5, accuracy=accuracy(0.7, 0.4))
    assert claim.holds is True and "layer 7 70.0%, trained from scratch, 64 epochs 40.0%" in claim.numbers
    assert only(tmp_path, 5, accuracy=accuracy(0.3, 0.4)).holds is False


def sanity(pictures: float, units: float, weights: float) -> Sanity:
    """One unit of a layer with one below: its |cosine| with other pictures and units, and what random weights leave."""
    alike, one, none = torch.full((2, 1, 4), weights), torch.ones(1, 4), torch.zeros(1, dtype=torch.long)
    return Sanity(
        layer="features.3", alias="conv2", image=torch.zeros(3, 8, 8), units=none, places=torch.zeros(1, 2).long(),
        activations=torch.ones(1), boxes=torch.zeros(1, 4).long(), layers=("conv2", "conv1"),
        measures=("rank", "magnitudes", "SSIM", "HOG"), cascading=alike, independent=alike, unit_chance=one,
        picture_chance=one, other_pictures=torch.tensor([pictures]), other_units=torch.tensor([units]),
        other_signal=torch.tensor([0.1]), other_switches=torch.tensor([0.1]), switches=1, companions=("b.png",),
        examples=torch.zeros(1, 1, 3, 8, 8), example_names=("untouched",), policy={"method": "deconvnet"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("alike", "holds", "said"),
    [
        ((0.1, 0.1, 0.0), True, "What they show. This picture: others give something else (|cosine| 0.10"),
        ((0.95, 0.1, 0.0), False, "What they do not show. Anything of this picture"),
        ((0.1, 0.95, 0.0), False, "What they do not show. Which unit it is of"),
        ((0.1, 0.1, 0.6), False, "What they do not show. The network's weights: random ones give much the same"),
    ],
)
def test_belief(tmp_path: Path, alike: tuple[float, float, float], holds: bool, said: str) -> None:
    claim = only(tmp_path, 6, sanity=sanity(*alike))
    assert claim.holds is holds and said in claim.numbers
    assert claim.numbers.startswith("1 map of conv2 in one picture, deconvnet.")


def test_words() -> None:
    claims = [Claim("A|b <i>", "Fig. 1", True, "1 < 2"), Claim("C", "Fig. 2", False, "x"), Claim("D", "", None, "")]
    text = as_text(claims, "zfnet")
    assert "[holds] A|b <i> (Fig. 1)\n    1 < 2" in text and "[does not hold] C" in text and "[not checked] D" in text
    assert r"| A\|b \<i\> | Fig. 1 | holds | 1 \< 2 |" in as_markdown(claims, "zfnet")
