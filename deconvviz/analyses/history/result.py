"""The result of `history`: who won the ILSVRC classification task, by how much, with which network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from deconvviz.results.base import Result
from deconvviz.results.table import Table

NOTE = (
    "ILSVRC classification, top-5 test error, without extra training data; from 2012 on the entries are ensembles. "
    "Depth and parameters are of the one network of the zoo that is named: layers with weights on the longest path."
)


class Entry(NamedTuple):
    """One entry: `place` 1 won; `error` and `extra` (with additional training data, or None) are top-5 test errors in
    percent; `network` is its name in the literature and `zoo` here (both empty if the zoo has none); `depth` and
    `parameters` are of that one network, or None if it cannot be built here."""

    year: int
    place: int
    team: str
    error: float
    extra: float | None = None
    network: str = ""
    zoo: str = ""
    depth: int | None = None
    parameters: int | None = None


@dataclass(frozen=True, eq=False)
class History(Result):
    """ILSVRC classification 2010 to 2017: `entries`, by year and place. Sources in `compute.py` beside this.

    >>> deconvviz.history().tabular().columns[:3]
    ('year', 'place', 'entry')
    """

    entries: tuple[Entry, ...]

    @property
    def title(self) -> str:
        """What the chart shows."""
        return "ILSVRC classification, 2010 to 2017"

    def winners(self) -> list[Entry]:
        """The winner of each year, in the order of years."""
        return [entry for entry in self.entries if entry.place == 1]

    def table(self, kind: str = "text") -> str:
        """Return the entries as a table, "text", "markdown", "latex" or "html"."""
        return self.tabular().render(kind)

    def tabular(self) -> Table:
        """Return the entries as a `Table`, a line between the years."""
        columns = ("year", "place", "entry", "top-5 error %", "with extra data", "network", "depth", "parameters (M)")
        rows = [
            (
                e.year,
                e.place,
                e.team,
                f"{e.error:.2f}",
                None if e.extra is None else f"{e.extra:.2f}",
                e.network,
                e.depth,
                None if e.parameters is None else f"{e.parameters / 1e6:.2f}",
            )
            for e in self.entries
        ]
        new = [n for n in range(1, len(rows)) if self.entries[n].year != self.entries[n - 1].year]
        return Table(columns, rows, NOTE, align="rclrrlrr", rules=new)

    def facts(self) -> dict[str, object]:
        """Return the entries as dictionaries, ready for JSON."""
        return {**self.plain(), "entries": [entry._asdict() for entry in self.entries]}
