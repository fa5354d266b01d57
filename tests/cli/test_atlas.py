"""`deconvviz atlas` from end to end: a small network, a scan of a few pictures, a site."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import deconvviz
from deconvviz import cli, scan

SOURCE = """
import torch
from torch import nn
from deconvviz import Network

def make(seed=0):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU(),
              nn.Flatten(), nn.Linear(125, 2)]
    return Network(nn.Sequential(*layers), input_size=32, mean=(0.5,) * 3, std=(0.25,) * 3,
                   labels=("<b>", "plain"), aliases={"1": "0", "2": "3"})

def other():
    return make(1)
"""
NET = "atlas_net_for_tests:make"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a network, pictures of two classes and a store of their scan."""
    (tmp_path / "atlas_net_for_tests.py").write_text(SOURCE)
    rng = np.random.default_rng(0)
    for n in range(6):
        path = tmp_path / "photos" / "ab"[n % 2] / f'"><script>{n}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import atlas_net_for_tests  # type: ignore[import-not-found]

    scan(atlas_net_for_tests.make(), "photos", ["1", "2", "6"], top=3, store="a.db", workers=0).close()
    yield tmp_path
    sys.modules.pop("atlas_net_for_tests", None)


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["atlas", *args])
    return int(stopped.value.code or 0)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_site_from_a_store(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--store", "a.db", "--model", NET, "--out", "site") == 0
    out, err = capsys.readouterr()
    assert out == "site/index.html\n" and err == ""
    pages = tree(place / "site")
    assert {"layers/1/3.html", "layers/2/4.html", "layers/3/1.html"} <= set(pages)
    assert "11 in 3 layers" in pages["index.html"].decode()
    assert '<span class="of">&lt;b&gt;</span>' in pages["layers/3/0.html"].decode()
    assert not any(b"><script>" in page for page in pages.values())


def test_the_sheet_shows_the_projection_in_its_place(place: Path) -> None:
    from atlas_net_for_tests import make

    from deconvviz import project
    from deconvviz.results.base import signed_pictures
    from deconvviz.scanning.store import Store

    assert run("--store", "a.db", "--model", NET, "--out", "site") == 0
    with Store.open("a.db") as store:
        unit = int(np.flatnonzero(~store.units("2").dead)[0])
        first = store.top("2", unit)[0]
        path = place / "photos" / str(store.picture(first.picture).path)
    result = project(make(), path, "2", [unit], place=(first.row, first.col))
    top, left, bottom, right = result.boxes[0].tolist()
    seen = signed_pictures(result.pixels[:, :, top:bottom, left:right])[0]
    (sheet,) = (place / "site" / "images" / "units" / "2").glob(f"{unit}-*.webp")
    # 3 + (2 - 1) * 2 + (3 - 1) * 4 = 13 pixels are seen; five times as large on the sheet, without loss, in a rim of 2.
    assert seen.shape == (13, 13, 3)
    with Image.open(sheet) as opened:
        assert (np.asarray(opened.convert("RGB"))[2:67, 2:67] == seen.repeat(5, 0).repeat(5, 1)).all()


def test_json_and_the_folder_named_like_the_store(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--store", "a.db", "--model", NET, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    files = tree(place / "a-site")
    assert facts["index"] == "a-site/index.html" and facts["units"] == 11
    assert facts["files"] == len(files) and facts["bytes"] == sum(map(len, files.values()))


def test_the_same_command_again_changes_nothing(place: Path) -> None:
    assert run("--store", "a.db", "--model", NET, "--out", "site") == 0
    before = tree(place / "site")
    assert run("--store", "a.db", "--model", NET, "--out", "site", "--images", "photos") == 0
    assert tree(place / "site") == before


def test_two_stores_are_compared(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from atlas_net_for_tests import other

    scan(other(), "photos", ["1", "2", "6"], top=3, store="b.db", workers=0).close()
    options = ["--store", "a.db", "--model", NET, "--against", "b.db", "--against-model", "atlas_net_for_tests:other"]
    assert run(*options) == 0
    assert capsys.readouterr().out == "a-against-b/index.html\n"
    pages = tree(place / "a-against-b")
    assert {"layers/2/4.html", "first/layers/2/4.html", "second/layers/2/4.html"} <= set(pages)
    # The same network with other weights, from a file.
    from safetensors.torch import save_file

    save_file(other().module.state_dict(), "other.safetensors")
    scan(deconvviz.load(NET, "other.safetensors"), "photos", ["1", "2"], top=3, store="c.db", workers=0).close()
    options = ["--store", "a.db", "--model", NET, "--against", "c.db", "--out", "site"]
    assert run(*options) != 0
    capsys.readouterr()
    assert run(*options, "--against-weights", "other.safetensors") == 0
    assert "layers/2.html" in tree(place / "site") and "layers/3.html" not in tree(place / "site")


def test_serving_a_site_until_it_is_interrupted(place: Path) -> None:
    assert run("--store", "a.db", "--model", NET, "--out", "site") == 0
    command = [sys.executable, "-m", "deconvviz", "atlas", "--serve", "--out", "site", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout is not None and served.stderr is not None
            url = served.stdout.readline().strip()
            with urllib.request.urlopen(url, timeout=20) as answer:
                assert answer.read() == (place / "site" / "index.html").read_bytes()
            served.send_signal(signal.SIGINT)
            assert served.wait(20) == 130
            assert served.stderr.read().strip() == "deconvviz: interrupted"
        finally:
            served.kill()


def test_a_site_is_made_served_and_opened(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("deconvviz.atlas.SiteServer.run", lambda self: None)
    assert run("--store", "a.db", "--model", NET, "--out", "site", "--serve") == 0
    index, url = capsys.readouterr().out.splitlines()
    assert index == "site/index.html" and opened == [url] and url.startswith("http://127.0.0.1:")
    assert run("--serve", "--out", "site", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"url": opened[1]}


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--store", "missing.db"], 2, "missing.db"),
        ([], 2, "give --store, or --serve with the --out"),
        (["--serve"], 2, "give --store, or --serve with the --out"),
        (["--serve", "--out", "photos"], 1, "photos holds no atlas"),
        (["--store", "a.db", "--port", "8000"], 2, "go with --serve"),
        (["--out", "site", "--serve", "--against", "a.db"], 2, "--against needs --store"),
        (["--store", "atlas_net_for_tests.py", "--model", NET], 1, "is not a store of deconvviz"),
        (["--store", "a.db"], 2, "made with Sequential, which is not in the zoo; give --model"),
        (["--store", "a.db", "--model", "atlas_net_for_tests:other"], 1, "was made with the weights"),
        (["--store", "a.db", "--model", "lenet"], 1, "was made with the model Sequential, not lenet"),
        (["--store", "a.db", "--model", NET, "--out", "photos"], 1, "is not empty and holds no atlas"),
        (["--store", "a.db", "--model", NET, "--images", "nowhere"], 2, "nowhere"),
        (["--store", "a.db", "--model", NET, "--device", "abacus"], 2, "cannot use 'abacus'"),
    ],
)
def test_what_is_wrong_is_one_line(
    place: Path, options: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(place / "photos")
    assert run(*options) == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err and err.startswith("deconvviz: ")
    assert tree(place / "photos") == before


def test_pictures_that_have_moved(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "photos").rename(place / "elsewhere")
    assert run("--store", "a.db", "--model", NET, "--out", "site") != 0
    assert re.search("photos.*give their folder", capsys.readouterr().err)
    assert run("--store", "a.db", "--model", NET, "--out", "site", "--images", "elsewhere") == 0


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    assert "deconvviz atlas --store atlas.db --out site/" in capsys.readouterr().out
