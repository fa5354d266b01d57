"""What tests of the commands share: a folder to work in with pictures."""

from __future__ import annotations

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
