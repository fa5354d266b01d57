"""`deconvviz sanity` from end to end: a page a picture, facts, wrong usage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deconvviz import cli


def test_a_page_for_each_picture(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["sanity", "--model", "lenet", "--layer", "conv2", "--top", "2", "--json", "a.png", "more/a.png"])
    assert stopped.value.code == 0
    found = json.loads(capsys.readouterr().out)["results"]
    assert [one["file"] for one in found] == ["a-lenet-conv2-sanity.png", "a-lenet-conv2-sanity-2.png"]
    assert found[0]["companions"] == ["a.png"] and found[0]["layers"] == ["conv2", "conv1"]
    assert {one["about"] for one in found[0]["statements"]} == {"picture", "unit", "weights", "places", "switches"}


def test_pictures_that_cannot_be_read_are_no_companions(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["sanity", "--model", "lenet", "--layer", "1", "--unit", "0", "--method", "guided", "more"])
    assert stopped.value.code == 1  # one of two pictures
    assert capsys.readouterr().out == "a-lenet-conv1-sanity-guided-u0.png\n"


def test_an_unknown_layer(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["sanity", "--model", "lenet", "--layer", "conv9", "a.png"])
    assert stopped.value.code == 2
    assert "unknown layer 'conv9'; did you mean" in capsys.readouterr().err and not list(pictures.glob("*sanity*"))
