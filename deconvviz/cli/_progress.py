"""A progress bar for work on many files: on a terminal only, and never in the way of the results."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from deconvviz.cli._common import print_path
from deconvviz.progress import TerminalBar


class Progress:
    """Counts `total` pictures, or what `what` names, on stderr if that is a terminal; results go to stdout,
    problems to stderr.

    While a bar stands on the terminal, results that would go to the same terminal wait until it is gone. `speed` names
    what is counted, to show how many of them a second.
    """

    def __init__(self, total: int, what: str = "", speed: str = "") -> None:
        self._total, self._what, self._speed = total, what, speed
        self._done = 0
        self._bar: TerminalBar | None = None
        self._waiting: list[Path | str] = []

    def __enter__(self) -> Progress:
        if self._total > 1 and sys.stderr.isatty():
            self._bar = TerminalBar(self._what, self._total, self._speed)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
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
            self._bar.say(line)
        else:
            click.echo(line, err=True)

    def advance(self) -> None:
        """Count one picture as done."""
        self.reach(self._done + 1)

    def reach(self, done: int) -> None:
        """Bring the count to `done`."""
        self._done = done
        if self._bar is not None:
            self._bar.reach(done)

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
