"""Probes: the protocol's draws, the features, and the classifier against gradient descent in numpy."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from deconvviz import Network, probe
from deconvviz.analyses.probes import compute as probes
from deconvviz.analyses.probes.compute import classify
from deconvviz.data.likeness import hashes_of
from deconvviz.data.listing import listing
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnknownNameError
from deconvviz.network.seen import Seen

CLASSES = 3


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(seed: int = 0) -> Network:
    """Its second layer says nothing, its third sees the picture as well as the first."""
    torch.manual_seed(seed)

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 4, 1), nn.Linear(8, 5)
            nn.init.zeros_(self.two.weight)

        def forward(self, x: Tensor) -> Tensor:
            x = self.one(x).relu()
            return self.three(x.mean((2, 3))) + self.two(x).mean((2, 3))[:, :1]  # type: ignore[no-any-return]

    return Network(Branches().eval(), 16, (0.5,) * 3, (0.25,) * 3, aliases={"1": "one", "2": "two", "3": "three"})


def data(per_class: int = 20, spread: float = 0.3) -> tuple[Tensor, Tensor]:
    """Pictures of noise whose mean colour tells the class."""
    classes = torch.arange(CLASSES).repeat(per_class)
    colours = torch.eye(3)[classes].view(-1, 3, 1, 1)
    return colours + spread * noise(len(classes), 3, 16, 16), classes


# The classifier -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [3, 30])
def test_the_classifier_is_where_its_objective_is_flat(columns: int) -> None:
    x, y, penalty = noise(14, columns), torch.arange(14) % CLASSES, 2.0
    # Scores are affine in the features: those of zero and of each unit vector give weights and bias.
    at_zero = classify(x, y, torch.zeros(1, columns), CLASSES, penalty).numpy()[0]
    raw = classify(x, y, torch.eye(columns), CLASSES, penalty).numpy() - at_zero
    array = x.double().numpy()
    mean, std = array.mean(0), array.std(0) * math.sqrt(columns)
    scaled = (array - mean) / std
    for k in range(CLASSES):
        sign, w, b = np.where(y.numpy() == k, 1.0, -1.0), raw[:, k] * std, at_zero[k] + mean @ raw[:, k]
        pull = -2 * penalty * sign * np.maximum(0, 1 - sign * (scaled @ w + b))
        assert np.abs(w).max() > 0.1
        # The gradient of |w|² / 2 + penalty × Σ max(0, 1 − y (w·x + b))².
        assert np.abs(w + scaled.T @ pull).max() < 2e-3 and abs(pull.sum()) < 2e-3


def test_repeated_features_change_nothing() -> None:
    # Eight copies of each feature have the same inner products, but more columns than rows: the other path.
    x, test, y = noise(40, 6), noise(9, 6, seed=1), torch.arange(40) % CLASSES
    once, often = (classify(x.repeat(1, n), y, test.repeat(1, n), CLASSES, 5.0) for n in (1, 8))
    assert torch.allclose(once, often, atol=1e-3)


def test_features_without_any_difference_are_no_error() -> None:
    scores = classify(torch.ones(10, 4), torch.arange(10) % 2, torch.ones(3, 4), 2, 1.0)
    assert scores.isfinite().all()


# The protocol ---------------------------------------------------------------------------------------------------------


def test_accuracy_follows_what_a_layer_knows() -> None:
    result = probe(network(), data(), per_category=(1, 8), splits=3)
    assert result.layers == ("1", "2", "3") and tuple(result.accuracy.shape) == (3, 2, 3)
    assert result.dimensions == (8 * 6 * 6, 4 * 6 * 6, 5)
    assert float(result.mean[0, 1]) > 0.95 and float(result.mean[2, 1]) > 0.95
    # Nothing to tell by: always the same answer, right for one category of three.
    assert (result.accuracy[1] - 1 / 3).abs().max() < 1e-6 and result.chance == pytest.approx(1 / 3)
    assert result.pictures == (3, 24, CLASSES * 12)


def test_accuracy_is_the_mean_over_categories() -> None:
    # Category 2 has one picture to test on, which looks like category 0: one third is lost, not one of many.
    inputs, classes = data(12, 0.01)
    keep = torch.tensor([i for i in range(36) if int(classes[i]) != 2] + [2, 5])
    inputs, classes = inputs[keep], classes[keep]
    inputs[-1] = inputs[0]
    inputs[-2] = inputs[0]
    result = probe(network(), (inputs, classes), "1", 5)
    assert float(result.accuracy) == pytest.approx(2 / 3)


def test_splits_and_seeds_are_their_own_draws() -> None:
    inputs, classes = data(20, 2.5)
    first = probe(network(), (inputs, classes), "1", 3, splits=2)
    assert first == probe(network(), (inputs, classes), "1", 3, splits=2)
    assert float(first.accuracy[0, 0, 0]) != float(first.accuracy[0, 0, 1])
    assert probe(network(), (inputs, classes), "1", 3, seed=1).accuracy[0, 0, 0] == first.accuracy[0, 0, 1]
    assert probe(network(), (inputs, classes), "1", 3, batch=7, splits=2).accuracy.equal(first.accuracy)


def folder(root: Path, sizes: dict[str, int]) -> Path:
    """Categories of small pictures, each in its own grey."""
    for k, (label, size) in enumerate(sizes.items()):
        (root / label).mkdir(parents=True)
        for n in range(size):
            Image.new("RGB", (20, 18), (40 * k + n % 20,) * 3).save(root / label / f"image_{n:04d}.png")
    return root


def watch_draws(monkeypatch: pytest.MonkeyPatch) -> list[probes._Draw]:
    """The draws that `probe` makes from now on."""
    drawn: list[probes._Draw] = []
    real = probes._draw

    def draw(*args: Any) -> probes._Draw:
        drawn.append(real(*args))
        return drawn[-1]

    monkeypatch.setattr(probes, "_draw", draw)
    return drawn


def test_the_papers_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = watch_draws(monkeypatch)
    root = folder(tmp_path, {"Faces": 30, "Faces_easy": 30, "few": 4, "many": 70})
    result = probe(network(), root, "1", (5, 10), most=12, splits=2)
    found = listing(root)
    assert result.pictures == (5 * 3 + 3, 10 * 3 + 3, 12 * 3 + 1) and result.categories == found.labels
    for draw in drawn:
        small, large = (set(part) for part in draw.train)
        assert small <= large and not large & set(draw.test)
        for part in (large, set(draw.test)):
            # The same photograph in two categories is on one side.
            faces = {found.names[i].rpartition("/")[2] for i in part if found.names[i].startswith("Faces/")}
            easy = {found.names[i].rpartition("/")[2] for i in part if found.names[i].startswith("Faces_easy/")}
            assert faces == easy
    assert set(drawn[0].test) != set(drawn[1].test)


def photographs(root: Path, sizes: dict[str, int]) -> Path:
    """Categories of pictures that can be told apart by what they show."""
    for k, (label, size) in enumerate(sizes.items()):
        (root / label).mkdir(parents=True)
        for n in range(size):
            x = nn.functional.interpolate(noise(1, 3, 14, 14, seed=1000 * k + n), (96, 96), mode="bicubic")[0]
            pixels = ((x + 2 * torch.eye(3)[k % 3].view(3, 1, 1)) * 30 + 100).clamp(0, 255).to(torch.uint8)
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(root / label / f"image_{n:04d}.png")
    return root


def trained_on(pictures: list[Path], chosen: list[Path] | None = None) -> Network:
    net = network()
    net.seen = Seen(hashes_of(pictures), hashes_of(chosen or []))
    return net


def test_no_picture_tests_that_the_network_was_trained_on_whatever_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = watch_draws(monkeypatch)
    root = photographs(tmp_path / "data", {"a": 30, "b": 41, "c": 20})
    of = {label: sorted((root / label).iterdir()) for label in "abc"}
    net = trained_on(of["a"][:20] + of["b"][5:35] + of["c"][:3], of["c"][3:7])
    # Two of the categories, under other names, smaller, and half of the pictures mirrored.
    other = tmp_path / "other"
    for label, files in (("x", of["a"]), ("y", of["b"])):
        (other / label).mkdir(parents=True)
        for n, path in enumerate(files):
            picture = Image.open(path).resize((80, 80))
            (ImageOps.mirror(picture) if n % 2 else picture).save(other / label / f"{n:02d}.png")
    for data_, names in ((root, ("a/image_00{}.png", "b/image_00{}.png")), (other, ("x/{}.png", "y/{}.png"))):
        drawn.clear()
        result = probe(net, data_, "1", (10, 15))
        found = listing(data_)
        tested = {found.names[i] for i in drawn[0].test}
        assert len(tested) == 10 + 11 + (13 if data_ == root else 0)
        assert not {names[0].format(f"{k:02d}") for k in range(20)} & tested
        assert not {names[1].format(f"{k:02d}") for k in range(5, 35)} & tested
        assert f"and 0 of the {len(tested)} that test them" in result.note, result.note
    assert probe(net, root, "1", (10, 15, 20)).spans == ((7, 10), (7, 15), (7, 20))


def test_columns_say_how_many_pictures_there_really_were(tmp_path: Path) -> None:
    root = photographs(tmp_path / "data", {"a": 16, "b": 16})
    files = {label: sorted((root / label).iterdir()) for label in "ab"}
    result = probe(trained_on(files["a"][:13] + files["b"][:13]), root, "1", (5, 15, 20, 30))
    assert result.per_category == (5, 13) and result.spans == ((5, 5), (13, 13))
    assert result.policy["asked"] == (5, 15, 20, 30)
    assert result.table().columns[2:] == ("5 a category", "13 a category")


def test_where_it_cannot_tell_it_says_so(tmp_path: Path) -> None:
    root = photographs(tmp_path / "data", {"a": 12, "b": 12})
    files = sorted((root / "a").iterdir())
    assert "is not known" in probe(network(), root, "1", 3).note
    assert "is not known" in probe(trained_on(files[:2]), data(9), "1", 3).note  # inputs, no pictures
    assert "seen 0 of the 6" in probe(trained_on([]), root, "1", 3).note
    everything = trained_on(files + sorted((root / "b").iterdir()))
    with pytest.raises(DeconvvizValueError, match="trained on all 12 pictures of 'a'"):
        probe(everything, root, "1", 3)
    note = probe(everything, root, "1", 3, held_out=None).note
    assert "6 of the 6 pictures that train the classifiers, and 18 of the 18 that test them" in note


def test_an_unreadable_picture_is_left_out_and_named(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": 6, "b": 6})
    (root / "b" / "image_0003.png").write_text("no picture")
    result = probe(network(), root, "1", 2, batch=4)
    assert result.policy["unreadable"] == ["b/image_0003.png"] and float(result.accuracy) > 0.9


def test_progress_reaches_its_end() -> None:
    seen: list[tuple[int, int]] = []
    probe(network(), data(10), ["1", "3"], (2, 4), splits=2, progress=lambda done, total: seen.append((done, total)))
    used = seen[0][1] - 2 * 2 * 2
    assert seen[-1] == (used + 8, used + 8) and all(a[0] < b[0] for a, b in itertools.pairwise(seen))


def test_errors(tmp_path: Path) -> None:
    net, pair = network(), data()
    with pytest.raises(UnknownNameError, match="'9'"):
        probe(net, pair, "9")
    with pytest.raises(DeconvvizTypeError, match="str"):
        probe("zfnet", pair)  # type: ignore[arg-type]
    with pytest.raises(DeconvvizValueError, match="per_category is 0"):
        probe(net, pair, "1", 0)
    with pytest.raises(DeconvvizValueError, match="splits"):
        probe(net, pair, "1", splits=0)
    with pytest.raises(DeconvvizValueError, match="penalty"):
        probe(net, pair, "1", penalty=0)
    with pytest.raises(DeconvvizValueError, match="held_out"):
        probe(net, pair, "1", held_out="some")
    with pytest.raises(DeconvvizValueError, match="numbered"):
        probe(net.module, pair)
    with pytest.raises(DeconvvizTypeError, match="wrap the module"):
        probe(net.module, tmp_path, "one")
    with pytest.raises(DeconvvizTypeError, match="pair"):
        probe(net, pair[0], "1")  # type: ignore[arg-type]
    with pytest.raises(DeconvvizValueError, match="inputs"):
        probe(net, (pair[0], pair[1][:3]), "1")
    with pytest.raises(DeconvvizValueError, match="too few"):
        probe(net, (pair[0][:4], [0, 0, 0, 1]), "1")
    folder(tmp_path, {"a": 4})
    with pytest.raises(DeconvvizValueError, match="two or more"):
        probe(net, tmp_path, "1")
