"""Making pages: one, or all that the given sources allow. What exists is kept, and one failure loses no other."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from deconvviz.errors import DeconvvizValueError, in_one_line
from deconvviz.files import write_whole
from deconvviz.paper import claims as claims_of
from deconvviz.paper.claims import Claim
from deconvviz.paper.index import GALLERY, gallery_page, index_page
from deconvviz.paper.pages import BY_NAME, CREDIT, PAGES, Page, missing
from deconvviz.paper.sources import Made, Sources
from deconvviz.paper.writing import FORMATS, NUMBERS, Written, keep_numbers, kept_page, lean, write_all, write_page


@dataclass(frozen=True)
class Paper:
    """What `make_paper` did: pages on disk, pages that failed or lack something (with why), and the claims."""

    written: list[Written] = field(default_factory=list)
    failed: dict[Page, str] = field(default_factory=dict)
    skipped: dict[Page, str] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    index: Path | None = None


def make(page: Page, sources: Sources) -> Made:
    """Return one page, computed and drawn. Raises `DeconvvizValueError` with where to get what it needs."""
    lacking = missing(page, sources.given)
    if lacking:
        raise DeconvvizValueError("; ".join(lacking))
    module = importlib.import_module(f"deconvviz.paper.{page.module}")
    return cast(Made, module.make(sources, page))


def make_page(
    page: Page,
    sources: Sources,
    folder: Path,
    formats: Sequence[str] = FORMATS,
    stem: str | None = None,
    put: Callable[[Mapping[Path, bytes]], object] = write_all,
) -> Written:
    """Make one page and write it into `folder`, by `put`, under the name `stem` (default: the page's)."""
    return write_page(page, make(page, sources), folder, formats, stem or page.name, sources.identity(page.uses), put)


def outputs(
    out: Path, formats: Sequence[str] = FORMATS, only: Sequence[str] = (), gallery: Path | None = None
) -> Iterator[Path]:
    """Every file that `make_paper` may write, but for the numbers behind the figures."""
    names = list(only) or [page.name for page in PAGES]
    yield from (out / "index.html", out / "claims.txt")
    yield from (out / f"{name}.{kind}" for name in names for kind in formats)
    if gallery is not None:
        yield from (gallery / "README.md", gallery / "claims.md")
        yield from (gallery / f"{name}.webp" for name in names)


def _check_others(out: Path, formats: Sequence[str], only: Sequence[str], gallery: Path | None) -> None:
    """Raise `DeconvvizValueError` for files that a paper would replace in a folder that holds none of ours."""
    ours = {out: (out / NUMBERS).is_dir()}
    if gallery is not None:
        page = gallery / "README.md"
        ours[gallery] = page.is_file() and page.read_bytes().startswith(GALLERY.encode())
    for path in outputs(out, formats, only, gallery):
        if not ours[path.parent] and os.path.lexists(path):
            raise DeconvvizValueError(
                f"{path} exists, in a folder that deconvviz paper has not made; give overwrite to replace it, or "
                "another folder"
            )


def make_paper(
    sources: Sources,
    out: Path,
    formats: Sequence[str] = FORMATS,
    only: Sequence[str] = (),
    fresh: bool = False,
    gallery: Path | None = None,
    command: str = "deconvviz paper",
    report: Callable[[Page, Written | str], None] | None = None,
    overwrite: bool = False,
) -> Paper:
    """Make every page that `sources` allow (or those of `only`, by name) in the folder `out`, with `index.html`,
    `claims.txt` and the numbers behind the figures.

    Pages that are there and were made of the same sources are kept, unless `fresh`. A page that fails is listed with
    its error and loses no other. `gallery` is a second folder for lean copies: one WebP a figure, and Markdown.
    `report` is called after each page with what was written, or why it was not. What an earlier paper left in its
    folders is replaced; files of others are a `DeconvvizValueError`, unless `overwrite`.
    """
    chosen = [BY_NAME[name] for name in only] or list(PAGES)
    kinds = tuple(dict.fromkeys([*formats, *(["png"] if gallery is not None else [])]))
    if not overwrite:
        _check_others(out, kinds, only, gallery)
    (out / NUMBERS).mkdir(parents=True, exist_ok=True)  # from here on the folder is a paper's
    paper = Paper(index=out / "index.html")
    for page in chosen:
        lacking = missing(page, sources.given)
        done: Written | str
        if lacking:
            done = paper.skipped[page] = "; ".join(lacking)
        else:
            done = _try(page, sources, out, kinds, fresh)
            if isinstance(done, str):
                paper.failed[page] = done
            else:
                paper.written.append(done)
        _finish(paper, sources, out)  # after each page, so that an interrupted run has an index too
        if report is not None:
            report(page, done)
    if gallery is not None:
        _gallery(paper, sources, gallery, command)
    return paper


def _try(page: Page, sources: Sources, out: Path, kinds: Sequence[str], fresh: bool) -> Written | str:
    identity = sources.identity(page.uses)
    kept = None if fresh else kept_page(page, out, kinds, identity)
    if kept is not None:
        return kept
    start = time.perf_counter()
    try:
        made = make(page, sources)
        written = write_page(page, made, out, kinds, page.name, identity)
        written = replace(written, seconds=time.perf_counter() - start)
        keep_numbers(written, made, out)
    except Exception as error:
        # Whatever went wrong with one figure must not lose the others; it is listed, and the command fails at the end.
        return in_one_line(error)
    return written


def _finish(paper: Paper, sources: Sources, out: Path) -> None:
    """Write claims and index of what there is so far."""
    model = sources.net.facts()
    paper.claims[:] = claims_of.check(out / NUMBERS)
    write_whole(out / "claims.txt", claims_of.as_text(paper.claims, model["name"]).encode())
    credit = CREDIT if sources.caltech else ""
    absent = {**paper.failed, **paper.skipped}
    write_whole(out / "index.html", index_page(paper.written, absent, paper.claims, model, credit).encode())


def _gallery(paper: Paper, sources: Sources, folder: Path, command: str) -> None:
    """Lean copies: a WebP of each figure and the Markdown pages."""
    folder.mkdir(parents=True, exist_ok=True)
    model = sources.net.facts()
    drawn = [written for written in paper.written if written.page.kind != "table"]
    pictures = {written.page.name: folder / f"{written.page.name}.webp" for written in drawn}
    credit = CREDIT if sources.caltech else ""
    # First: by it the folder is known as a gallery.
    write_whole(folder / "README.md", gallery_page(paper.written, pictures, command, model, credit).encode())
    for written in drawn:
        write_whole(pictures[written.page.name], lean(written.files["png"].read_bytes()))
    write_whole(folder / "claims.md", claims_of.as_markdown(paper.claims, model["name"]).encode())
