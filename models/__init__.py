"""Architectures with their cards. Installed as `deconvviz.models`; imports nothing of deconvviz but the card."""

from __future__ import annotations

from .registry import build, card, names, weights_path

__all__ = ["build", "card", "names", "weights_path"]
