"""The code and the commands that a page gives to copy: run, and compared with what the page was told."""

from __future__ import annotations

import base64
import io
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import deconvviz
from deconvviz.cli import cli
from deconvviz.cli.explore import _origin
from deconvviz.explorer.questions import Covered, Projected
from deconvviz.explorer.session import Session
from deconvviz.results.base import signed_pictures

from .conftest import content, picture

FLAGS: dict[str, Any] = {
    "model": "lenet",
    "weights": None,
    "checkpoint": None,
    "device": "cpu",
    "allow_nonfinite": False,
}


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Session, str]:
    """Lenet as the command line loads it, and a picture that was sent: its name is that of a file here."""
    monkeypatch.chdir(tmp_path)
    name = "-it's a picture.png"
    data = content(picture())
    Path(name).write_bytes(data)
    made = Session(deconvviz.load("lenet"), origin=_origin(FLAGS))
    return made, made.pictures.send(data, name)


def run(python: str) -> dict[str, Any]:
    """What the code leaves behind."""
    names: dict[str, Any] = {}
    exec(compile(python, "copied", "exec"), names)
    return names


def command(line: str, out: Path) -> None:
    """Carry out a command, to a file."""
    name, *rest = shlex.split(line)
    assert name == "deconvviz"
    at = rest.index("--")
    cli.main([*rest[:at], "--out", str(out), *rest[at:]], standalone_mode=False)


@pytest.mark.parametrize(
    "asked",
    [
        Projected("conv2", 3), Projected("conv2", 5, (2, 7)), Projected("conv1", 0, (0, 0), "guided"),
        Projected("features.pool2", 1, None, "gradient", "add", 90.0), Projected("conv2", 4, None, "deconvnet", "max"),
    ],
)  # fmt: skip
def test_a_projection(session: tuple[Session, str], tmp_path: Path, asked: Projected) -> None:
    made, id = session
    told, call = made.projection(id, asked), made.call(id, asked)
    p = run(call.python)["p"]
    assert call.command is not None
    command(call.command, tmp_path / "p.npz")
    for found in (p, deconvviz.Projection.load(tmp_path / "p.npz")):
        assert found.units.tolist() == [asked.unit] and found.places[0].tolist() == told["place"]
        assert float(found.activations[0]) == pytest.approx(told["activation"], abs=1e-6)
        assert float(found.pixels.abs().max()) == pytest.approx(told["peak"], rel=1e-5)
        assert found.boxes[0].tolist() == told["box"]
        top, left, bottom, right = told["box"]
        shown = signed_pictures(found.pixels, asked.contrast)[0, top:bottom, left:right, 0]
        told_pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(told["projection"].partition(",")[2]))))
        assert np.abs(told_pixels[..., 0].astype(int) - shown).max() <= 1


@pytest.mark.parametrize(
    "asked",
    [
        Covered(place=(3, 4)), Covered((7, 9), "blur", 3, "conv2", None, (0, 19), (5, 6)),
        Covered((8, 8), "#102030", place=(20, 20), stride=(10, 10)), Covered((6, 6), "noise", 0, stride=(9, 9)),
        Covered((6, 6), "mean", None, "conv2", 2, (1, 1), (9, 9)),
    ],
)  # fmt: skip
def test_an_occlusion(session: tuple[Session, str], tmp_path: Path, asked: Covered) -> None:
    made, id = session
    heat, call = made.heat(id, asked), made.call(id, asked)
    told = []
    while part := heat.next():
        told += part
    names = run(call.python)
    assert call.command is not None
    command(call.command, tmp_path / "o.npz")
    for found in (names["o"], deconvviz.Occlusion.load(tmp_path / "o.npz")):
        assert len(found) == len(told) == heat.head()["total"]
        assert asked.target is None or found.target == asked.target
        for row, col, probability, prediction, activity in told:
            assert float(found.probability[row, col]) == pytest.approx(probability, abs=1e-5)
            assert int(found.prediction[row, col]) == prediction
            if found.activity is not None:
                assert float(found.activity[row, col]) == pytest.approx(activity, rel=1e-3, abs=1e-3)
        assert (found.activity is not None) == (asked.layer is not None and asked.unit is None)
    if asked.place is not None:
        covered, there = made.cover(id, asked), names["there"]
        assert list(there.origin) == covered["origin"]
        assert there.probability == pytest.approx(covered["target"]["probability"], abs=1e-6)
        assert there.activity == pytest.approx(covered["activity"])


def test_options_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture().save("a.png")
    flags = FLAGS | {"resize": 30, "fit": "letterbox", "mean": (0.5,), "std": (0.25,), "class_names": ("x",) * 10}
    arguments = "resize=30, mean=(0.5,), std=(0.25,), crop='letterbox'"
    net = eval(f"deconvviz.load('lenet', {arguments})")
    made = Session(net, "a.png", None, _origin(flags))
    call = made.call(made.pictures.listed()[0]["id"], Covered(target=2))
    assert f"net = deconvviz.load('lenet', {arguments})" in call.python
    assert call.command is not None
    assert "--resize 30 --fit letterbox --mean 0.5 --std 0.25" in call.command
    assert "target=2" in call.python and "--target 2" in call.command  # the labels are not the network's own


def test_what_came_from_python_has_no_command() -> None:
    session = Session(deconvviz.load("lenet"), picture())
    id = session.pictures.listed()[0]["id"]
    call = session.call(id, Projected("conv2", 1))
    assert call.command is None and call.why and "\n" not in call.why
    names: dict[str, Any] = {"net": session.net, "image": picture()}
    exec(call.python, names)
    assert float(names["p"].activations[0]) == pytest.approx(
        session.projection(id, Projected("conv2", 1))["activation"]
    )
