"""What tests of networks share: a picture, and folders of weights of their own instead of the user's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture
def picture() -> Image.Image:
    """Wider than high, smooth and noisy at once, so that every way to resize makes another input."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
        (301, 240), Image.Resampling.BICUBIC
    )
    noise = rng.integers(-20, 20, (240, 301, 3))
    return Image.fromarray(np.clip(np.asarray(coarse).astype(int) + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty folders for what torch hub and the hub keep on disk, and no network to fill them from."""

    def fail(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    return tmp_path


@pytest.fixture
def repository(folders: Path) -> Callable[[str], Path]:
    """Makes the folder of a repository's files in the hub's cache."""

    def make(name: str) -> Path:
        at = folders / "hf" / "hub" / f"models--{name.replace('/', '--')}"
        (at / "refs").mkdir(parents=True)
        (at / "refs" / "main").write_text("0123abcd")
        (at / "snapshots" / "0123abcd").mkdir(parents=True)
        return at / "snapshots" / "0123abcd"

    return make
