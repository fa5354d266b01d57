"""The build: what is kept, what is refused, and that interruptions leave no trace."""

from __future__ import annotations

import html
import os
import re
import shutil
import signal
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from deconvviz.atlas import build
from deconvviz.atlas import site as folders
from deconvviz.atlas.pages import POLICY
from deconvviz.atlas.unfinished import NAME
from deconvviz.errors import AtlasError, StoreError
from deconvviz.files import write_whole
from deconvviz.scanning.store import Store
from deconvviz.scanning.writer import Writer

SMALL = {"pictures": 12, "maps": (4, 5, 5), "top": 4}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="session")
def store(made_up: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A smaller store than the one of the pages: here many sites are built."""
    with Store.open(made_up.write_store(tmp_path_factory.mktemp("small") / "atlas.db", **SMALL)) as opened:
        yield opened


@pytest.fixture(scope="session")
def built(store: Store, made_up: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its site, from an uninterrupted build."""
    out = tmp_path_factory.mktemp("built") / "site"
    build(store, out, made_up.Source())
    return out


@pytest.fixture(scope="session")
def whole(built: Path) -> dict[str, bytes]:
    """What an uninterrupted build writes."""
    return tree(built)


def test_the_same_again_changes_nothing_and_computes_nothing(
    store: Store, built: Path, made_up: SimpleNamespace
) -> None:
    before = {p: p.stat().st_mtime_ns for p in built.rglob("*") if p.is_file()}
    source = made_up.Source()
    again = build(store, built, source)
    assert {p: p.stat().st_mtime_ns for p in built.rglob("*") if p.is_file()} == before
    assert source.asked == []
    assert again.files == len(before) and again.bytes == sum(p.stat().st_size for p in before)
    assert again.index == built / "index.html" and again.units == 14


def test_every_unit_and_picture_has_its_files(store: Store, whole: dict[str, bytes], made_up: SimpleNamespace) -> None:
    for layer in store.layers():
        for unit in range(layer.maps):
            assert f"layers/{layer.id + 1}/{unit}.html" in whole
            sheets = [n for n in whole if re.fullmatch(rf"images/units/{layer.id + 1}/{unit}-[0-9a-f]{{10}}.webp", n)]
            assert len(sheets) == (0 if (layer.id, unit) in made_up.dead else 1)
    shown = {place.picture for x in store.layers() for t in store.tops(x) for place in t if place.activation > 0}
    assert {n for n in whole if n.startswith("pictures/")} == {f"pictures/{n}.html" for n in shown}
    assert all(re.fullmatch(r"[a-z0-9./-]+", name) for name in whole), "no name of the user's in a file name"
    assert NAME not in whole


@pytest.mark.parametrize("after", [0, 1, 20, 47])
def test_an_interrupted_build_goes_on_where_it_was(
    store: Store, whole: dict[str, bytes], made_up: SimpleNamespace, tmp_path: Path, after: int
) -> None:
    first = made_up.Source(fail_after=after)
    with pytest.raises(KeyboardInterrupt):
        build(store, tmp_path / "site", first)
    second = made_up.Source()
    build(store, tmp_path / "site", second)
    assert tree(tmp_path / "site") == whole
    assert not set(first.asked) & set(second.asked), "what was computed is kept"


def test_killed_at_any_write(store: Store, whole: dict[str, bytes], made_up: SimpleNamespace, tmp_path: Path) -> None:
    out = tmp_path / "site"
    for writes in (1, 4, 9, 14, 30):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads of PyTorch that do nothing here
            child = os.fork()
        if child == 0:
            _die_after(writes, store.path, out, made_up)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    build(store, out, made_up.Source())
    assert tree(out) == whole


def _die_after(writes: int, path: Path, out: Path, made_up: SimpleNamespace) -> None:
    left = [writes]

    def write(path: Path, data: bytes, sync: bool = True) -> None:
        left[0] -= 1
        if left[0] < 0:
            (path.parent / f".{path.name}.x.part").write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write_whole(path, data, sync)

    try:
        folders.write_whole = write
        with Store.open(path) as opened:
            build(opened, out, made_up.Source())
    finally:
        os._exit(0)


def test_a_full_disk_is_one_line_and_loses_nothing(
    store: Store, whole: dict[str, bytes], made_up: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = [0]

    def full(path: Path, data: bytes, sync: bool = True) -> None:
        count[0] += 1
        if count[0] > 12:
            raise OSError(28, "No space left on device")
        write_whole(path, data, sync)

    monkeypatch.setattr(folders, "write_whole", full)
    with pytest.raises(AtlasError, match="No space left on device; run again to go on"):
        build(store, tmp_path / "site", made_up.Source())
    monkeypatch.undo()
    build(store, tmp_path / "site", made_up.Source())
    assert tree(tmp_path / "site") == whole


def test_a_spoilt_file_of_unfinished_panels_is_made_again(
    store: Store, whole: dict[str, bytes], made_up: SimpleNamespace, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(store, tmp_path / "site", made_up.Source(fail_after=10))
    (tmp_path / "site" / NAME).write_bytes(b"not a database, not at all" * 99)
    build(store, tmp_path / "site", made_up.Source())
    assert tree(tmp_path / "site") == whole


def test_more_pictures_update_the_site_to_what_a_new_one_would_be(
    whole: dict[str, bytes], built: Path, made_up: SimpleNamespace, tmp_path: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for name, data in whole.items():
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_bytes(data)
    grown = made_up.write_store(tmp_path / "grown.db", **{**SMALL, "pictures": 15})
    build(grown, old, made_up.Source())
    build(grown, new, made_up.Source())
    assert tree(old) == tree(new) != whole


def test_another_network_in_the_folder_is_refused(
    store: Store, built: Path, whole: dict[str, bytes], made_up: SimpleNamespace, tmp_path: Path
) -> None:
    other = made_up.write_store(tmp_path / "other.db", **SMALL, weights="1" * 64)
    with pytest.raises(AtlasError, match="holds an atlas of another network"):
        build(other, built, made_up.Source())
    assert tree(built) == whole


def test_a_folder_with_something_else_is_refused(store: Store, made_up: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(AtlasError, match="is not empty and holds no atlas"):
        build(store, tmp_path, made_up.Source())
    assert tree(tmp_path) == {"thesis.txt": b"years of work"}
    (tmp_path / "atlas.json").write_text("[]")
    with pytest.raises(AtlasError, match="is not what an atlas writes"):
        build(store, tmp_path, made_up.Source())
    with pytest.raises(AtlasError, match="cannot make the folder"):
        build(store, tmp_path / "thesis.txt" / "site", made_up.Source())


def test_two_builds_in_one_folder(store: Store, made_up: SimpleNamespace, tmp_path: Path) -> None:
    class Nosy(made_up.Source):  # type: ignore[misc, name-defined]
        def panels(self, layer: object, wanted: object) -> object:
            with pytest.raises(AtlasError, match="another build is writing"):
                build(store.path, tmp_path / "site", made_up.Source())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(store, tmp_path / "site", Nosy())


def test_an_empty_store_is_an_error(made_up: SimpleNamespace, tmp_path: Path) -> None:
    with Writer.open(tmp_path / "empty.db") as store:
        store.create({"model": {"name": "a", "sha256": "0"}}, made_up.layers)
    with pytest.raises(StoreError, match="no picture is scanned yet"):
        build(tmp_path / "empty.db", tmp_path / "site", made_up.Source())
    assert not (tmp_path / "site").exists()


class Elements(HTMLParser):
    """Collects the elements of a page as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.attributes: set[str] = set()
        self.tags: set[str] = set()
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self._script = tag == "script"
        if self._script:
            self.scripts.append(str(dict(attrs).get("src")))

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts.append(data)
            self._script = False


def test_names_and_labels_never_become_elements(whole: dict[str, bytes]) -> None:
    scripts = set()
    for name, data in whole.items():
        if name.endswith(".html"):
            page = Elements()
            page.feed(data.decode("utf-8"))
            assert not [a for a in page.attributes if a.startswith("on")]
            assert not page.tags & {"iframe", "object", "embed", "base", "style", "form"}
            assert "style" not in page.attributes, "the policy lets no style in a page in"
            assert data.index(b"Content-Security-Policy") < data.index(b"<title>") and POLICY.encode() in unescaped(
                data
            )
            scripts |= {s.replace("../", "") for s in page.scripts if s.strip()}
    assert scripts == {"assets/theme.js", "assets/atlas.js"}, "ours, nothing else"
    index = whole["index.js"].decode("ascii")
    assert index.count("\n") == 1 and not set(index) & set("<>&") and "alert(1)" in index


def unescaped(data: bytes) -> bytes:
    return html.unescape(data.decode()).encode()


def test_pictures_that_the_power_cut_short_are_made_again(
    store: Store, built: Path, whole: dict[str, bytes], made_up: SimpleNamespace, tmp_path: Path
) -> None:
    out = tmp_path / "site"
    shutil.copytree(built, out)
    first, second, *_ = sorted(out.rglob("*.webp"))
    first.write_bytes(b"")
    second.write_bytes(second.read_bytes()[:50])
    build(store, out, made_up.Source())
    assert tree(out) == whole


def test_progress_is_told(store: Store, made_up: SimpleNamespace, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    build(store, tmp_path / "site", made_up.Source(), report=lambda *step: told.append(step))
    for what in ("conv1", "conv2", "head", "pictures", "pages"):
        steps = [(done, total) for name, done, total in told if name == what]
        assert steps[-1][0] == steps[-1][1] == steps[0][1] and [d for d, _ in steps] == sorted(d for d, _ in steps)
