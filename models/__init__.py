"""Architectures with their cards, installed as `deconvviz.models`; of deconvviz it imports only the card."""

from __future__ import annotations

from .registry import build, card, names, weights_path

__all__ = ["build", "card", "names", "weights_path"]
