"""Correspondence: boxes through the preprocessing, and every distance against plain loops in float64."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from deconvviz import Card, Network, correspondence
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, ImageError, UnknownNameError
from deconvviz.network.preprocessing import shown_region

INPUTS = torch.randn(3, 3, 16, 14, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
PARTS = [
    {"eye": [2, 3, 6, 7], "nose": [8, 5, 12, 11]},
    {"eye": [1, 1, 5, 5], "nose": [9, 4, 13, 10]},
    {"eye": [3, 8, 6, 12], "nose": [7, 7, 12, 12]},
]
GIVEN = list(zip(INPUTS, PARTS, strict=True))


def build() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 9), nn.ReLU(), nn.Linear(9, 5)
    ).double()  # fmt: skip


def net() -> Network:
    return Network(build(), (16, 14), (0.5,) * 3, (0.25,) * 3, None, {"5": "0", "7": "4"})


def by_loops(module: nn.Sequential, boxes: Tensor, stop: int, fill: float, active: bool) -> list[float]:
    """The paper's formula, feature by feature and pair by pair."""
    signs = []
    with torch.no_grad():
        for x, (top, left, bottom, right) in zip(INPUTS, boxes.tolist(), strict=True):
            covered = x.clone()
            covered[:, top:bottom, left:right] = fill
            epsilon = module[:stop](x[None]) - module[:stop](covered[None])
            signs.append([0 if abs(e) < 1e-9 else 1 if e > 0 else -1 for e in epsilon.flatten().tolist()])
    found = []
    for a, b in itertools.combinations(signs, 2):
        differ = sum(s != t for s, t in zip(a, b, strict=True))
        counted = sum(s != 0 or t != 0 for s, t in zip(a, b, strict=True)) if active else len(a)
        found.append(differ / max(counted, 1))
    return found


@pytest.mark.parametrize(("normalise", "fill", "batch"), [("features", "grey", 64), ("active", 0.5, 3)])
def test_every_distance_against_plain_loops(normalise: str, fill: Any, batch: int) -> None:
    model = net()
    r = correspondence(model, GIVEN, normalise=normalise, fill=fill, random=4, batch=batch)
    assert r.parts == ("eye", "nose") and r.layers == ("5", "7") and r.names == ("picture 1", "picture 2", "picture 3")
    assert r.boxes.tolist() == [[p[name] for p in PARTS] for name in r.parts]
    value = 0.0 if fill == "grey" else fill
    for p in range(2):
        for k, stop in enumerate((2, 6)):
            for boxes, found in [
                (r.boxes[p], r.distances[p, k]),
                *zip(r.random_boxes[p], r.random[p, :, k], strict=True),
            ]:
                assert found.tolist() == pytest.approx(
                    by_loops(model.module, boxes, stop, value, normalise == "active")
                )  # type: ignore[arg-type]
    assert r.distances.min() > 0 and r.distances.max() <= (1 if normalise == "active" else 0.9)


def test_random_boxes_have_the_parts_sizes_and_stay_inside() -> None:
    r = correspondence(build(), GIVEN, ["0"], random=200)
    sizes = r.random_boxes[..., 2:] - r.random_boxes[..., :2]
    assert sizes.equal((r.boxes[..., 2:] - r.boxes[..., :2])[:, None].expand_as(sizes))
    assert r.random_boxes.min() == 0 and r.random_boxes[..., 2].max() == 16 and r.random_boxes[..., 3].max() == 14
    tops = r.random_boxes[0, :, 0, 0]  # an eye of 4 rows in 16: 13 places, each as likely
    assert set(tops.tolist()) == set(range(13)) and abs(float(tops.double().mean()) - 6) < 1
    again = correspondence(build(), GIVEN, ["0"], random=200)
    assert again == r
    assert not correspondence(build(), GIVEN, ["0"], random=200, seed=1).random_boxes.equal(r.random_boxes)


def test_one_place_for_all_pictures() -> None:
    """The same picture three times, boxes of one size: one place for all covers the same, so nothing differs."""
    same = [(INPUTS[0], PARTS[0])] * 3
    r = correspondence(build(), same, ["0", "4"], random=5)
    assert not r.distances.any() and not r.one_place.any() and r.random.max() > 0


def test_no_draws() -> None:
    r = correspondence(build(), GIVEN, "0", random=0)
    assert r.random.shape == (2, 0, 1, 3) == r.one_place.shape and r.random_boxes.shape == (2, 0, 3, 4)


def test_rounding_is_no_change() -> None:
    """A feature that the box does not touch has no sign, however the batches are summed."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU())
    given = [(x.float(), {"all but one": [0, 0, 15, 14]}) for x in INPUTS]
    r = correspondence(model, given, ["1"], normalise="active", random=0, batch=1)
    changed = correspondence(model, given, ["1"], random=0).distances / r.distances
    assert changed.max() <= 15 / 16 + 1e-9


# Pictures of files ----------------------------------------------------------------------------------------------------


class Pixels(nn.Module):
    """The input as features."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 1


def pixel_net(**card: Any) -> Network:
    facts: dict[str, Any] = {"input_size": (24, 20), "resize": 24, **card}
    made = Card(name="pixels", labels=(), mean=(0.0,) * 3, std=(1.0,) * 3, **facts)
    return Network(Pixels(), card=made)


@pytest.mark.parametrize("resize", [24, 36, None])
@pytest.mark.parametrize("size", [(60, 90), (90, 60), (31, 47), (48, 48), (400, 10)])
def test_boxes_follow_the_picture_through_resizing_and_crop(size: tuple[int, int], resize: int | None) -> None:
    """A white rectangle, found again in the input, is where its box has gone; width × height."""
    model = pixel_net(resize=resize)
    width, height = size
    top, left, bottom, right = shown_region((height, width), model.card)
    rows = [round(top + (bottom - top) * f) for f in (0.2, 0.7)]
    columns = [round(left + (right - left) * f) for f in (0.3, 0.8)]
    rows[1], columns[1] = max(rows[1], rows[0] + 1), max(columns[1], columns[0] + 1)
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[rows[0] : rows[1], columns[0] : columns[1]] = 255
    picture = Image.fromarray(pixels)
    given = [(picture, {"white": [rows[0], columns[0], rows[1], columns[1]]})] * 2
    found = correspondence(model, given, [""], random=0).boxes[0, 0]
    white = (model.preprocess(picture)[0, 0] > 0.5).nonzero()
    expected = torch.cat([white.amin(0), white.amax(0) + 1])
    assert (found - expected).abs().max() <= 1


def test_boxes_of_a_turned_and_of_a_large_picture(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[10:20, 30:45] = 255
    turned = Image.fromarray(pixels)
    exif = turned.getexif()
    exif[0x0112] = 6  # to be shown a quarter clockwise: 60 rows, 40 columns
    turned.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    model = pixel_net()
    box = {"white": [10, 30, 20, 45]}
    r = correspondence(model, [(tmp_path / "turned.png", box), (tmp_path / "plain.png", box)], [""], random=0)
    assert r.boxes[0, 0].equal(r.boxes[0, 1]) and not r.distances.any()
    large = Image.new("RGB", (9000, 9000))
    large.paste((255, 255, 255), (3000, 1500, 6000, 4500))
    r = correspondence(model, [(large, {"white": [1500, 3000, 4500, 6000]})] * 2, [""], random=0)
    white = (model.preprocess(large)[0, 0] > 0.5).nonzero()
    assert (r.boxes[0, 0] - torch.cat([white.amin(0), white.amax(0) + 1])).abs().max() <= 1


def write(folder: Path, content: Any) -> Path:
    for name in ("a.png", "b.png"):
        Image.fromarray(np.random.default_rng(len(name)).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(
            folder / name
        )
    path = folder / "parts.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def content(**changed: Any) -> dict[str, Any]:
    entry = {"file": "b.png", "parts": {"nose": [20, 10, 30, 22], "eye": [8, 10, 16, 18]}}
    first = {"file": "a.png", "parts": {"eye": [10, 12, 18, 20], "nose": [22, 20, 30, 30]}}
    return {"about": "anything", "images": [first, {**entry, **changed}]}


def test_a_file_its_content_and_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, content())
    model = Network(build().float(), (16, 14), (0.5,) * 3, (0.25,) * 3, None, {"5": "0", "7": "4"})
    r = correspondence(model, path, random=2)
    assert r.names == ("a.png", "b.png") and r.parts == ("eye", "nose"), "parts in the first picture's order"
    (tmp_path / "else").mkdir()
    elsewhere = tmp_path / "else" / "parts.json"
    elsewhere.write_text(path.read_text())
    assert correspondence(model, str(elsewhere), folder=tmp_path, random=2) == r
    assert correspondence(model, content(), folder=tmp_path, random=2) == r
    monkeypatch.chdir(tmp_path)
    assert correspondence(model, content(), random=2) == r


WRONG: list[tuple[Any, type[Exception], str]] = [
    ("{", DeconvvizValueError, "parts.json is not JSON: .*line 1"),
    ([1, 2], DeconvvizValueError, "parts has 0 pictures with boxes; allowed: two or more"),
    ({"pictures": []}, DeconvvizValueError, 'has no list "images"'),
    ({"images": content()["images"][:1]}, DeconvvizValueError, "parts has 1 pictures"),
    ({"images": [{"file": "a.png"}] * 2}, DeconvvizValueError, 'entry 1 of "images" is not'),
    (content(file="c.png"), ImageError, "no such picture: .*c.png"),
    (content(parts={"eye": [8, 10, 16, 18]}), DeconvvizValueError, "picture 2 has no 'nose'; allowed: the same parts"),
    (
        content(parts={"eye": [10, 12, 18, 20], "nose": [1, 1, 2, 2], "ear": [1, 1, 2, 2]}),
        DeconvvizValueError,
        "has 'ear'",
    ),
    (
        content(parts={"eye": [10, 12, 18, 20], "nose": [1, 1, 2]}),
        DeconvvizTypeError,
        r"b.png: box of 'nose' is \[1, 1, 2\]",
    ),
    (
        content(parts={"eye": [10, 12, 18, 20], "nose": [5, 1, 2, 9]}),
        DeconvvizValueError,
        r"b.png: box of 'nose'.*top < bottom",
    ),
    (
        content(parts={"eye": [10, 12, 18, 20], "nose": [5, 1, 9, 51]}),
        DeconvvizValueError,
        "within 0 to 40 .* within 0 to 50",
    ),
    (content(parts={"eye": [1, 20, 9, 30], "nose": [5, 0, 9, 6]}), DeconvvizValueError, "'nose' lies outside what the"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG)
def test_wrong_files(tmp_path: Path, wrong: Any, error: type[Exception], message: str) -> None:
    path = write(tmp_path, wrong)
    model = pixel_net()
    with pytest.raises(error, match=message) as caught:
        correspondence(model, path, [""], random=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"parts": "nowhere.json"}, DeconvvizValueError, "no such file: nowhere.json"),
        ({"parts": 7}, DeconvvizTypeError, "parts is a int"),
        ({"parts": GIVEN[:1]}, DeconvvizValueError, "two or more"),
        ({"parts": [(x, {}) for x in INPUTS]}, DeconvvizValueError, "picture 1 has no parts"),
        ({"normalise": "pairs"}, UnknownNameError, "normalise is 'pairs'; allowed: 'features', 'active'"),
        ({"random": -1}, DeconvvizValueError, "random is -1"),
        ({"fill": "reflect"}, DeconvvizValueError, "fill is 'reflect'; allowed: 'grey', a number, a colour"),
        ({"layers": []}, DeconvvizValueError, "layers is empty"),
        ({"layers": ["16"]}, UnknownNameError, "unknown layer '16'"),
        ({"batch": 0}, DeconvvizValueError, "batch is 0"),
    ],
)
def test_errors(options: dict[str, Any], error: type[Exception], message: str) -> None:
    model = net()
    with pytest.raises(error, match=message):
        correspondence(model, **{"parts": GIVEN, **options})
    assert not any(m._forward_hooks for m in model.module.modules())


def test_layers_by_default() -> None:
    assert correspondence(
        Network(build(), (16, 14), aliases={"1": "0", "2": "2", "3": "4"}), GIVEN, random=0
    ).layers == (
        "2",
        "3",
    )
    with pytest.raises(DeconvvizValueError, match="give layers"):
        correspondence(build(), GIVEN)


def test_progress() -> None:
    seen: list[tuple[int, int]] = []
    correspondence(net(), GIVEN, random=1, batch=4, progress=lambda *at: seen.append(at))
    assert seen == [(k, 6) for k in range(1, 7)], "3 pictures, 2 parts × 3 boxes in batches of 4"
