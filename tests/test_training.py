"""Training on made-up pictures: the loss falls, a resumed run is the same run, what is written loads."""

from __future__ import annotations

import copy
import gzip
import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import deconvviz
from deconvviz.cli import cli
from deconvviz.errors import DeconvvizValueError, UnknownNameError
from deconvviz.models.recipes import RECIPES, Augmentation, Recipe, recipe_for
from deconvviz.training import (
    Norms,
    Pictures,
    accuracy,
    augment,
    rate,
    read_data,
    renormalise,
    split,
    ten_crops,
    train,
)

# Everything a recipe can ask for, on a network that is small.
FULL = Recipe(
    name="full",
    stages=((2, 28), (1, 0)),
    batch=8,
    optimiser="adamw",
    lr=5e-3,
    warmup=2,
    factors=(("features.conv1.", 0.5),),
    smoothing=0.05,
    ema=0.9,
    clip=5.0,
    augmentation=Augmentation((0.7, 1.0), 1.1, flip=0.5, colour=0.5, erase=0.2),
    initialisation="data",
    batch_norm=True,
    filter_rms=0.5,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes, told apart by where the picture is bright: 16 noisy pictures each, and a broken one."""
    g = torch.Generator().manual_seed(0)
    for c, label in enumerate(("bottom", "middle", "top")):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(16):
            x = torch.randint(0, 90, (32, 32), generator=g, dtype=torch.uint8)
            x[20 - 8 * c : 28 - 8 * c, 4:28] += 140  # not left and right: mirror images keep their class
            Image.fromarray(x.numpy()).save(tmp_path / "data" / label / f"{i:03}.png")
    (tmp_path / "data" / "bottom" / "broken.png").write_bytes(b"not a picture")
    (tmp_path / "data" / "BACKGROUND_Google").mkdir()
    (tmp_path / "data" / ".hidden").mkdir()
    return tmp_path / "data"


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_loss_falls_and_files_load(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    recipe = replace(FULL, stages=((12, 0),), filter_rms=0.0, augmentation=Augmentation())
    lines = train("lenet", folder, out, recipe=recipe, workers=0)
    assert [line["epoch"] for line in lines] == list(range(1, 13))
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    assert lines[-1]["test"] == 1.0 and lines[-1]["test_ten_crops"] == 1.0
    assert [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()] == lines
    assert "broken.png" in (out / "unreadable.txt").read_text()
    assert {p.name for p in out.glob("*.safetensors")} == {
        *(f"epoch{n}.safetensors" for n in (1, 2, 5, 10)),
        "best.safetensors",
        "final.safetensors",
    }
    data = read_data(folder, 1, 28)
    net = deconvviz.load("lenet", out / "final.safetensors")
    assert net.card.labels == ("bottom", "middle", "top") and not net.module.training
    assert accuracy(net.module, net.card, data, split(data)[1], 28) == 1.0
    early = deconvviz.load("lenet", out / "epoch1.safetensors")
    assert early.module(torch.zeros(1, 1, 28, 28)).shape == (1, 3)


def test_resumed_is_bit_equal_to_uninterrupted(folder: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train("lenet", folder, whole, recipe=FULL, workers=0)

    def stop(line: dict[str, object]) -> None:
        torch.rand(7)  # whatever else the program draws must not matter
        raise KeyboardInterrupt

    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            train("lenet", folder, parts, recipe=FULL, workers=0, resume=resume, report=stop)
    train("lenet", folder, parts, recipe=FULL, workers=0, resume=True)
    a, b = (torch.load(p / "last.pt", weights_only=True) for p in (whole, parts))
    assert a["epoch"] == 3 and same(a, b)
    for name in ("final.safetensors", "epoch2.safetensors"):
        assert same(load_file(whole / name), load_file(parts / name))
    assert (whole / "metrics.jsonl").read_bytes() == (parts / "metrics.jsonl").read_bytes()
    assert not list(parts.glob("*.part"))


def test_resume_refuses_another_run(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DeconvvizValueError, match="nothing to resume"):
        train("lenet", folder, out, recipe=FULL, resume=True)
    train("lenet", folder, out, recipe=FULL, epochs=1, workers=0)
    with pytest.raises(DeconvvizValueError, match="fresh"):
        train("lenet", folder, out, recipe=FULL, epochs=1)
    with pytest.raises(DeconvvizValueError, match="recipe, seed"):
        train("lenet", folder, out, recipe=FULL, epochs=2, seed=1, resume=True)
    with pytest.raises(UnknownNameError, match="did you mean 'lenet'"):
        train("lennet", folder, out)
    (out / "epoch64.safetensors").touch()
    train("lenet", folder, out, recipe=FULL, epochs=1, workers=0, fresh=True)
    assert not (out / "epoch64.safetensors").exists()  # of the earlier run
    with pytest.raises(UnknownNameError, match="'zfnet'"):
        train("lenet", folder, out, recipe="zfnt", fresh=True)


def test_folding_is_exact_in_float64() -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.ReLU(),
            nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU()),
            nn.Flatten(),
            nn.Linear(5 * 16, 7),
            nn.ReLU(),
            nn.Linear(7, 3),
        )
        plain = copy.deepcopy(model).eval()
        norms = Norms(model)
        assert list(norms.layers) == ["2.0", "4"]
        for _ in range(5):  # running statistics that are not the start's
            model(torch.randn(16, 1, 8, 8) * 2 + 1)
        for norm in norms.norms.values():
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
        model.eval()
        norms.eval()
        x = torch.randn(6, 1, 8, 8)
        with torch.no_grad():
            assert not torch.allclose(plain(x), model(x))
            plain.load_state_dict(norms.fold(model.state_dict(), norms.state_dict()))
            assert torch.allclose(plain(x), model(x), rtol=1e-12, atol=1e-12)
    finally:
        torch.set_default_dtype(torch.float32)


def test_renormalise_scales_back_only_what_is_too_large() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 3))
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([0.5, 1.0, 4.0]).view(3, 1, 1, 1)
        model[1].weight[:] = torch.tensor([0.05, -0.3]).view(2, 1, 1, 1)
    assert renormalise(model, 0.1, input_scale=20.0) == 2
    assert torch.allclose(model[0].weight.flatten(1).mean(1), torch.tensor([0.5, 1.0, 2.0]))
    assert torch.allclose(model[1].weight.flatten(1).mean(1), torch.tensor([0.05, -0.1]))


def made_up(sizes: dict[str, int]) -> Pictures:
    names = [(c, f"image_{i:04}.jpg") for c, n in enumerate(sizes.values()) for i in range(n)]
    return Pictures([], torch.tensor([c for c, _ in names]), tuple(n for _, n in names), tuple(sizes))


def test_split_by_share_keeps_pairs_together() -> None:
    data = made_up({"Faces": 40, "Faces_easy": 40, "ant": 33, "bass": 9})
    train_, test = split(data, 0.12)
    assert sorted(train_ + test) == list(range(122))
    chosen = [(data.labels[int(data.classes[i])], data.names[i]) for i in test]
    faces = {n for c, n in chosen if c == "Faces"}
    assert faces == {n for c, n in chosen if c == "Faces_easy"} and len(faces) == 5
    assert sum(c == "ant" for c, _ in chosen) == 4 and sum(c == "bass" for c, _ in chosen) == 2
    assert split(data, 0.12) == (train_, test)
    # A picture more changes no other's side of the split but at the border.
    more = split(made_up({"Faces": 40, "Faces_easy": 40, "ant": 33, "bass": 10}), 0.12)[1]
    assert [i for i in more if i < 113] == [i for i in test if i < 113]


def test_split_by_count() -> None:
    data = made_up({"ant": 100, "bass": 31})
    train_, test = split(data, per_category=30)
    assert not set(train_) & set(test)
    assert [int((data.classes[train_] == c).sum()) for c in (0, 1)] == [30, 30]
    assert [int((data.classes[test] == c).sum()) for c in (0, 1)] == [50, 1]
    train_, test = split(data, per_category=31)  # no others in "bass": an eighth of it is for testing
    assert [int((data.classes[train_] == c).sum()) for c in (0, 1)] == [31, 27]
    assert [int((data.classes[test] == c).sum()) for c in (0, 1)] == [50, 4]
    with pytest.raises(DeconvvizValueError, match="'bass' has only 1 picture"):
        split(made_up({"ant": 100, "bass": 1}), per_category=30)
    with pytest.raises(DeconvvizValueError, match="per_category is 0"):
        split(data, per_category=0)


def test_read_folder(folder: Path) -> None:
    data = read_data(folder, 3, 28)
    assert data.labels == ("bottom", "middle", "top") and len(data.pixels) == 48
    assert data.pixels[0].shape == (3, 28, 28) and data.pixels[0].dtype == torch.uint8
    assert len(data.unreadable) == 1 and "broken.png" in data.unreadable[0]
    with pytest.raises(DeconvvizValueError, match="one folder of pictures per category"):
        read_data(folder / "bottom")


def write_idx(path: Path, sizes: tuple[int, ...], data: bytes) -> None:
    path.write_bytes(gzip.compress(struct.pack(f">HBB{len(sizes)}I", 0, 8, len(sizes), *sizes) + data))


def test_read_idx(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("t10k", 2)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", (count, 2, 3), bytes(range(6 * count)))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", (count,), bytes([0, 2, 1, 2][:count]))
    data = read_data(tmp_path, 1)
    assert data.pixels[1].tolist() == [[[6, 7, 8], [9, 10, 11]]]
    assert data.classes.tolist() == [0, 2, 1, 2, 0, 2] and data.labels == ("0", "1", "2")
    assert split(data) == ([0, 1, 2, 3], [4, 5])
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(DeconvvizValueError, match="damaged"):
        read_data(tmp_path, 1)


def test_augment_is_a_function_of_the_generator_and_off_by_default() -> None:
    g = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (3, 20, 20), generator=g, dtype=torch.uint8)
    plain, place = augment(picture, 20, Augmentation(), torch.Generator().manual_seed(1))
    assert torch.equal(plain, picture.float() / 255) and place.tolist() == [0, 0, 1, 1]
    how = RECIPES["zfnet"].augmentation
    views = [augment(picture, 16, how, torch.Generator().manual_seed(s))[0] for s in (1, 1, *range(2, 40))]
    assert torch.equal(views[0].nan_to_num(9.0), views[1].nan_to_num(9.0))
    assert len({v.nan_to_num(9.0).sum().item() for v in views[1:]}) == 39
    erased = sum(bool(v.isnan().any()) for v in views[1:])
    assert 3 < erased < 20  # a quarter of 39
    assert all(v.nan_to_num(0.0).min() >= 0 and v.nan_to_num(0.0).max() <= 1 for v in views)


def test_ten_crops_are_corners_centre_and_mirrors() -> None:
    picture = torch.arange(36, dtype=torch.uint8).view(1, 6, 6)
    crops = ten_crops(picture, 6, 4)
    assert sorted(c[0, 0, 0].item() for c in crops[:5]) == [0, 2, 7, 12, 14]
    assert torch.equal(crops[5:], crops[:5].flip(-1)) or torch.equal(
        crops[5:].sort(0).values, crops[:5].flip(-1).sort(0).values
    )


def test_rates() -> None:
    cosine = Recipe("c", ((1, 0),), lr=1.0, warmup=10, floor=0.01)
    assert rate(cosine, 0, 1000) == pytest.approx(0.1)
    assert rate(cosine, 500, 1000) == pytest.approx(0.505)
    assert rate(cosine, 1000, 1000) == pytest.approx(0.01)
    small = replace(RECIPES["small"], warmup=0)
    assert [rate(small, e, 200) for e in (0, 59, 60, 120, 160)] == pytest.approx([0.1, 0.1, 0.02, 0.004, 0.0008])


def test_recipes_belong_together() -> None:
    assert recipe_for("zfnet") == "zfnet" and recipe_for("vgg16_32") == "small"
    zfnet = RECIPES["zfnet"]
    assert zfnet.epochs == 33 and [zfnet.size_at(e) for e in (0, 21, 22, 30, 32)] == [112, 112, 160, 224, 224]


def test_command(folder: Path, tmp_path: Path) -> None:
    args = ["train", "--model", "lenet", "--data", str(folder), "--out", str(tmp_path / "out")]
    args += ["--epochs", "1", "--batch", "8", "--workers", "0"]
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == 0, done.output
    assert "epoch 1  size 28  loss" in done.output and "1 pictures could not be read" in done.output
    again = CliRunner().invoke(cli, args)
    assert again.exit_code == 2 and "--resume" in again.output
    assert CliRunner().invoke(cli, [*args, "--resume"]).exit_code == 0
