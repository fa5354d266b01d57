"""Learning curves: what is drawn is what was measured, and nothing is cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from deconvviz import learning_curves
from deconvviz.analyses.curves.result import LearningCurves
from deconvviz.errors import DeconvvizValueError


def curves(epochs: int, sizes: list[int], tested: int) -> LearningCurves:
    t = torch.arange(1, epochs + 1)
    test = torch.where(t % tested == 0, 0.6 - 0.3 / t, torch.nan).double()
    return LearningCurves("run", t, torch.tensor(sizes), 4.0 / t.double(), 0.9 - 0.5 / t.double(), test, 0.7)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for panel in figure.axes for text in panel.texts]


def test_lines_hold_the_values() -> None:
    shown = curves(12, [112] * 8 + [224] * 4, 3)
    loss, accuracy = shown.figure().axes
    assert np.array_equal(loss.lines[0].get_xydata(), np.stack([shown.epochs, shown.loss], 1))
    assert np.array_equal(accuracy.lines[0].get_ydata(), shown.train)
    assert np.array_equal(accuracy.lines[1].get_xdata(), [3, 6, 9, 12])  # only the epochs that were tested
    assert accuracy.lines[2].get_xydata().tolist() == [[12, pytest.approx(0.575)]]
    assert {"112²", "224²", "○ best 57.5%, epoch 12", "training", "test"} <= set(texts(shown.figure()))


def narrow() -> LearningCurves:
    """A loss that hardly falls: its axis needs many digits."""
    flat = curves(10, [64] * 10, 1)
    return replace(flat, loss=1.3 + 0.1 / flat.epochs.double())


@pytest.mark.parametrize(
    "shown", [curves(64, [112] * 61 + [224] * 3, 4), curves(1, [28], 1), curves(2, [28] * 2, 9), narrow()]
)
def test_nothing_is_cut(shown: LearningCurves) -> None:
    figure = shown.figure()
    figure.canvas.draw()
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [text.get_window_extent() for panel in figure.axes for text in panel.texts]
    boxes += [panel.get_tightbbox() for panel in figure.axes]
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= width and b.y1 <= height for b in boxes)


def test_saved_and_loaded(tmp_path: Path) -> None:
    shown = curves(5, [28] * 5, 2)
    assert LearningCurves.load(shown.save(tmp_path / "curves.npz")) == shown
    assert len(shown) == 5 and "run" in shown.title


@pytest.mark.parametrize("content", [None, "", "not json\n", '{"loss": 1.0}\n', "[1]\n"])
def test_a_folder_that_is_no_run(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(DeconvvizValueError, match="metrics.jsonl"):
        learning_curves(tmp_path)
