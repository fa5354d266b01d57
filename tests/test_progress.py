"""One way to hear how far something is: True, a callable, or None; and the bars that it is shown by."""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

import deconvviz
from deconvviz.errors import DeconvvizTypeError
from deconvviz.progress import TerminalBar, heard


def test_what_is_given_is_what_is_called() -> None:
    said: list[tuple[int, int]] = []
    with heard(lambda done, total: said.append((done, total)), "things") as report:
        assert report is not None
        report(1, 2)
    assert said == [(1, 2)]
    for silent in (None, False):
        with heard(silent, "things") as report:
            assert report is None
    with pytest.raises(DeconvvizTypeError, match=r"progress is 'yes'; allowed: True, a callable"), heard("yes", ""):  # type: ignore[arg-type]
        pass


def test_true_is_a_bar_where_somebody_sees_it_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[tuple[str, Any]] = []

    class Bar:
        def reach(self, done: int, total: int) -> None:
            bars.append(("reach", (done, total)))

        def close(self) -> None:
            bars.append(("close", None))

    monkeypatch.setattr("deconvviz.progress.bar_of", lambda what: bars.append((what, None)) or Bar())
    with pytest.raises(KeyError), heard(True, "things") as report:
        assert report is not None and bars == [], "no bar before there is something to tell"
        report(1, 2)
        report(2, 2)
        raise KeyError
    assert bars == [("things", None), ("reach", (1, 2)), ("reach", (2, 2)), ("close", None)]


def test_nobody_sees_a_bar_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    with heard(True, "things") as report:
        assert report is not None
        report(1, 1)
    assert stderr.getvalue() == ""


def test_a_terminal_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    stderr.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    bar = TerminalBar("things", speed="things")
    bar.reach(1, 3)
    bar.say("a line [of its own]")
    bar.reach(3)
    bar.close()
    assert "a line [of its own]" in stderr.getvalue() and "3/3" in stderr.getvalue() and "things" in stderr.getvalue()


@pytest.mark.parametrize(
    "function",
    ["project", "occlude", "evolve", "invariance", "correspondence", "filters", "probe", "scan", "panels_page"],
)
def test_every_function_that_takes_a_while_takes_it(function: str) -> None:
    parameter = inspect.signature(getattr(deconvviz, function)).parameters["progress"]
    assert parameter.default is None and parameter.annotation == "Progress"


Calls = list[tuple[int, int]]


def project(progress: Callable[[int, int], object]) -> None:
    deconvviz.project(deconvviz.load("lenet"), torch.rand(1, 28, 28), "1", top=5, batch=2, progress=progress)


def filters(progress: Callable[[int, int], object]) -> None:
    pictures = [torch.rand(1, 28, 28) for _ in range(5)]
    deconvviz.filters(deconvviz.load("lenet"), images=pictures, batch=2, progress=progress)


@pytest.mark.parametrize("run", [project, filters])
def test_batches_count_to_the_end(run: Callable[[Callable[[int, int], object]], None]) -> None:
    said: Calls = []
    run(lambda done, total: said.append((done, total)))
    assert said == [(2, 5), (4, 5), (5, 5)]
