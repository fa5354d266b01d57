"""Beginning and end: ports, handles, restarts, Ctrl-C, what is missing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

import deconvviz
from deconvviz import explore

from .conftest import picture, small


def test_a_handle_is_a_line_and_ends(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    threads = threading.active_count()
    page = explore(small(), str(tmp_path / "a.png"))
    assert httpx.get(page.url).status_code == 200
    assert repr(page) == f"Explorer(Sequential, {page.url})"
    page.close()
    page.close()
    assert repr(page) == "Explorer(Sequential, closed)"
    with pytest.raises(httpx.ConnectError):
        httpx.get(page.url)
    assert threading.active_count() <= threads + 2  # the two lanes stay


def test_two_at_once_do_not_know_each_other() -> None:
    with explore(small(0), picture(0)) as one, explore(small(1), picture(1)) as two:
        answers = []
        for page in (one, two):
            base, _, token = page.url.partition("/?token=")
            model = httpx.get(f"{base}/api/model", headers={"X-Token": token}).json()
            id = model["pictures"][0]["id"]
            answers.append(httpx.get(f"{base}/api/pictures/{id}", headers={"X-Token": token}).json()["answer"])
            other = (two if page is one else one).url.partition("/?token=")[0]
            assert httpx.get(f"{other}/api/model", headers={"X-Token": token}).status_code == 403
        assert answers[0] != answers[1]


def test_a_port_in_use_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(deconvviz.DeconvvizValueError, match=f"port {port} of this machine cannot be used: "):
            explore(small(), port=port)


@pytest.mark.parametrize("port", [-1, 65536, "8080", True, 1.5])
def test_a_port_that_is_none_is_said(port: object) -> None:
    with pytest.raises(deconvviz.DeconvvizValueError, match="allowed: 0 "):
        explore(small(), port=port)  # type: ignore[arg-type]


def test_the_port_is_free_again_after_a_failed_start() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for _ in range(2):
        with pytest.raises(deconvviz.ImageError, match="no such picture"):
            explore(small(), "nothing.png", port=port)
    with explore(small(), port=port) as page:
        assert f":{port}/" in page.url


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(deconvviz.DeconvvizError) as said:
        explore(small())
    assert str(said.value) == 'explore needs uvicorn, which is not installed: pip install "deconvviz[explore]"'


def test_the_store_beside(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for seed in range(4):
        picture(seed).save(tmp_path / "photos" / f"{seed}.png")
    net = small()
    with deconvviz.scan(net, tmp_path / "photos", ["conv2"], top=3, store=tmp_path / "s.db", workers=0) as store:
        places = store.top("conv2", 5)
    with explore(net, picture(0), tmp_path / "s.db") as page:
        base, _, token = page.url.partition("/?token=")
        http = httpx.Client(base_url=base, headers={"X-Token": token})
        assert http.get("/api/model").json()["store"] == {"pictures": 4, "layers": ["conv2"], "atlas": False}
        found = http.get("/api/store/unit", params={"layer": "conv2", "unit": 5}).json()["strongest"]
        assert [(one["rank"], one["activation"]) for one in found] == [(p.rank, p.activation) for p in places]
        assert found[0]["name"] == f"{places[0].picture}.png"
        assert found[0]["image"].startswith("data:image/jpeg;base64,")
        answer = http.get("/api/store/unit", params={"layer": "conv1", "unit": 5})
        assert (answer.status_code, answer.json()["error"][:23]) == (422, "layer 'conv1' is not in")
        http.close()
    with pytest.raises(deconvviz.StoreError):
        explore(small(1), picture(0), tmp_path / "s.db")


def command(*more: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "deconvviz", "explore", "--no-browser", "--model", "lenet", *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize("busy", [False, True])
def test_ctrl_c_ends_the_command_cleanly(tmp_path: Path, busy: bool) -> None:
    picture().save(tmp_path / "a.png")
    running = command("a.png", folder=tmp_path)
    assert running.stdout is not None
    url = running.stdout.readline().strip()
    base, _, token = url.partition("/?token=")
    with httpx.Client(base_url=base, headers={"X-Token": token}, timeout=60) as http:
        id = http.get("/api/model").json()["pictures"][0]["id"]
        assert http.get(f"/api/pictures/{id}").json()["name"] == "a.png"
        if busy:
            with http.stream("GET", f"/api/pictures/{id}/heat", params={"stride": "1", "window": "3"}) as heat:
                next(heat.iter_lines())
                os.kill(running.pid, signal.SIGINT)
                out, err = running.communicate(timeout=60)
        else:
            os.kill(running.pid, signal.SIGINT)
            out, err = running.communicate(timeout=60)
    assert running.returncode == 130 and out == ""
    assert [line for line in err.splitlines() if line] == [
        "deconvviz: open this address if no browser has; Ctrl-C ends it", "deconvviz: interrupted",
    ]  # fmt: skip
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


@pytest.mark.parametrize(
    ("given", "code", "line"),
    [
        (["nothing.png"], 2, "Path 'nothing.png' does not exist"), (["bad.png"], 1, "cannot read bad.png as a picture"),
        (["--port", "70000"], 2, "70000"), (["--store", "bad.png"], 1, "is not a store of deconvviz"),
        (["--model", "lenett"], 2, "did you mean 'lenet'"), (["--model", "bare.py:make"], 2, "--mean and --std"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_the_command_lines_own_line(tmp_path: Path, given: list[str], code: int, line: str) -> None:
    (tmp_path / "bad.png").write_text("not a picture")
    (tmp_path / "bare.py").write_text(
        "import torch\ndef make(): return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))\n"
    )
    running = command(*given, folder=tmp_path)
    out, err = running.communicate(timeout=60)
    assert out == "" and line in err and err.count("\n") == 1 and "Traceback" not in err
    assert running.returncode == code
