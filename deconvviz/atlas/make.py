"""From a store and its panels to the site. Knows no network: what must be computed comes from a `Source`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deconvviz.atlas import contents as reading
from deconvviz.atlas.compare import compared
from deconvviz.atlas.linked import identity
from deconvviz.atlas.pairs import PARTS, write_comparison
from deconvviz.atlas.plates import PlateMaker, Plates, Report, Source
from deconvviz.atlas.site import Folder
from deconvviz.atlas.unfinished import Unfinished
from deconvviz.atlas.writer import write_pages
from deconvviz.progress import Progress, heard
from deconvviz.scanning.store import Store


@dataclass(frozen=True)
class Site:
    """A site that is complete: its first page, and how many units, pictures, files and bytes it has."""

    index: Path
    units: int
    pictures: int
    files: int
    bytes: int


def build(
    store: Store | str | os.PathLike[str],
    out: str | os.PathLike[str],
    source: Source,
    report: Report = lambda what, done, total: None,
    progress: Progress = None,
) -> Site:
    """Write the site of a scan into the folder `out` and return its measures.

    What an earlier, interrupted or older build left in `out` and still holds is kept; the site equals one that was
    built without interruption, to the byte. `report(what, done, total)` is called as the work goes on,
    one thing after the other; `progress` is True for a bar, or called with what is done of a thing and in all.

    Raises:
        AtlasError: `out` holds something else or another network's atlas, or cannot be written.
        StoreError: not a store, or nothing is scanned.
    """
    with _opened(store) as opened, opened.snapshot(), heard(progress, "") as counted:
        return _build(opened, Path(out), source, _telling(report, counted)).site


def build_comparison(
    first: Store | str | os.PathLike[str],
    second: Store | str | os.PathLike[str],
    out: str | os.PathLike[str],
    sources: tuple[Source, Source],
    report: Report = lambda what, done, total: None,
    progress: Progress = None,
) -> Site:
    """Write a site that shows two scanned networks of one shape unit by unit, and return its measures.

    The atlases of the two stand in the folders `first` and `second` of `out`, and the pages of the comparison lead into
    them. `sources` are those of the two stores; all else is as for `build`.

    Raises:
        AtlasError: as `build`, or the two have no layer in common.
        StoreError: as `build`.
    """
    with _opened(first) as one, _opened(second) as other, heard(progress, "") as counted:
        tell = _telling(report, counted)
        with one.snapshot(), other.snapshot():
            facts = [store.facts["model"] for store in (one, other)]
            folder = Folder(Path(out))
            folder.claim({
                "model": " against ".join(str(f["name"]) for f in facts),
                "weights": " against ".join(str(f["sha256"]) for f in facts),
            })  # fmt: skip
            built = [
                _build(store, folder.path / name, source, tell)
                for store, name, source in zip((one, other), PARTS, sources, strict=True)
            ]
            both = compared(built[0].contents, built[1].contents, (built[0].plates, built[1].plates))
            write_comparison(folder, both, tell)
    folder.sweep()
    own = [path.stat().st_size for path in folder.written]
    sites = [x.site for x in built]
    return Site(
        folder.path / "index.html", sum(x.units for x in sites), sum(x.pictures for x in sites),
        len(own) + sum(x.files for x in sites), sum(own) + sum(x.bytes for x in sites),
    )  # fmt: skip


@dataclass(frozen=True)
class _Built:
    site: Site
    contents: reading.Contents
    plates: Sequence[Plates]


def _build(store: Store, out: Path, source: Source, tell: Report) -> _Built:
    """The site of a store of which one state is seen, also by the source that reads it."""
    contents = reading.read(store)
    folder = Folder(out)
    folder.claim(identity(store))  # not to be mixed with another's
    unfinished = Unfinished(folder.path)
    try:
        maker = PlateMaker(folder, unfinished, contents, source, tell)
        plates = [maker.plates(layer) for layer in contents.layers]
        write_pages(folder, contents, plates, maker.photographs(), maker.effects(), source, tell)
    except BaseException:
        unfinished.close()
        raise
    unfinished.remove()
    folder.sweep()
    sizes = [path.stat().st_size for path in folder.written]
    site = Site(folder.path / "index.html", contents.units, len(contents.pictures), len(sizes), sum(sizes))
    return _Built(site, contents, plates)


@contextlib.contextmanager
def _opened(store: Store | str | os.PathLike[str]) -> Iterator[Store]:
    """An open store as it is, another one for the while."""
    if isinstance(store, Store):
        yield store
    else:
        with Store.open(store) as opened:
            yield opened


def _telling(report: Report, counted: Callable[[int, int], object] | None) -> Report:
    def tell(what: str, done: int, total: int) -> None:
        report(what, done, total)
        if counted is not None:
            counted(done, total)

    return tell
