"""A small network and small pictures for scans."""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from deconvviz import Network


class Small(nn.Module):
    """Two convolutions; the second ReLU is a function, so that no module returns its value."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 5, stride=2, padding=1)
        self.relu1 = nn.ReLU(inplace=True)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.relu1(self.conv1(x)))
        x = torch.relu_(self.conv2(x))
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def net() -> Network:
    """Random weights; unit 1 of conv2 is dead."""
    torch.manual_seed(0)
    module = Small()
    with torch.no_grad():
        module.conv2.bias[1] = -100.0
    aliases = {"1": "conv1", "conv1": "conv1", "2": "conv2", "conv2": "conv2"}
    return Network(module, input_size=16, mean=(0.5,) * 3, std=(0.25,) * 3, aliases=aliases, labels=("a", "b", "c"))


def _write_pictures(folder: Path, count: int, start: int = 0) -> list[Path]:
    """Noise in two sub-folders in turn, number by number."""
    paths = []
    for n in range(start, start + count):
        path = folder / ("cat", "dog")[n % 2] / f"{n:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(n).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        paths.append(path)
    return paths


@pytest.fixture
def write_pictures() -> Callable[..., list[Path]]:
    """Write `count` pictures into a folder, from number `start`."""
    return _write_pictures


def _forked(work: Callable[[], object]) -> int:
    """Run `work` in a child process and return its number; the child's exit status says whether it went well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forking a process with threads: the child uses none of them
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        torch.set_num_threads(1)
        work()
        status = 0
    finally:
        os._exit(status)


@pytest.fixture
def forked() -> Callable[[Callable[[], object]], int]:
    """Run something in a child process and return its number; its exit status says whether it went well."""
    return _forked


@pytest.fixture
def content() -> Callable[[Path], dict[str, list[tuple[object, ...]]]]:
    """Every row of every table of a store but `runs`, with the exact type and bits of each value."""

    def read(path: Path) -> dict[str, list[tuple[object, ...]]]:
        db = sqlite3.connect(path)
        try:
            tables = [r[0] for r in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
            assert len(tables) == 7
            return {t: sorted(db.execute(f"SELECT * FROM {t}"), key=repr) for t in tables if t != "runs"}
        finally:
            db.close()

    return read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eleven pictures, of which one cannot be read."""
    _write_pictures(tmp_path / "photos", 11)
    (tmp_path / "photos" / "cat" / "004.png").write_text("not a picture")
    return tmp_path / "photos"
