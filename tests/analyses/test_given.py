"""What a result keeps of the picture that was given: all of it, small, the part that is used, and the answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import deconvviz
from deconvviz import Network, Occlusion, Projection
from deconvviz.analyses.given import answer_of, whole_of


def network(labels: tuple[str, ...] = ("cat", "dog", "cup")) -> Network:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)]
    return Network(nn.Sequential(*layers), 20, mean=(0.5,) * 3, std=(0.25,) * 3, labels=labels)


def panorama() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 900, 3), dtype=np.uint8))


def test_a_panorama_is_kept_whole_with_the_part_that_is_used(tmp_path: Path) -> None:
    net, picture = network(), panorama()
    p = deconvviz.project(net, picture, "1", top=2)
    assert p.whole is not None and p.whole.shape == (80, 360, 3) and p.whole.dtype == torch.uint8
    # 20 rows are all of 200, so 200 of 900 columns are used, in the middle: 78 % of the width are not.
    assert p.region == pytest.approx((0, 350 / 900, 1, 550 / 900), abs=1e-9)
    o = deconvviz.occlude(net, picture, window=8, stride=8)
    assert isinstance(o, Occlusion) and o.region == p.region and torch.equal(o.whole, p.whole)  # type: ignore[arg-type]
    loaded = Projection.load(p.save(tmp_path / "p.npz"))
    assert loaded == p and loaded.region == p.region and loaded.answer == p.answer
    assert p.facts()["region"] == list(p.region)


def test_what_is_seen_whole_or_is_a_tensor_keeps_nothing() -> None:
    net = network()
    assert whole_of(net, panorama().crop((0, 0, 200, 200))) == {}
    assert whole_of(net, net.preprocess(panorama())) == {}
    p = deconvviz.project(net, net.preprocess(panorama()), "1", top=2)
    assert (p.whole, p.region, p.answer, p.answer_in_words()) == (None, None, None, "")


def test_the_answer_is_that_of_the_plain_network_whatever_layer_is_asked_for() -> None:
    net = network()
    with torch.no_grad():
        probability = net.module(net.preprocess(panorama())).softmax(1)[0]
    p = deconvviz.project(net, panorama(), "0", top=1)
    assert p.answer == (int(probability.argmax()), pytest.approx(float(probability.max()), rel=1e-5))
    assert p.answer_in_words() == f"network: {net.card.labels[p.answer[0]]}, {p.answer[1]:.3g}"
    o = deconvviz.occlude(net, panorama(), target="cup", window=8, stride=8)
    assert isinstance(o, Occlusion) and o.answer_in_words() == p.answer_in_words()


def test_no_answer_without_labels_or_class_scores() -> None:
    assert deconvviz.project(network(labels=()), panorama(), "0", top=1).answer is None

    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"one": x, "other": x + 1}

    parts = [nn.Conv2d(3, 4, 3), nn.ReLU(), Two()]
    net = Network(nn.Sequential(*parts), 20, mean=(0.5,) * 3, std=(0.5,) * 3, labels=("a",))
    assert deconvviz.project(net, panorama(), "0", top=1).answer is None
    assert answer_of(Network(nn.Conv2d(3, 4, 3), 20, labels=("a",)), torch.zeros(1, 3, 20, 20)) is None


def test_results_about_several_pictures_say_what_the_network_makes_of_each(tmp_path: Path) -> None:
    net = network()
    pictures = [panorama(), panorama().transpose(Image.Transpose.FLIP_LEFT_RIGHT).crop((0, 0, 300, 200))]
    with torch.no_grad():
        shares = torch.cat([net.module(net.preprocess(p)) for p in pictures]).softmax(1)
    wanted = tuple(net.card.labels[int(n)] for n in shares.argmax(1))
    words = [f"network: {n}, {float(s):.3g}" for n, s in zip(wanted, shares.amax(1), strict=True)]
    moved = deconvviz.invariance(net, pictures, labels="cup", transforms={"flip": None}, low="0", high="1")
    boxes = {"part": [10, 10, 60, 60]}
    covered = deconvviz.correspondence(net, [(p.crop((300, 0, 500, 200)), boxes) for p in pictures[:1] * 2], ["1"])
    assert moved.answers == wanted and moved.certainties == pytest.approx(shares.amax(1).tolist(), rel=1e-5)
    legend = [t.get_text() for t in moved.figure().legends[0].get_texts()]
    assert all(text.endswith(f" · {said}") for text, said in zip(legend, words, strict=True)) and len(legend) == 2
    assert "cup" in legend[0].partition(" · ")[0]
    said = covered.answers_in_words()
    assert len(said) == 2 and [t.get_text() for t in covered.figure().texts].count(said[0]) == 2
    assert type(moved).load(moved.save(tmp_path / "m.npz")) == moved
    assert moved.facts()["answers"] == list(wanted)
    bare = deconvviz.invariance(net.module, net.preprocess(panorama()), transforms={"flip": None}, low="0", high="1")
    assert (bare.answers, bare.answers_in_words()) == ((), [])
    assert " · " not in bare.figure().legends[0].get_texts()[0].get_text()


def test_fig_1_says_what_the_network_makes_of_the_picture() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = Network(nn.Sequential(*layers), 20, mean=(0.5,) * 3, std=(0.25,) * 3, labels=list("abcd"))
    found = deconvviz.scheme(net, panorama())
    with torch.no_grad():
        share, number = net.module(net.preprocess(panorama())).softmax(1)[0].max(0)
    assert found.answer == (int(number), pytest.approx(float(share), rel=1e-5))
    assert f"network: {'abcd'[int(number)]}, {float(share):.3g}" in [t.get_text() for t in found.figure().texts]
