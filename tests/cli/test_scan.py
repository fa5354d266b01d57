"""`deconvviz scan` and `deconvviz top` from end to end, on a small network that only the test knows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvviz import cli
from deconvviz.analyses.panels.result import Panels
from deconvviz.scanning.store import Store

SOURCE = """
import os
import time
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
            pause = 0.2 if Slow.blocks < 5 else 2  # the fifth leaves time to press Ctrl-C, on a busy machine too
            os.write(1, b"block\\n")  # two threads write: one call a line, so that lines never mix
            time.sleep(pause)
        return super().forward(x)

def slow():
    net = make()
    net.module[1] = Slow()
    return net
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in with a network and twelve pictures of two classes, one of them unreadable."""
    (tmp_path / "tiny_for_scans.py").write_text(SOURCE)
    for n in range(12):
        path = tmp_path / "photos" / "ab"[n % 2] / f"{n:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(n).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    (tmp_path / "photos" / "b" / "05.png").write_text("not a picture")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("tiny_for_scans", None)


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
        ("top", ["--unit", "3"], "--model"),
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


def test_ctrl_c_keeps_what_is_done(place: Path) -> None:
    args = [x if x != "tiny_for_scans:make" else "tiny_for_scans:slow" for x in SCAN]
    command = [sys.executable, "-m", "deconvviz", "scan", *args, "--batch", "2"]
    pipe, two = subprocess.PIPE, {**os.environ, "OMP_NUM_THREADS": "2"}  # two threads, whatever the machine
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=place, env=two) as child:
        assert child.stdout is not None
        for _ in range(5):  # the fifth block begins when the first has been added up
            assert child.stdout.readline() == "block\n"
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.split("\n\n") == [
        "deconvviz: what is done of the 12 pictures is kept; the same command goes on",
        "deconvviz: interrupted\n",
    ]
    with Store.open(place / "s.db") as store:
        assert 0 < store.done < 12
    assert run("scan", *args) == 0
    with Store.open(place / "s.db") as store:
        assert store.complete and store.units("1").count == 11
