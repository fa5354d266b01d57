"""`deconvviz explain` from end to end: every format, wrong usage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deconvviz import cli

SMALL = ["explain", "--model", "lenet", "--top", "1", "--no-checks", "a.png"]


@pytest.mark.parametrize(
    "kind, begins", [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("html", b"<!doctype"), ("json", b"{")]
)
def test_every_format(kind: str, begins: bytes, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*SMALL, "--format", kind])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"a-lenet-explanation.{kind}\n"
    assert (pictures / f"a-lenet-explanation.{kind}").read_bytes().startswith(begins)


def test_facts_and_checks(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(
            ["explain", "--model", "lenet", "--layer", "2", "--target", "Coat", "--out", "why.html", "--json", "a.png"]
        )
    assert stopped.value.code == 0
    (found,) = json.loads(capsys.readouterr().out)["results"]
    assert found["file"] == "why.html" and found["target_label"] == "Coat"
    assert found["stages"][0]["sanity"]["layers"] == ["conv2", "conv1"]


def test_a_format_that_it_cannot_write(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*SMALL, "--out", "why.txt"])
    assert (
        stopped.value.code == 2
        and "cannot write .txt; allowed: png, pdf, svg, npz, html, json" in capsys.readouterr().err
    )
