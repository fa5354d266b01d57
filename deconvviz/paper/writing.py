"""A page on disk: its figure in every format, caption, table, the numbers behind it, and what it was made of."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from deconvviz.files import write_whole
from deconvviz.paper.pages import Page
from deconvviz.paper.sources import Made
from deconvviz.results.style import write
from deconvviz.results.table import Table

FORMATS = ("png", "pdf", "svg")
NUMBERS = "numbers"
_FORMAT = 1
# What a picture of a gallery may take, in bytes and in pixels.
LEAN, WIDEST = 150_000, 1600


@dataclass(frozen=True)
class Written:
    """A page that is on disk: the `files` of its figure by format, its caption, its table, and its sources."""

    page: Page
    files: dict[str, Path]
    caption: str
    table: Table | None
    identity: dict[str, str]
    seconds: float = 0.0
    kept: bool = False

    @property
    def paths(self) -> list[Path]:
        """Every file of the page: the figure's, then the caption and the table's."""
        figures = list(self.files.values())
        extra = [".txt"] if self.table is None else [".txt", ".md", ".tex"]
        return figures + [figures[0].with_suffix(suffix) for suffix in extra]


def write_page(
    page: Page, made: Made, folder: Path, formats: Sequence[str], stem: str, identity: dict[str, str]
) -> Written:
    """Write `made` as `stem`.png, … and `stem`.txt, for a table .md and .tex too; each whole or not at all."""
    metadata = {
        "Title": f"{page.heading}. {page.title}",
        "Software": f"deconvviz {identity.get('deconvviz', '')}".strip(),
        "Description": made.caption,
    }
    files = {}
    for kind in formats:
        buffer = io.BytesIO()
        write(made.figure, buffer, kind, metadata)
        files[kind] = folder / f"{stem}.{kind}"
        write_whole(files[kind], buffer.getvalue())
    text = f"{page.heading}. {made.caption}\n"
    if made.table is not None:
        text = f"{made.table.text()}\n{text}"
        write_whole(folder / f"{stem}.md", made.table.markdown().encode())
        write_whole(folder / f"{stem}.tex", made.table.latex().encode())
    write_whole(folder / f"{stem}.txt", text.encode())
    return Written(page, files, made.caption, made.table, identity)


def keep_numbers(written: Written, made: Made, folder: Path) -> None:
    """Write the results behind a page and what it was made of, for `kept_page` and for reading."""
    inside = folder / NUMBERS
    inside.mkdir(exist_ok=True)
    for name, result in made.results.items():
        result.save(inside / f"{name}.npz")
    facts = {
        "format": _FORMAT,
        "files": {kind: path.name for kind, path in written.files.items()},
        "caption": written.caption,
        "table": None if written.table is None else asdict(written.table),
        "identity": written.identity,
        "results": sorted(made.results),
        "seconds": round(written.seconds, 1),
    }
    # Last: a page counts as made once this is there.
    write_whole(_facts_path(folder, written.page), json.dumps(facts, indent=1).encode())


def kept_page(page: Page, folder: Path, formats: Sequence[str], identity: dict[str, str]) -> Written | None:
    """Return the page as it is on disk, or None if it is not there, not whole, or made of other sources."""
    facts = _facts(folder, page)
    if facts is None or facts.get("format") != _FORMAT or facts["identity"] != identity:
        return None
    files = {kind: folder / name for kind, name in facts["files"].items()}
    whole = set(formats) <= set(files) and all(path.is_file() for path in files.values())
    if not whole or not all((folder / NUMBERS / f"{name}.npz").is_file() for name in facts["results"]):
        return None
    table = None if facts["table"] is None else Table(**facts["table"])
    return Written(page, files, facts["caption"], table, identity, facts["seconds"], kept=True)


def _facts_path(folder: Path, page: Page) -> Path:
    return folder / NUMBERS / f"{page.name}.json"


def _facts(folder: Path, page: Page) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(_facts_path(folder, page).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def lean(png: bytes, most: int = LEAN) -> bytes:
    """Return a picture as WebP of at most `most` bytes: at most `WIDEST` pixels wide, the best quality that fits."""
    with Image.open(io.BytesIO(png)) as opened:
        picture = opened.convert("RGB")
    while True:
        if picture.width > WIDEST:
            size = (WIDEST, round(picture.height * WIDEST / picture.width))
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        for quality in (90, 80, 70, 60, 50):
            buffer = io.BytesIO()
            picture.save(buffer, "webp", quality=quality, method=4)
            if buffer.tell() <= most:
                return buffer.getvalue()
        # Still too large: fewer pixels are better than a quality below that.
        size = (max(picture.width * 3 // 4, 1), max(picture.height * 3 // 4, 1))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
