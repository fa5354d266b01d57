"""How far something is: one way to ask for it, and one bar, on a terminal or in a notebook."""

from __future__ import annotations

import contextlib
import html
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from deconvviz.errors import DeconvvizTypeError

# Called with how much is done, and of how much.
Report: TypeAlias = Callable[[int, int], object]
# What functions take as `progress`: True for a bar where somebody can see one, a callable, or None for silence.
Progress: TypeAlias = bool | Report | None

_OFTEN = 0.1  # seconds between two pictures of a bar in a notebook


@contextlib.contextmanager
def heard(progress: Progress, what: str) -> Iterator[Report | None]:
    """What is to be called with how much is done and of how much: `progress` itself, or a bar that counts `what`.

    None where nobody listens. Raises `DeconvvizTypeError` for a `progress` that is none of the three.
    """
    if progress is None or progress is False:
        yield None
    elif callable(progress):
        yield progress
    elif progress is True:
        bars: list[TerminalBar | NotebookBar | None] = []

        def reach(done: int, total: int) -> None:
            if not bars:  # not before there is something to tell
                bars.append(bar_of(what))
            if bars[0] is not None:
                bars[0].reach(done, total)

        try:
            yield reach
        finally:
            for bar in bars:
                if bar is not None:
                    bar.close()
    else:
        raise DeconvvizTypeError(f"progress is {progress!r}; allowed: True, a callable (done, total), or None")


def bar_of(what: str = "", total: int | None = None, speed: str = "") -> TerminalBar | NotebookBar | None:
    """A bar where somebody can see it: in a notebook, or on stderr if that is a terminal; else None."""
    if in_notebook():
        return NotebookBar(what, total)
    return TerminalBar(what, total, speed) if sys.stderr.isatty() else None


def in_notebook() -> bool:
    """Whether what is shown goes to a notebook: this runs in a kernel, not on a terminal."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return hasattr(shell, "kernel")


class TerminalBar:
    """A bar on stderr, which is gone once it is closed; `speed` names what is counted, to show how many a second."""

    def __init__(self, what: str = "", total: int | None = None, speed: str = "") -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
        from rich.text import Text

        class Speed(TextColumn):
            """How many a second, once that is known."""

            def render(self, task: Task) -> Text:
                return Text("" if task.speed is None else f"{task.speed:.1f} {speed}/s")

        # Redirected, stdout would end up on stderr.
        self._bar = Bar(
            *([TextColumn("{task.description}", markup=False)] if what else []),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            *([Speed("", markup=False)] if speed else []),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task(what, total=total)
        self._bar.start()

    def reach(self, done: int, total: int | None = None) -> None:
        """Bring the bar to `done`, of `total` if that is said."""
        self._bar.update(self._task, completed=done, total=total)  # None leaves it as it is

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()


class NotebookBar:
    """A bar under the cell that runs; what it came to stays there."""

    def __init__(self, what: str = "", total: int | None = None) -> None:
        self._what, self._total, self._done = what, total, 0
        self._begun, self._latest = time.monotonic(), 0.0
        self._handle: Any = None

    def reach(self, done: int, total: int | None = None) -> None:
        """Bring the bar to `done`, of `total` if that is said."""
        self._done, self._total = done, self._total if total is None else total
        if done == self._total or time.monotonic() - self._latest > _OFTEN:
            self._show()

    def say(self, line: str) -> None:
        """Show a line of its own."""
        _display({"text/plain": line})

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._handle is not None:
            self._show()

    def _show(self) -> None:
        self._latest = time.monotonic()
        total = max(self._total or 0, 1)
        count = " ".join(filter(None, [f"{self._done}/{total}", self._what, f"· {self._latest - self._begun:.1f} s"]))
        data = {
            "text/plain": count,
            "text/html": f'<progress value="{self._done}" max="{total}"></progress> {html.escape(count)}',
        }
        if self._handle is None:
            self._handle = _display(data)
        else:
            self._handle.update(data, raw=True)


def _display(data: dict[str, str]) -> Any:
    return importlib.import_module("IPython.display").display(data, raw=True, display_id=True)
