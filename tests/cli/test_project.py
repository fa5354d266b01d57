"""`deconvviz project` from end to end, on a small network that only the test knows."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import deconvviz
from deconvviz import cli
from deconvviz.analyses.projection.result import Projection

SOURCE = """
import torch
from torch import nn
from deconvviz import Network

def make():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU()]
    return Network(nn.Sequential(*layers), input_size=32, mean=(0.5,) * 3, std=(0.25,) * 3, aliases={"2": "3"})
"""


@pytest.fixture
def place(pictures: Path, network: Callable[[str, str], None]) -> Path:
    """The folder with pictures, and a network in it."""
    network("tiny_for_tests", SOURCE)
    return pictures


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["project", "--model", "tiny_for_tests:make", *args])
    return int(stopped.value.code or 0)


def written(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if "-" in p.name or p.name.startswith("."))


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("npz", b"PK")])
def test_every_format(place: Path, kind: str, start: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--layer", "2", "--format", kind, "a.png") == 0
    out, err = capsys.readouterr()
    (name,) = written(place)
    assert out == f"{name}\n" and err == "" and name.startswith("a-") and name.endswith(f"-2.{kind}")
    assert (place / name).read_bytes().startswith(start)


def test_options_reach_the_result(place: Path) -> None:
    options = ["--unit", "3,5-6", "--place", "1", "2", "--method", "guided", "--overlap", "max"]
    assert run("--layer", "2", *options, "--out", "r.npz", "a.png") == 0
    result = Projection.load(place / "r.npz")
    assert result.units.tolist() == [3, 5, 6] and result.places.tolist() == [[1, 2]] * 3
    assert result.policy["method"] == "guided" and result.policy["overlap"] == "max"
    # Stride 2 and pooling by 2: one step of the map is 4 pixels; 3 + (2 - 1) * 2 + (3 - 1) * 4 = 13 are seen.
    assert result.boxes[0].tolist() == [4, 8, 17, 21]


def test_scale_changes_the_picture_only(place: Path) -> None:
    for scale in ("panel", "shared"):
        assert run("--layer", "2", "--scale", scale, "--out", f"{scale}.png", "a.png") == 0
        assert run("--layer", "2", "--scale", scale, "--out", f"{scale}.npz", "a.png") == 0
    with Image.open("panel.png") as a, Image.open("shared.png") as b:
        assert a.size == b.size and not np.array_equal(np.asarray(a), np.asarray(b))
    assert Projection.load("panel.npz") == Projection.load("shared.npz")


def test_folders_are_read_with_their_sub_folders(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "more" / "deep" / "deeper").mkdir(parents=True)
    (place / "more" / "bad.jpg").rename(place / "more" / "deep" / "bad.jpg")
    for name in ("a.png", "c.png"):  # one name in two folders: two files
        (place / "more" / "deep" / "deeper" / name).write_bytes((place / "a.png").read_bytes())
    assert run("--layer", "2", "--json", "--format", "npz", "--out", "out", "more") == 1
    found = json.loads(capsys.readouterr().out)
    read = [r["image"].replace("\\", "/") for r in found["results"]]
    assert read == ["more/a.png", "more/deep/deeper/a.png", "more/deep/deeper/c.png"]
    assert [r["image"].replace("\\", "/") for r in found["failed"]] == ["more/deep/bad.jpg"]
    assert len({r["file"] for r in found["results"]}) == 3 == len(list((place / "out").iterdir()))


def test_an_unreadable_picture_loses_no_other(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--layer", "2", "--out", "figures/new", "more", "a.png") == 1
    out, err = capsys.readouterr()
    # Two pictures of one name: two files.
    assert len(written(place / "figures" / "new")) == 2 == len(out.splitlines())
    first, last = err.splitlines()
    assert "bad.jpg" in first and last == "deconvviz: 1 of 3 pictures failed; see above"


def test_any_error_of_one_picture_loses_no_other(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from deconvviz.analyses.projection import compute as projection
    from deconvviz.errors import DeconvvizValueError

    compute, calls = projection.project_one, iter([True, False])

    def fail_first(*args: object, **options: object) -> Projection:
        if next(calls):
            raise DeconvvizValueError("it does not fit")
        return compute(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(projection, "project_one", fail_first)
    assert run("--layer", "2", "more/a.png", "a.png") == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == written(place) and len(written(place)) == 1
    assert err.splitlines()[0].replace("\\", "/") == "deconvviz: more/a.png: it does not fit"


def test_json_is_one_object(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--layer", "2", "--top", "4", "--json", "a.png", "more") == 1
    facts = json.loads(capsys.readouterr().out)
    assert [r["image"].replace("\\", "/") for r in facts["results"]] == ["a.png", "more/a.png"]
    assert len(facts["results"][0]["units"]) == 4 == len(facts["results"][0]["boxes"])
    assert facts["results"][0]["activations"] == sorted(facts["results"][0]["activations"], reverse=True)
    assert all((place / r["file"]).is_file() for r in facts["results"])
    assert len(facts["failed"]) == 1 and "bad.jpg" in facts["failed"][0]["image"]


def test_the_checkpoint_is_used(place: Path) -> None:
    weights = {
        "0.weight": torch.zeros(6, 3, 3, 3),
        "0.bias": torch.ones(6),
        "3.weight": torch.zeros(8, 6, 3, 3),
        "3.bias": torch.arange(8.0),
    }
    save_file(weights, place / "w.safetensors")
    assert run("--checkpoint", "w.safetensors", "--layer", "2", "--top", "3", "--out", "r.npz", "a.png") == 0
    # With all filters zero each map is its bias.
    result = Projection.load(place / "r.npz")
    assert result.units.tolist() == [7, 6, 5] and result.activations.tolist() == [7, 6, 5]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--layer", "2", "empty"], "no pictures"),
        (["--layer", "2", "no.png"], "no.png"),
        (["--layer", "relu9", "a.png"], "relu9"),
        (["--layer", "2", "--unit", "8", "a.png"], "unit 8 does not exist; allowed: 0 to 7"),
        (["--layer", "2", "--unit", "x", "a.png"], "'x' is not a unit"),
        (["--layer", "2", "--place", "9", "0", "a.png"], "place (9, 0)"),
        (["--layer", "2", "--out", "a.jpg", "a.png"], "cannot write .jpg"),
        (["--layer", "2", "--out", "a.png", "a.png"], "overwrite the picture"),
        (["--layer", "2", "--out", "b.png", "a.png", "more"], "3 pictures"),
        (["--layer", "2", "--out", "b.png", "--format", "pdf", "a.png"], "contradicts"),
        (["--layer", "2", "--out", "no/b.png", "a.png"], "does not exist"),
        (["--layer", "2", "--weights", "random", "--checkpoint", "a.png", "a.png"], "either --weights or --checkpoint"),
        (["--layer", "2", "--weights", "imagenet", "a.png"], "no weights 'imagenet' for tiny_for_tests:make"),
        (["--layer", "2", "--weights", "no.pth", "a.png"], "no such file: no.pth"),
        (["--layer", "2", "--mean", "a,b", "a.png"], "'a,b'; allowed: one number per channel"),
        (["--layer", "2", "--size", "0x9", "a.png"], "'0x9'; allowed: a number of pixels, or HEIGHTxWIDTH"),
        (["--layer", "2", "--labels", "empty.txt", "a.png"], "empty.txt holds no class names"),
        (["--layer", "2", "--device", "cuda:99", "a.png"], "cuda:99"),
    ],
)
def test_wrong_usage_is_2_in_one_line(
    place: Path, args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "empty").mkdir()
    (place / "empty.txt").touch()
    before = (place / "a.png").read_bytes()
    assert run(*args) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("deconvviz: ") and err.count("\n") == 1 and message in err
    assert written(place) == [] and (place / "a.png").read_bytes() == before


@pytest.mark.parametrize(
    ("model", "layer", "nearest"),
    [("zfnett", "5", "'zfnet'"), ("zfnet", "conv55", "'conv5'"), ("tiny_for_tests:mak", "2", "mak")],
)
def test_an_unknown_name_is_2_with_the_nearest(
    place: Path, model: str, layer: str, nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["project", "--model", model, "--weights", "random", "--layer", layer, "a.png"]
                 if ":" not in model else ["project", "--model", model, "--layer", layer, "a.png"])  # fmt: skip
    err = capsys.readouterr().err
    assert stopped.value.code == 2 and nearest in err and err.count("\n") == 1


def test_one_unreadable_picture_alone_is_1(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--layer", "2", "more/bad.jpg") == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_without_leave_to_write_is_said_before_computing(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def access(path: Path, mode: int) -> bool:
        return mode != os.W_OK or Path(path).resolve() != place / "shut"

    monkeypatch.setattr("deconvviz.cli._common.os.access", access)
    (place / "shut").mkdir()
    for out in ("shut", "shut/a.pdf"):
        assert run("--layer", "relu9", "--out", out, "a.png") == 2
        err = capsys.readouterr().err
        assert err == f"deconvviz: Invalid value for --out: cannot write in the folder {place / 'shut'}\n"


def test_a_full_disk_is_1_and_names_the_picture_that_was_to_be_written(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", ".b.png.x.part")

    monkeypatch.setattr("deconvviz.files.os.replace", full)
    assert run("--layer", "2", "--out", "b.png", "a.png") == 1
    assert capsys.readouterr().err == "deconvviz: b.png: cannot write: No space left on device\n"
    assert written(place) == []


def test_debug_shows_the_traceback(place: Path) -> None:
    from deconvviz.errors import ImageError

    with pytest.raises(ImageError):
        cli.main(["--debug", "project", "--model", "tiny_for_tests:make", "--layer", "2", "more/bad.jpg"])


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a process")
def test_ctrl_c_is_130_and_leaves_nothing(place: Path, interrupted: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = interrupted(["project", "--model", "tiny_for_tests:slow", "--layer", "2", "a.png"], ["ready\n"])
    assert code == 130 and out == "" and "Traceback" not in err
    assert err.strip() == "deconvviz: interrupted" and written(place) == []


def test_the_bundled_network_is_the_main_job(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["project", "--model", "zfnet", "--layer", "5", "a.png"])
    assert not stopped.value.code and capsys.readouterr().out == "a-zfnet-conv5.png\n"
    with Image.open("a-zfnet-conv5.png") as picture:
        facts = json.loads(picture.text["Description"])
    assert 1 < len(facts["units"]) <= 9 and facts["policy"]["distinct"] is True
    (number, probability), labels = facts["answer"], deconvviz.load("zfnet").card.labels
    assert 0 <= number < len(labels) and 0 < probability <= 1
    assert facts["region"] == pytest.approx([0.0625, 0.15, 0.9375, 0.85], abs=0.01), "the middle 224 of 256 x 320"
    assert facts["alias"] == "conv5" and len(facts["model"]["sha256"]) == 64


def test_figures_show_distinct_places_and_programs_get_the_strongest(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def units(*args: str) -> list[int]:
        assert run("--layer", "2", "--top", "8", "--out", args[0], *args[1:], "a.png") == 0
        capsys.readouterr()
        if args[0].endswith("npz"):
            return Projection.load(place / args[0]).units.tolist()  # type: ignore[no-any-return]
        with Image.open(args[0]) as picture:
            return json.loads(picture.text["Description"])["units"]  # type: ignore[no-any-return]

    strongest, distinct = units("a.npz"), units("b.png")
    assert len(distinct) < len(strongest) == 8 and distinct == [u for u in strongest if u in distinct]
    assert units("c.png", "--no-distinct") == strongest == units("d.png", "--json")
    assert units("e.npz", "--distinct") == distinct
