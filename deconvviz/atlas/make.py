"""From a store and its panels to the site. Knows no network: what must be computed comes from a `Source`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from deconvviz.atlas import contents as reading
from deconvviz.atlas.plates import PlateMaker, Report, Source
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
    if not isinstance(store, Store):
        with Store.open(store) as opened:
            return build(opened, out, source, report, progress)
    # One state of the store, also for the source that reads it, whatever a scan commits meanwhile.
    with store.snapshot(), heard(progress, "") as counted:

        def tell(what: str, done: int, total: int) -> None:
            report(what, done, total)
            if counted is not None:
                counted(done, total)

        contents = reading.read(store)
        folder = Folder(Path(out))
        network = contents.facts["model"]
        folder.claim({"model": network["name"], "weights": network["sha256"]})  # not to be mixed with another's
        unfinished = Unfinished(folder.path)
        try:
            maker = PlateMaker(folder, unfinished, contents, source, tell)
            plates = [maker.plates(layer) for layer in contents.layers]
            write_pages(folder, contents, plates, maker.photographs(), source, tell)
        except BaseException:
            unfinished.close()
            raise
    unfinished.remove()
    folder.sweep()
    sizes = [path.stat().st_size for path in folder.written]
    return Site(folder.path / "index.html", contents.units, len(contents.pictures), len(sizes), sum(sizes))
