"""A page on disk: its figure in every format, caption, table, the numbers behind it, and what it was made of."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from deconvviz.errors import DeconvvizValueError
from deconvviz.files import write_whole
from deconvviz.paper.pages import Page
from deconvviz.paper.sources import Made
from deconvviz.results.style import write
from deconvviz.results.table import Table

# What a page is written as: its figure, its caption with the table if it has one, and that table alone.
FIGURES, TEXT, TABLES = ("png", "pdf", "svg"), "txt", ("md", "tex")
FORMATS = (*FIGURES, TEXT, *TABLES)
NUMBERS = "numbers"
_FORMAT = 1
# What a picture of a gallery may take, in bytes and in pixels.
LEAN, WIDEST = 150_000, 1600


@dataclass(frozen=True)
class Written:
    """A page that is on disk: its `files` by format, its caption, its table, and its sources."""

    page: Page
    files: dict[str, Path]
    caption: str
    table: Table | None
    identity: dict[str, str]
    seconds: float = 0.0
    kept: bool = False

    @property
    def paths(self) -> list[Path]:
        """Every file of the page, in the order of formats as they were asked for."""
        return list(self.files.values())


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write files over whatever is there, each whole or not at all."""
    for path, data in files.items():
        write_whole(path, data)


def write_page(
    page: Page, made: Made, folder: Path, formats: Sequence[str], stem: str, identity: dict[str, str],
    put: Callable[[Mapping[Path, bytes]], object] = write_all,
) -> Written:  # fmt: skip
    """Write `made` as `stem`.png, … in each of `formats` and no other, by `put`.

    A page without a table has none to write as Markdown or LaTeX: those are left out. Raises `DeconvvizValueError` if
    nothing else was asked for.
    """
    kinds = _possible(formats, made.table is not None)
    if not kinds:
        allowed = ", ".join(_possible(FORMATS, False))
        raise DeconvvizValueError(f"{page.heading} has no table to write as {', '.join(formats)}; allowed: {allowed}")
    metadata = {
        "Title": f"{page.heading}. {page.title}",
        "Software": f"deconvviz {identity.get('deconvviz', '')}".strip(),
        "Description": made.caption,
    }
    files = {kind: folder / f"{stem}.{kind}" for kind in kinds}
    content = {}
    for kind, path in files.items():
        if kind in FIGURES:
            buffer = io.BytesIO()
            write(made.figure, buffer, kind, metadata)
            content[path] = buffer.getvalue()
        else:
            content[path] = _in_words(page, made, kind).encode()
    put(content)
    return Written(page, files, made.caption, made.table, identity)


def _possible(formats: Sequence[str], table: bool) -> list[str]:
    return [kind for kind in dict.fromkeys(formats) if table or kind not in TABLES]


def _in_words(page: Page, made: Made, kind: str) -> str:
    if made.table is None or kind == TEXT:
        caption = f"{page.heading}. {made.caption}\n"
        return caption if made.table is None else f"{made.table.text()}\n{caption}"
    return made.table.markdown() if kind == "md" else made.table.latex()


def keep_numbers(written: Written, made: Made, folder: Path) -> None:
    """Write the results behind a page and what it was made of, for `kept_page` and for reading."""
    inside = folder / NUMBERS
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
    asked = _possible(formats, facts["table"] is not None)
    whole = set(asked) <= set(files) and all(path.is_file() for path in files.values())
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
