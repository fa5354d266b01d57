"""The learning curves of a run, read from its folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from deconvviz.analyses.curves.result import LearningCurves
from deconvviz.errors import DeconvvizValueError

METRICS = "metrics.jsonl"


def learning_curves(folder: str | os.PathLike[str]) -> LearningCurves:
    """Loss and accuracies of every epoch of the run in `folder`. Raises `DeconvvizValueError` if there are none.

    >>> text = '{"epoch": 1, "size": 28, "loss": 2.1, "train": 0.2}'
    >>> Path("curves").mkdir(exist_ok=True)
    >>> Path("curves/metrics.jsonl").write_text(text) > 0
    True
    >>> deconvviz.learning_curves("curves").loss
    tensor([2.1000], dtype=torch.float64)
    """
    path = Path(folder) / METRICS
    try:
        lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
        part = "validation" if any("validation" in line for line in lines) else "test"
        table = {
            key: torch.tensor([float(line.get(key, "nan")) for line in lines], dtype=torch.float64)
            for key in ("epoch", "size", "loss", "train", part)
        }
    except FileNotFoundError as error:
        raise DeconvvizValueError(f"there is no {path}: {folder} is not the folder of a run") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise DeconvvizValueError(f"{path} is damaged: {error}") from error
    if not lines or table["epoch"].isnan().any():
        raise DeconvvizValueError(f"{path} holds no finished epoch")
    return LearningCurves(
        name=Path(folder).resolve().name,
        epochs=table["epoch"].long(),
        sizes=table["size"].long(),
        loss=table["loss"],
        train=table["train"],
        test=table[part],
        part=part,
        test_ten_crops=lines[-1].get("test_ten_crops"),
    )
