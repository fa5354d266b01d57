"""`deconvviz train`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from deconvviz.cli import cli


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


def test_command(folder: Path, tmp_path: Path) -> None:
    args = ["train", "--model", "lenet", "--data", str(folder), "--out", str(tmp_path / "out")]
    args += ["--epochs", "1", "--batch", "8", "--workers", "0"]
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == 0, done.output
    assert "epoch 1  size 28  loss" in done.output and "1 pictures could not be read" in done.output
    again = CliRunner().invoke(cli, args)
    assert again.exit_code == 2 and "--resume" in again.output
    assert CliRunner().invoke(cli, [*args, "--resume"]).exit_code == 0
