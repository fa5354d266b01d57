"""Outputs never overwrite inputs or each other: names carry what differs, and the rest is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from deconvviz import cli
from deconvviz.cli._outputs import file_name, variant
from deconvviz.files import longest_name

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
    network("tiny_for_names", SOURCE)
    return pictures


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["project", "--model", "tiny_for_names:make", "--layer", "2", *args])
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"method": "deconvnet", "overlap": "add", "units": None, "place": ()}, ""),
        ({"method": "guided"}, "-guided"),
        ({"overlap": "max", "method": "gradient"}, "-gradient-max"),
        ({"units": [3]}, "-u3"),
        ({"method": "guided", "units": [3, 8, 9], "place": (1, 2)}, "-guided-u3-8-9-at1-2"),
        ({"view": "attribution"}, "-attribution"),
        ({"view": "paper"}, ""),
    ],
)
def test_a_name_carries_what_differs(options: dict[str, object], name: str) -> None:
    assert variant(options) == name


def test_many_units_are_a_hash(tmp_path: Path) -> None:
    names = {variant({"units": list(range(n))}) for n in range(9, 20)}
    assert len(names) == 11 and all(name.startswith("-u0-1-2-3-4-5-6-7-") and len(name) == 26 for name in names)


@pytest.mark.parametrize("stem", ["a" * 240, "é" * 130, "x" * 300, "日" * 90])
def test_a_name_that_is_too_long_is_cut(stem: str, tmp_path: Path) -> None:
    name = file_name(stem, "-net-conv5.png", tmp_path)
    assert len(os.fsencode(name)) <= longest_name(tmp_path) and name.endswith("-net-conv5.png")
    assert name != file_name(f"{stem[:-1]}y", "-net-conv5.png", tmp_path), "two long names stay two"
    (tmp_path / name).touch()
    long = file_name("a", f"-{stem}.png", tmp_path)
    assert long.endswith(".png") and long != file_name("b", f"-{stem}.png", tmp_path)
    (tmp_path / long).touch()


def test_what_exists_is_replaced_if_it_is_asked_for(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--out", "r.png", "a.png") == 0
    before = (place / "r.png").read_bytes()
    assert run("--out", "r.png", "a.png") == 0, "the same once more is no overwriting"
    assert run("--out", "r.png", "--top", "2", "a.png") == 2
    err = capsys.readouterr().err
    assert "r.png exists and differs; give --overwrite" in err and err.count("\n") == 1
    assert (place / "r.png").read_bytes() == before
    assert run("--out", "r.png", "--top", "2", "--overwrite", "a.png") == 0
    assert (place / "r.png").read_bytes() != before


def test_methods_and_units_do_not_meet(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--method", "guided"], ["--unit", "3"], ["--unit", "3", "--overlap", "max"]):
        assert run(*options, "a.png") == 0
    names = capsys.readouterr().out.split()
    assert [name.partition("-2")[2] for name in names] == [".png", "-guided.png", "-u3.png", "-max-u3.png"]


@pytest.mark.parametrize("link", ["hard", "symbolic", "none"])
def test_an_input_by_any_name_is_not_overwritten(place: Path, link: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = (place / "a.png").read_bytes()
    name = "a.png" if link == "none" else "b.png"
    if link == "hard":
        os.link(place / "a.png", place / "b.png")
    elif link == "symbolic":
        (place / "b.png").symlink_to("a.png")
    assert run("--overwrite", "--out", name, "a.png") == 2
    assert f"{name} would overwrite the picture a.png, which this command reads" in capsys.readouterr().err
    assert run("--overwrite", "--out", "more/a.png", "more") != 0
    assert (place / "a.png").read_bytes() == before == (place / name).read_bytes()


def test_a_picture_named_like_an_output_is_kept(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a.png") == 0
    (name,) = capsys.readouterr().out.split()
    (place / "a.png").rename(place / "more" / "a.png")
    (place / name).unlink()
    photo = Image.new("RGB", (40, 40), "red")
    photo.save(place / name)
    before = (place / name).read_bytes()
    assert run("--overwrite", "more/a.png", name) == 1
    assert "would overwrite" in capsys.readouterr().err and (place / name).read_bytes() == before


def test_a_repeated_folder_run_leaves_its_own_pictures_out(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "more" / "bad.jpg").unlink()
    for _ in range(2):
        assert run("--out", "more", "more") == 0
        assert len(list((place / "more").iterdir())) == 2
    assert "1 picture in more is left out: made by deconvviz" in capsys.readouterr().err
    for options in ([], ["--scale", "shared", "--overwrite"]):
        assert run("--out", "more", "--format", "pdf", *options, "more") == 0


def test_fifos_names_and_folders_lose_no_picture(place: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    folder = place / os.fsdecode(b"caf\xe9")
    (place / "more").rename(folder)
    os.mkfifo(folder / "pipe.png")
    os.link(folder / "a.png", folder / f"{'n' * 245}.png")
    assert run("--out", str(folder / "new"), str(folder), "a.png") == 1
    out, err = capfdbinary.readouterr()
    assert len(out.splitlines()) == 3 and all(Path(os.fsdecode(line)).is_file() for line in out.splitlines())
    assert b"pipe.png" in err and err.splitlines()[-1] == b"deconvviz: 1 of 4 pictures failed; see above"
    assert run(str(folder / "pipe.png")) == 1


def test_whatever_a_picture_raises_loses_no_other(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from deconvviz.network.network import Network

    preprocess = Network.preprocess

    def fail(net: Network, image: Path) -> object:
        if "more" in str(image):
            raise NotImplementedError("a kind of file that nobody knows")
        return preprocess(net, image)

    monkeypatch.setattr(Network, "preprocess", fail)
    assert run("more/a.png", "a.png") == 1
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "deconvviz: more/a.png: a kind of file that nobody knows" and len(err) == 2
