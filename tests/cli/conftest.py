"""What tests of the commands share: a folder to work in, networks in it, and what is said of wrong usage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in with a readable picture and a folder with one more and one unreadable."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    (tmp_path / "more").mkdir()
    Image.fromarray(noise).save(tmp_path / "a.png")
    Image.fromarray(noise[::-1]).save(tmp_path / "more" / "a.png")
    (tmp_path / "more" / "bad.jpg").write_text("not a picture")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# A network that says when it is made, and waits for the end of the input: Ctrl-C comes before.
SLOW = """

def slow():
    import sys
    print("ready", flush=True)
    net = make()
    net.module.register_forward_pre_hook(lambda *_: print(end=sys.stdin.read()))
    return net
"""


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Writes a module with networks into the folder to work in, and goes there; the module is forgotten afterwards.

    Beside `make` of the source the module has `slow`, for `interrupted`.
    """
    written: list[str] = []

    def write(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source if "def slow" in source else source + SLOW)
        written.append(name)
        monkeypatch.chdir(tmp_path)

    yield write
    for name in written:
        sys.modules.pop(name, None)


@pytest.fixture
def said_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[[str], None]:
    """Asserts that stderr is one line that says this, and that no picture was written."""

    def check(said: str) -> None:
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1 and not list(tmp_path.glob("*.png"))

    return check


@pytest.fixture
def ctrl_c_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has Ctrl-C pressed when a function, given by its dotted name, is called."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    return lambda name: monkeypatch.setattr(name, interrupt)


@pytest.fixture
def interrupted(tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in a process of its own until it has printed some lines, presses Ctrl-C, and only then closes its
    input, so that a network may wait for that. Returns the exit code, and what was printed since and on stderr."""

    def run(arguments: Sequence[str], lines: Sequence[str], **environment: str) -> tuple[int, str, str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-m", "deconvviz", *arguments], stdin=pipe, stdout=pipe, stderr=pipe, text=True,
            cwd=tmp_path, env={**os.environ, **environment},
        )  # fmt: skip
        with process:
            assert process.stdout is not None
            for line in lines:
                assert process.stdout.readline() == line
            process.send_signal(signal.SIGINT)
            out, err = process.communicate()
        return process.returncode, out, err

    return run
