"""The public face of the rules: its example runs, and what it exports is there."""

from __future__ import annotations

import doctest

import pytest

import deconvviz.rules
from deconvviz.engine.rules import base


def test_the_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_RULES", deconvviz.rules.registered())  # its rule is gone afterwards
    result = doctest.testmod(deconvviz.rules)
    assert result.attempted > 5 and result.failed == 0


def test_all_is_sorted_and_there() -> None:
    names = deconvviz.rules.__all__
    assert sorted(names) == names and all(hasattr(deconvviz.rules, name) for name in names)
