"""`deconvviz occlude` from end to end, on a small network that only the test knows."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deconvviz import cli
from deconvviz.analyses.occlusion.result import Occlusion

SOURCE = """
import torch
from torch import nn
from deconvviz import Network

def make(aliases={"5": "3"}):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(),
              nn.Linear(200, 3)]
    net = nn.Sequential(*layers)
    labels = ["cat", "2", "dog"]
    return Network(net, input_size=32, mean=(0.5,) * 3, std=(0.25,) * 3, labels=labels, aliases=aliases)

def plain():
    return make({})
"""


@pytest.fixture
def place(pictures: Path, network: Callable[[str, str], None]) -> Path:
    """The folder with pictures, and a network in it."""
    network("tiny_to_occlude", SOURCE)
    return pictures


def run(*args: str, model: str = "tiny_to_occlude:make") -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["occlude", "--model", model, *args])
    return int(stopped.value.code or 0)


def result(*args: str, model: str = "tiny_to_occlude:make") -> Occlusion:
    assert run(*args, "--overwrite", "--out", "r.npz", "a.png", model=model) == 0
    return Occlusion.load("r.npz")


def written(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if "-" in p.name or p.name.startswith("."))


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("npz", b"PK")])
def test_every_format(place: Path, kind: str, start: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--window", "16", "--stride", "8", "--format", kind, "a.png") == 0
    out, err = capsys.readouterr()
    (name,) = written(place)
    assert out == f"{name}\n" and err == "" and name.startswith("a-") and name.endswith(f"-occlusion.{kind}")
    assert (place / name).read_bytes().startswith(start)


def test_options_reach_the_result(place: Path) -> None:
    o = result("--window", "8x12", "--stride", "6x10", "--fill", "-1,0.5,2", "--target", "dog", "--positions", "captum")
    assert o.window == (8, 12) and o.stride == (6, 10) and o.shape == (5, 3) and o.positions == "captum"
    assert o.origins.tolist() == [[r, c] for r in range(0, 25, 6) for c in range(0, 21, 10)]
    assert o.fill_values.flatten().tolist() == [-1, 0.5, 2] and o.target == 2
    assert o.layer == "3" and o.unit is not None and o.projection is not None and o.model["name"]


def test_defaults_suit_the_input(place: Path) -> None:
    o = result()
    assert o.window == (5, 5) and o.stride == (1, 1) and o.fill == "grey" and not o.fill_values.any()
    assert o.target == int(o.baseline.argmax()) and o.layer == "3"
    assert result("--layer", "none").layer is None
    assert result("--layer", "0").layer == "0"
    assert result(model="tiny_to_occlude:plain").layer is None, "the card has no layer 5"


def test_a_target_is_a_label_before_it_is_a_number(place: Path) -> None:
    assert result("--window", "32", "--target", "2").target == 1
    assert result("--window", "32", "--target", "0").target == 0


def test_noise_has_a_seed(place: Path) -> None:
    first, again, other = (result("--window", "16", "--fill", "noise", "--seed", seed) for seed in ("1", "1", "2"))
    assert torch.equal(first.fill_values, again.fill_values) and torch.equal(first.logits, again.logits)
    assert not torch.equal(first.fill_values, other.fill_values)


def test_a_mask_gives_the_window_its_size_and_shape(place: Path) -> None:
    mask = np.zeros((6, 9), dtype=np.uint8)
    mask[2:, :4] = 255
    Image.fromarray(mask).save(place / "mask.png")
    o = result("--mask", "mask.png", "--stride", "16")
    assert o.mask is not None and o.mask.tolist() == (mask > 0).tolist() and o.window == (6, 9)
    assert run("--mask", "mask.png", "--window", "8", "a.png") == 2


def test_view_and_overlay_change_the_picture_only(place: Path) -> None:
    pictures = []
    for n, options in enumerate(([], ["--overlay"], ["--view", "attribution"])):
        assert run("--window", "16", *options, "--out", f"{n}.png", "a.png") == 0
        with Image.open(f"{n}.png") as shown:
            pictures.append((shown.size, shown.convert("RGB").tobytes()))
    assert pictures[0][0] == pictures[1][0] != pictures[2][0] and pictures[0] != pictures[1]


def test_the_range_reaches_the_figure(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []
    draw = Occlusion.figure
    monkeypatch.setattr(Occlusion, "figure", lambda o, **options: seen.append(options) or draw(o, **options))
    assert run("--window", "16", "--range", "-2:0.5", "--view", "attribution", "a.png") == 0
    assert run("--window", "16", "--overlay", "a.png") == 0
    assert [(s["vmin"], s["vmax"]) for s in seen] == [(-2, 0.5), (None, None)]


def test_attributions_of_several_pictures_have_one_scale(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dark = np.asarray(Image.open("a.png")) // 8  # whose drops are smaller
    Image.fromarray(dark).save("more/dark.png")
    alone = {}
    for name in ("a.png", "more/dark.png"):
        assert run("--window", "16", "--out", "r.npz", "--overwrite", name) == 0
        drop = Occlusion.load("r.npz").heatmap()
        alone[name] = float(drop[drop.isfinite()].abs().max())
    seen: list[dict[str, object]] = []
    draw = Occlusion.figure
    monkeypatch.setattr(Occlusion, "figure", lambda o, **options: seen.append(options) or draw(o, **options))
    assert (
        run("--window", "16", "--view", "attribution", "--out", "both", "more/dark.png", "more/bad.jpg", "a.png") == 1
    )
    most = max(alone.values())
    assert min(alone.values()) < 0.9 * most
    assert [(s["vmin"], s["vmax"]) for s in seen] == [pytest.approx((-most, most), rel=1e-6)] * 2
    assert len(written(place / "both")) == 2
    assert run("--window", "16", "--view", "attribution", "--overwrite", "more/dark.png") == 0
    assert seen[2]["vmax"] is None, "a picture alone has a scale of its own"


def test_folders_are_read_with_their_sub_folders(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("more/deep/deeper", "more/.hidden"):
        (place / folder).mkdir(parents=True)
        Image.open("a.png").transpose(Image.Transpose.ROTATE_180).save(place / folder / "b.png")
    (place / "more" / "bad.jpg").unlink()
    (place / "more" / "deep" / "again").symlink_to(place / "more", target_is_directory=True)
    assert run("--window", "16", "--json", "--format", "npz", "--out", "out", "more") == 0
    found = [r["image"].replace("\\", "/") for r in json.loads(capsys.readouterr().out)["results"]]
    assert found == ["more/a.png", "more/deep/deeper/b.png"]


def test_an_unreadable_picture_loses_no_other(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--window", "16", "--out", "figures/new", "more", "a.png") == 1
    out, err = capsys.readouterr()
    # Two pictures of one name: two files.
    assert len(written(place / "figures" / "new")) == 2 == len(out.splitlines())
    first, last = err.splitlines()
    assert "bad.jpg" in first and last == "deconvviz: 1 of 3 pictures failed; see above"


def test_json_is_one_object(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--window", "16", "--json", "--format", "npz", "a.png", "more") == 1
    facts = json.loads(capsys.readouterr().out)
    assert [r["image"].replace("\\", "/") for r in facts["results"]] == ["a.png", "more/a.png"]
    for found in facts["results"]:
        o = Occlusion.load(place / found["file"])
        assert found["window"] == [16, 16] and found["shape"] == [5, 5] and "labels" not in found
        assert found["baseline_probability"] == pytest.approx(float(o.baseline.softmax(0)[o.target]))
        assert sum(p["positions"] for p in found["predictions"]) == 25
    assert len(facts["failed"]) == 1 and "bad.jpg" in facts["failed"][0]["image"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["empty"], "no pictures"),
        (["no.png"], "no.png"),
        (["--layer", "relu9", "a.png"], "relu9"),
        (["--target", "catt", "a.png"], "did you mean 'cat'"),
        (["--target", "7", "a.png"], "allowed: 0 to 2"),
        (["--window", "33", "a.png"], "no larger than the picture"),
        (["--window", "0", "a.png"], "'0' is not a size"),
        (["--stride", "1x2x3", "a.png"], "'1x2x3' is not a size"),
        (["--fill", "gray", "a.png"], "did you mean 'grey'"),
        (["--fill", "1,2", "a.png"], "fill has 2 values"),
        (["--range", "1:0", "a.png"], "'1:0' is not a range; allowed: LOW:HIGH"),
        (["--range", "0.5", "a.png"], "'0.5' is not a range"),
        (["--batch", "0", "a.png"], "--batch"),
        (["--out", "a.jpg", "a.png"], "cannot write .jpg"),
        (["--out", "a.png", "a.png"], "overwrite the picture"),
        (["--out", "b.png", "a.png", "more"], "3 pictures"),
        (["--out", "b.png", "--format", "pdf", "a.png"], "contradicts"),
        (["--device", "cuda:99", "a.png"], "cuda:99"),
    ],
)
def test_wrong_usage_is_2_in_one_line(
    place: Path, args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "empty").mkdir()
    before = (place / "a.png").read_bytes()
    assert run(*args) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("deconvviz: ") and err.count("\n") == 1 and message in err
    assert written(place) == [] and (place / "a.png").read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminal")
def test_a_terminal_sees_how_many_positions_are_done(place: Path) -> None:
    import pty

    reader, writer = pty.openpty()
    command = [sys.executable, "-m", "deconvviz", "occlude", "--model", "tiny_to_occlude:make", "--window", "16"]
    process = subprocess.Popen(
        [*command, "--stride", "4", "--batch", "5", "a.png"], stdout=subprocess.PIPE, stderr=writer, cwd=place,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(writer)
    seen = b""
    # Read while it runs: a terminal that nobody reads is full after a few redrawn bars.
    with contextlib.suppress(OSError):  # the other end is closed
        while piece := os.read(reader, 65536):
            seen += piece
    os.close(reader)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert b"positions" in seen and b"25/25" in seen
    assert out.decode().endswith("-occlusion.png\n") and out.count(b"\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a process")
def test_ctrl_c_is_130_and_leaves_nothing(place: Path, interrupted: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = interrupted(["occlude", "--model", "tiny_to_occlude:slow", "a.png"], ["ready\n"])
    assert code == 130 and out == "" and "Traceback" not in err
    assert err.strip() == "deconvviz: interrupted" and written(place) == []
