"""What the folder of a training run says of how it was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch


def settings(run: Path) -> dict[str, Any]:
    """Return the settings in the last checkpoint of `deconvviz train` (recipe, split, …); empty for another's run."""
    try:
        state = torch.load(run / "last.pt", map_location="cpu", weights_only=True, mmap=True)
        return cast(dict[str, Any], dict(state["settings"]))
    except Exception:  # a file of another kind, or a damaged one: torch has many ways to say so
        return {}


def measured_epochs(run: Path) -> list[dict[str, Any]]:
    """Return the lines of the run's metrics that hold an accuracy on test pictures; none if there are no metrics."""
    try:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [line for line in map(json.loads, lines) if "test" in line]
    except (OSError, ValueError):
        return []
