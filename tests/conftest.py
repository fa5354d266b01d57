"""What tests share: no display is ever wanted, no test depends on time; a small data set."""

from __future__ import annotations

import importlib.resources
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser

matplotlib.use("Agg")
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure() -> None:
    # A shell that runs the tests in the background has made them, and all processes of theirs, deaf to Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--hostile", nargs="?", const=20, default=1, type=int, metavar="FACTOR",
        help="Run fuzzers, kill tests and races this many times as long (20 without a number).",
    )  # fmt: skip


@pytest.fixture
def hostile(request: pytest.FixtureRequest) -> int:
    """How many times as long as in the default run the seeded fuzzers, kill tests and races go on."""
    factor: int = request.config.getoption("--hostile")
    return factor


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small or depthwise convolutions on busy cores can take hundreds of times longer with more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes, told apart by where the picture is bright: 16 noisy pictures each, and a broken one."""
    g = torch.Generator().manual_seed(0)
    for c, label in enumerate(("bottom", "middle", "top")):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(16):
            x = torch.randint(0, 90, (32, 32), generator=g, dtype=torch.uint8)
            x[20 - 8 * c : 28 - 8 * c, 4:28] += 140  # not left and right: mirror images keep their class
            Image.fromarray(x.numpy()).save(tmp_path / "data" / label / f"{i:03}.png")
    (tmp_path / "data" / "bottom" / "broken.png").write_bytes(b"not a picture")
    (tmp_path / "data" / "BACKGROUND_Google").mkdir()
    (tmp_path / "data" / ".hidden").mkdir()
    return tmp_path / "data"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium without a window: the variable CHROMIUM, else what is installed."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    with sync_playwright() as play:
        path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), play.chromium.executable_path)
        if not Path(path).exists():
            reason = "no Chromium: install Debian's `chromium` or name one in the variable CHROMIUM"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        running = play.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", *camera])
        yield running
        running.close()


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, which checks a page for what keeps people from using it."""
    return importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
