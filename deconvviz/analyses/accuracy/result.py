"""Accuracy against the number of training pictures a category, from several sources (Fig. 9, Table 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from deconvviz.results.base import Result
from deconvviz.results.table import Table


class Series(NamedTuple):
    """Accuracies of one kind: `counts` training pictures a category, `values` (0 to 1, mean over categories) and their
    `deviations` (or none); `measured` here, or said in the paper."""

    name: str
    measured: bool
    counts: tuple[int, ...]
    values: tuple[float, ...]
    deviations: tuple[float, ...] = ()

    def at(self, count: int) -> str:
        """The accuracy with `count` pictures in percent, with its deviation; nothing if there is none."""
        if count not in self.counts:
            return ""
        k = self.counts.index(count)
        return f"{100 * self.values[k]:.1f}" + (f" ± {100 * self.deviations[k]:.1f}" if self.deviations else "")


@dataclass(frozen=True, eq=False)
class Accuracy(Result):
    """How well few pictures a category teach one: `lines`, `chance` (the accuracy of guessing), and a `note`.

    >>> from deconvviz.analyses.accuracy.result import Series
    >>> lines = (Series("mine", True, (15, 30), (0.52, 0.61)), Series("from scratch", False, (15,), (0.228,), (0.015,)))
    >>> deconvviz.Accuracy(lines, chance=1 / 101).table().rows[1]
    ('from scratch', 'paper', '22.8 ± 1.5', '')
    """

    lines: tuple[Series, ...]
    chance: float
    note: str = ""

    @property
    def title(self) -> str:
        """The model."""
        return f"{self.model_name} accuracy with few pictures"

    def table(self, counts: tuple[int, ...] = (15, 30)) -> Table:
        """Return the accuracies at `counts` pictures a category in percent, one row a series.

        A count that no series has is left out; where there were fewer pictures than the most asked for, that number
        has a column of its own.
        """
        most = [max(s.counts) for s in self.lines if s.measured]
        there = {n for s in self.lines for n in s.counts}
        counts = tuple(sorted({n for n in counts if n in there} | {n for n in most if n < max(counts)}))
        rows = [(s.name, "measured" if s.measured else "paper", *(s.at(n) for n in counts)) for s in self.lines]
        paper = [k for k, s in enumerate(self.lines) if k and s.measured != self.lines[k - 1].measured]
        return Table(("", "", *(f"{n} a category" for n in counts)), rows, self.note, rules=paper)

    def facts(self) -> dict[str, object]:
        """Return the series as dictionaries, ready for JSON."""
        return {**self.plain(), "lines": [series._asdict() for series in self.lines]}
