"""`deconvviz scan` and `deconvviz top` from end to end, on a small network that only the test knows."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvviz import cli
from deconvviz.analyses.panels.result import Panels
from deconvviz.scanning.lock import Lock
from deconvviz.scanning.store import Store

SOURCE = """
import os
import sys
import torch
from torch import nn
from deconvviz import Network

def make():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU()]
    aliases = {"1": "0", "2": "3", "conv2": "3"}
    return Network(nn.Sequential(*layers), input_size=32, mean=(0.5,) * 3, std=(0.25,) * 3, aliases=aliases)

class Slow(nn.ReLU):
    blocks = 0

    def forward(self, x):
        if len(x) > 1:
            Slow.blocks += 1
            last = Slow.blocks >= 5
            os.write(1, b"block\\n")  # two threads write: one call a line, so that lines never mix
            if last:
                sys.stdin.read()  # its end comes after Ctrl-C
        return super().forward(x)

def slow():
    net = make()
    net.module[1] = Slow()
    return net
"""


@pytest.fixture
def place(tmp_path: Path, network: Callable[[str, str], None]) -> Path:
    """A folder to work in with a network and twelve pictures of two classes, one of them unreadable."""
    network("tiny_for_scans", SOURCE)
    for n in range(12):
        path = tmp_path / "photos" / "ab"[n % 2] / f"{n:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(n).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    (tmp_path / "photos" / "b" / "05.png").write_text("not a picture")
    return tmp_path


def run(command: str, *args: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, *args])
    return int(stopped.value.code or 0)


SCAN = ("--model", "tiny_for_scans:make", "--images", "photos", "--layers", "1-2", "--store", "s.db", "--workers", "0")


def test_scan_then_top(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("scan", *SCAN, "--top", "4") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "s.db" and out.count(" units, ") == 2 and out.startswith("s.db\n1: 6 units")
    assert (
        err == "deconvviz: b/05.png is left out: cannot read b/05.png as a picture: not a format that is known here\n"
    )
    assert run("top", "--store", "s.db", "--layer", "2", "--unit", "3", "--model", "tiny_for_scans:make") == 0
    assert capsys.readouterr().out == "s-conv2-unit3.png\n"
    assert (place / "s-conv2-unit3.png").read_bytes().startswith(b"\x89PNG")


def test_top_as_json_and_numbers(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("scan", *SCAN, "--json", "--per-picture", "2") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["pictures"] == 12 and facts["unreadable"][0]["picture"] == "b/05.png"
    assert [x["units"] for x in facts["layers"]] == [6, 8]
    args = ["--store", "s.db", "--layer", "2", "--unit", "3", "--model", "tiny_for_scans:make"]
    (place / "photos").rename(place / "moved")
    assert run("top", *args) == 1
    assert "not in" in capsys.readouterr().err
    assert run("top", *args, "--images", "moved", "--out", "u.npz", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    result = Panels.load(place / "u.npz")
    with Store.open("s.db") as store:
        top = store.top("2", 3)
    assert facts["unit"] == 3 and facts["activations"] == [p.activation for p in top] == result.activations.tolist()
    assert facts["paths"][0] == result.paths[0]


@pytest.mark.parametrize(
    ("command", "args", "said"),
    [
        ("scan", ["--layers", "9"], "unknown layer '9'"),
        ("scan", ["--layers", "3-1"], "no layer"),
        ("scan", ["--images", "nowhere"], "nowhere"),
        ("scan", ["--top", "0"], "0"),
        ("top", ["--unit", "3", "--model", "nope"], "unknown model 'nope'"),
        ("top", ["--unit", "30"], "allowed: 0 to 7"),
        ("top", ["--layer", "5", "--unit", "3"], "layer '5' is not in s.db"),
        ("top", ["--unit", "3", "--out", "x.gif"], ".gif"),
    ],
)
def test_wrong_usage(place: Path, command: str, args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    if command == "top":
        assert run("scan", *SCAN) == 0
        args = ["--store", "s.db", "--layer", "2", *args]
    else:
        args = [*SCAN, *args] if args[0] != "--layers" else [x for x in SCAN if x not in ("--layers", "1-2")] + args
    capsys.readouterr()
    assert run(command, *args) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("deconvviz: ") and err.count("\n") == 1 and said in err


def test_another_store_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("scan", *SCAN) == 0
    capsys.readouterr()
    assert run("scan", *SCAN, "--top", "3") == 1
    out, err = capsys.readouterr()
    assert out == "" and "s.db was made with top 9, not 3" in err and err.count("\n") == 1


def test_ctrl_c_keeps_what_is_done(place: Path, interrupted: Callable[..., tuple[int, str, str]]) -> None:
    args = [x if x != "tiny_for_scans:make" else "tiny_for_scans:slow" for x in SCAN]
    # Two threads, whatever the machine: the fifth block begins when the first has been added up.
    code, _, err = interrupted(["scan", *args, "--batch", "2"], ["block\n"] * 5, OMP_NUM_THREADS="2")
    assert code == 130
    assert err.split("\n\n") == [
        "deconvviz: what is done of the 12 pictures is kept; the same command goes on",
        "deconvviz: interrupted\n",
    ]
    with Store.open(place / "s.db") as store:
        assert 0 < store.done < 12
    assert run("scan", *args) == 0
    with Store.open(place / "s.db") as store:
        assert store.complete and store.units("1").count == 11


def test_a_store_that_another_scan_writes_is_1_and_says_who(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = Lock.take(place / "s.db")
    arguments = ["scan", "--model", "tiny_for_scans:make", "--images", "photos", "--layers", "1", "--store", "s.db"]
    for code, said in ((1, f"s.db is being written by another scan (process {os.getpid()}, this one); wait"), (0, "")):
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        err = capsys.readouterr().err
        assert (stopped.value.code or 0) == code and said in err and err.count("\n") == 1
        assert (place / "s.db").exists() == (code == 0)
        lock.release()


def test_a_file_that_is_no_store_is_not_overwritten(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "s.db").write_bytes(b"x")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["scan", "--model", "tiny_for_scans:make", "--images", "photos", "--layers", "1", "--store", "s.db"])
    err = capsys.readouterr().err
    assert stopped.value.code == 1 and "s.db is not a store of deconvviz" in err and err.count("\n") == 1
    assert (place / "s.db").read_bytes() == b"x"
