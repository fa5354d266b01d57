"""`deconvviz explore` with a store and its atlas, from the command line to the page's answers."""

from __future__ import annotations

import re
import socket
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import deconvviz
from deconvviz import cli
from deconvviz.atlas import build


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, the store of LeNet's first layer over them, `a.db`, and its site where it is put."""
    folder = tmp_path_factory.mktemp("explore")
    rng = np.random.default_rng(0)
    for kind in ("photos", "others"):
        (folder / kind).mkdir()
        for n in range(3):
            Image.fromarray(rng.integers(0, 256, (30, 30, 3), dtype=np.uint8)).save(folder / kind / f"{kind}{n}.png")
    net = deconvviz.load("lenet")
    with deconvviz.scan(net, folder / "photos", "1", top=2, store=folder / "a.db", workers=0) as store:
        build(store, folder / "a-site", deconvviz.PanelSource(net, store))
    deconvviz.scan(net, folder / "others", "1", top=2, store=folder / "elsewhere.db", workers=0).close()
    return folder


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The command with options, and what its page says of the store and of unit 0 while it waits for its end."""
    monkeypatch.chdir(place)

    def run(*options: str) -> tuple[int, list[Any]]:
        said: list[Any] = []

        def wait(page: deconvviz.Explorer) -> None:
            base, _, token = page.url.partition("/?token=")
            with httpx.Client(base_url=base, headers={"X-Token": token}, timeout=60) as http:
                store = http.get("/api/model").json()["store"]
                found = store and http.get("/api/store/unit", params={"layer": "1", "unit": "0"}).json()
                said.extend(
                    [store and store["atlas"], found and found["link"], http.get(f"/atlas/{token}/").status_code]
                )

        monkeypatch.setattr(deconvviz.Explorer, "join", wait)
        with pytest.raises(SystemExit) as stopped:
            cli.main(["explore", "--model", "lenet", "--no-browser", *options, "photos"])
        return int(stopped.value.code or 0), said

    yield run


def test_the_atlas_is_found_where_it_is_put_or_said(run: Any, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--store", "a.db") == (0, [True, "layers/1/0.html", 200])
    assert run("--store", str(place / "a.db"), "--atlas", "a-site") == (0, [True, "layers/1/0.html", 200])
    assert run() == (0, [None, None, 404])
    out, err = capsys.readouterr()
    assert len(re.findall(r"^http://127\.0\.0\.1:\d+/\?token=\S+$", out, re.MULTILINE)) == 3 and err.count("\n") == 3


def test_what_is_there_but_of_another_scan_is_not_taken(run: Any, place: Path) -> None:
    (place / "a-site").rename(place / "elsewhere-site")
    try:
        assert run("--store", "elsewhere.db") == (0, [False, None, 404])
        assert run("--store", "a.db") == (0, [False, None, 404])
    finally:
        (place / "elsewhere-site").rename(place / "a-site")


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (["--atlas", "a-site"], 2, "--atlas needs --store"),
        (["--store", "a.db", "--atlas", "photos"], 1, "photos holds no atlas; make one with deconvviz atlas --store"),
        (["--store", "a.db", "--atlas", "nowhere"], 2, "'nowhere' does not exist"),
        (["--store", "elsewhere.db", "--atlas", "a-site"], 1, "a-site holds an atlas of another scan; make one with"),
    ],
)
def test_a_wrong_folder_is_one_line(
    run: Any, options: list[str], code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*options) == (code, [])
    out, err = capsys.readouterr()
    assert out == "" and line in err and err.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert run("--port", port) == (2, [])
    out, err = capsys.readouterr()
    assert (
        out == "" and err.startswith(f"deconvviz: port {port} of this machine cannot be used") and err.count("\n") == 1
    )


def test_a_browser_is_opened_unless_it_is_not_wanted(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(deconvviz.Explorer, "join", lambda page: None)
    with pytest.raises(SystemExit):
        cli.main(["explore", "--model", "lenet", str(place / "photos")])
    assert opened == capsys.readouterr().out.splitlines()
