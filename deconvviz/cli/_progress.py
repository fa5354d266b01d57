"""A progress bar for work on many files: on a terminal only, and never in the way of the results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deconvviz.cli._common import print_path

if TYPE_CHECKING:
    import rich.progress


class Progress:
    """Counts `total` pictures, or what `what` names, on stderr if that is a terminal; results go to stdout,
    problems to stderr.

    While a bar stands on the terminal, results that would go to the same terminal wait until it is gone. `speed` names
    what is counted, to show how many of them a second.
    """

    def __init__(self, total: int, what: str = "", speed: str = "") -> None:
        self._total, self._what, self._speed = total, what, speed
        self._bar: rich.progress.Progress | None = None
        self._waiting: list[Path | str] = []

    def __enter__(self) -> Progress:
        if self._total > 1 and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar
            from rich.text import Text

            class Speed(TextColumn):
                """How many a second, once that is known."""

                def __init__(self, what: str) -> None:
                    super().__init__("", markup=False)
                    self._what = what

                def render(self, task: Task) -> Text:
                    return Text("" if task.speed is None else f"{task.speed:.1f} {self._what}/s")

            # Redirected, stdout would end up on stderr.
            self._bar = Bar(
                *([TextColumn("{task.description}", markup=False)] if self._what else []),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                *([Speed(self._speed)] if self._speed else []),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bar.add_task(self._what, total=self._total)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        for path in self._waiting:
            print_path(path)

    def result(self, path: Path | str) -> None:
        """Print a file of the result, or a line of it."""
        if self._bar is not None and sys.stdout.isatty():
            self._waiting.append(path)
        else:
            print_path(path)

    def problem(self, line: str) -> None:
        """Print a line about what went wrong."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(line, err=True)

    def advance(self) -> None:
        """Count one picture as done."""
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])

    def reach(self, done: int) -> None:
        """Bring the count to `done`."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done)

    def share(self, done: int, total: int) -> None:
        """Bring the count to the share `done` of `total` of what is counted."""
        self.reach(self._total * done // max(total, 1))


class Stages:
    """One bar after the other, for work that reports what it does, how much is done, and of how much.

    `speed` is that of `Progress`; without `shown` there is no bar. `total` is that of the latest report.
    """

    def __init__(self, speed: str = "", shown: bool = True) -> None:
        self._speed, self._shown, self.total = speed, shown, 0
        self._what = ""
        self._bar: Progress | None = None

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away: what is printed next stands on a line of its own."""
        if self._bar is not None:
            self._bar.__exit__()
        self._bar = None

    def report(self, what: str, done: int, total: int) -> None:
        """Bring the bar of `what` to `done` of `total`."""
        self.total = total
        if self._shown and (self._bar is None or what != self._what):
            self.close()
            self._what, self._bar = what, Progress(total, what, self._speed).__enter__()
        if self._bar is not None:
            self._bar.reach(done)
        if done == total:
            self.close()
