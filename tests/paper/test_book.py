"""Making a paper: what is written, kept, made again, left out, and what a failure costs."""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deconvviz.analyses.filters.result import Filters
from deconvviz.errors import DeconvvizValueError
from deconvviz.paper import book, filters
from deconvviz.paper.book import Paper, make_page, make_paper
from deconvviz.paper.pages import BY_NAME, PAGES, demo_parts, missing, numbers, parts_of
from deconvviz.paper.sources import Made, Sources
from deconvviz.paper.writing import FORMATS, lean
from deconvviz.results.table import Table

from .conftest import colours

QUICK = ("figure1", "figure3", "figure6")


def make(sources: Sources, out: Path, **options: object) -> Paper:
    return make_paper(sources, out, ("svg", "md"), QUICK, **options)  # type: ignore[arg-type]


def test_the_pages_are_those_of_the_paper() -> None:
    assert numbers("figure") == [str(n) for n in range(1, 10)] and numbers("table") == ["1", "4", "7"]
    assert len(BY_NAME) == len(PAGES)
    assert all(callable(importlib.import_module(f"deconvviz.paper.{page.module}").make) for page in PAGES)


def test_what_is_missing_says_where_it_is() -> None:
    (run,) = missing(BY_NAME["figure4"], {"data"})
    assert run.startswith("figure 4 needs --run: ") and "deconvviz train" in run
    (data,) = missing(BY_NAME["table7"], set())
    assert data.startswith("table 7 needs --data: ") and "https://doi.org/10.22002/D1.20086" in data
    assert missing(BY_NAME["figure4"], {"run"}) == []
    assert missing(BY_NAME["figure7"], {"image"}) == missing(BY_NAME["figure7"], {"data"}) == []
    (parts,) = missing(BY_NAME["figure8"], {"data"})
    assert parts.startswith("figure 8 needs --parts: a JSON file") and "Caltech-101" in parts
    (both,) = missing(BY_NAME["table1"], set())  # one line, though it needs two things
    assert both.startswith("table 1 needs --data")
    with pytest.raises(DeconvvizValueError, match="table 7 needs --data"):
        book.make(BY_NAME["table7"], Sources(colours))


@pytest.mark.parametrize("name", ["figure1", "figure3", "figure5", "figure6", "figure7"])
def test_a_page(name: str, sources: Sources, tmp_path: Path) -> None:
    written = make_page(BY_NAME[name], sources, tmp_path, stem=f"x-{name}")
    starts = {
        ".png": b"\x89PNG",
        ".pdf": b"%PDF",
        ".svg": b"<?xml",
        ".txt": b"",
        ".md": b"|",
        ".tex": b"\\begin{table}",
    }
    assert sorted(written.paths) == sorted(tmp_path.iterdir())
    assert set(written.files) == set(FORMATS if written.table is not None else FORMATS[:4])
    assert all(path.read_bytes().startswith(starts[path.suffix]) for path in written.paths)
    text = (tmp_path / f"x-{name}.txt").read_text(encoding="utf-8")
    assert f"Figure {BY_NAME[name].number}. {written.caption}" in text and "Colours" in written.caption


def test_what_was_not_asked_for_is_not_written(sources: Sources, tmp_path: Path) -> None:
    for formats in (("svg",), ("txt",), ("md", "txt")):
        written = make_page(BY_NAME["figure3"], sources, tmp_path, formats, "-".join(formats))
        assert list(written.files) == list(formats)
    assert {p.name for p in tmp_path.iterdir()} == {"svg.svg", "txt.txt", "md-txt.md", "md-txt.txt"}
    with pytest.raises(DeconvvizValueError, match="Figure 1 has no table to write as tex; allowed: png, pdf, svg, txt"):
        make_page(BY_NAME["figure1"], sources, tmp_path, ("tex",))


def test_a_paper_is_written_with_its_numbers(sources: Sources, tmp_path: Path) -> None:
    paper = make(sources, tmp_path / "new" / "paper")
    assert [w.page.name for w in paper.written] == list(QUICK) and not paper.failed and not paper.skipped
    out = tmp_path / "new" / "paper"
    assert {"index.html", "claims.txt", "numbers", "figure1.svg", "figure6.md"} <= {p.name for p in out.iterdir()}
    assert Filters.load(out / "numbers" / "figure6.npz").model["name"] == "Colours"
    assert not [p for p in out.rglob("*") if p.name.startswith(".")]


def test_what_exists_is_kept(sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(sources, tmp_path)
    calls: list[str] = []
    real = book.make

    def counted(page: object, given: Sources) -> Made:
        calls.append(page.name)  # type: ignore[attr-defined]
        return real(page, given)  # type: ignore[arg-type]

    monkeypatch.setattr(book, "make", counted)
    again = make(sources, tmp_path)
    assert calls == [] and all(w.kept for w in again.written)
    assert [w.caption for w in again.written] == [w.caption for w in first.written]
    assert again.written[2].table == first.written[2].table
    (tmp_path / "figure3.svg").unlink()
    (tmp_path / "numbers" / "figure6.npz").unlink()
    make(sources, tmp_path)
    assert calls == ["figure3", "figure6"]
    make(sources, tmp_path, fresh=True)
    assert calls[2:] == list(QUICK)
    # Another format, or other weights: made again.
    make_paper(sources, tmp_path, ("svg", "pdf"), ("figure3",))
    other = Sources(colours, data=sources.data)
    with torch.no_grad():
        other.net.module.fc3.bias.add_(1)  # type: ignore[union-attr, operator]
    make_paper(other, tmp_path, ("svg", "pdf"), ("figure3",))
    assert calls[5:] == ["figure3", "figure3"]


def fail(error: BaseException) -> Callable[[Sources, object], Made]:
    def make(sources: Sources, page: object) -> Made:
        raise error

    return make


def test_the_parts_of_the_repository_are_for_its_pictures_only(sources: Sources, folder: Path, tmp_path: Path) -> None:
    done = make_paper(sources, tmp_path, ("png",), ("figure8", "table1"))
    assert not done.failed and [page.name for page in done.skipped] == ["figure8", "table1"]
    demo = demo_parts()
    assert demo is not None and parts_of(None, folder) is None and parts_of(demo, folder) == demo
    for image in json.loads(demo.read_text())["images"]:
        (tmp_path / image["file"]).parent.mkdir(exist_ok=True)
        (tmp_path / image["file"]).touch()
    assert parts_of(None, tmp_path) == demo


def test_a_failure_loses_no_other(sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "make", fail(RuntimeError("it <broke>\nbadly")))
    paper = make_paper(sources, tmp_path, ("svg",), ("figure6", "figure3", "figure2", "figure4"))
    assert {page.name: why for page, why in paper.failed.items() if page.name == "figure6"} == {
        "figure6": "it <broke> badly"
    }
    assert "figure3" in [w.page.name for w in paper.written]
    assert [page.name for page in paper.skipped] == ["figure4"]
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "it &lt;broke&gt; badly" in index and "figure 4 needs --run" in index and "figure3.svg" in index
    assert not (tmp_path / "figure6.svg").exists()


def test_an_interrupted_paper_has_an_index(sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "make", fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        make(sources, tmp_path)
    assert "figure3.svg" in (tmp_path / "index.html").read_text(encoding="utf-8")
    monkeypatch.undo()
    assert [w.kept for w in make(sources, tmp_path).written] == [True, True, False]


class Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.targets += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_index_is_escaped_offline_and_whole(folder: Path, tmp_path: Path) -> None:
    nasty = '<script>"&'
    net = colours((nasty, "green", "red"))
    net.card = type(net.card)(**{**net.card.__dict__, "name": nasty})
    make_paper(Sources(lambda: net, data=folder), tmp_path, ("svg",), ("figure3", "figure7"))
    page = Links((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags and page.tags.count("img") == 2
    own = [t for t in page.targets if not t.startswith("#")]
    assert len(own) >= 4 and all((tmp_path / target).is_file() for target in own)
    assert {t[1:] for t in page.targets if t.startswith("#")} >= {"figure3", "figure7"}


def test_a_gallery_is_lean(sources: Sources, tmp_path: Path) -> None:
    gallery = tmp_path / "docs" / "gallery"
    make(sources, tmp_path / "paper", gallery=gallery, command="deconvviz paper --data photos")
    names = {p.name for p in gallery.iterdir()}
    assert names == {"README.md", "claims.md", *(f"{name}.webp" for name in QUICK)}
    text = (gallery / "README.md").read_text(encoding="utf-8")
    assert all(f"({name}.webp)" in text for name in QUICK) and "deconvviz paper --data photos" in text
    assert str(tmp_path) not in text
    for name in QUICK:
        with Image.open(gallery / f"{name}.webp") as picture:
            assert picture.format == "WEBP" and picture.width <= 1600


def test_lean_keeps_to_its_limit() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, "png")
    data = lean(buffer.getvalue(), most=20_000)
    with Image.open(io.BytesIO(data)) as picture:
        assert len(data) <= 20_000 and picture.width / picture.height == pytest.approx(1.5, rel=0.02)
    flat = Image.new("RGB", (2000, 100), "white")
    buffer = io.BytesIO()
    flat.save(buffer, "png")
    with Image.open(io.BytesIO(lean(buffer.getvalue()))) as picture:
        assert picture.size == (1600, 80)


def test_a_table_page(sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deconvviz.paper import probes
    from deconvviz.results.table_figure import draw

    table = Table(("layer", "%"), [("1", "44.8"), ("5 <b>", "86.2")], "By hand")
    monkeypatch.setattr(probes, "make", lambda sources, page: Made(draw(table), "Accuracy.", {}, table))
    make_paper(sources, tmp_path, ("svg", "md"), ("table7",), gallery=tmp_path / "g")
    assert (tmp_path / "table7.md").read_text(encoding="utf-8") == table.markdown()
    assert "5 &lt;b&gt;" in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "| 5 \\<b\\> | 86.2 |" in (tmp_path / "g" / "README.md").read_text(encoding="utf-8")
    facts = json.loads((tmp_path / "numbers" / "table7.json").read_text(encoding="utf-8"))
    assert Table(**facts["table"]) == table


def test_photographs_of_caltech_are_credited(sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_paper(sources, tmp_path / "a", ("svg",), ("figure3",), gallery=tmp_path / "b")
    monkeypatch.setattr(Sources, "caltech", True)
    make_paper(Sources(colours, data=sources.data), tmp_path / "c", ("svg",), ("figure3",), gallery=tmp_path / "d")
    said = [
        (tmp_path / page).read_text(encoding="utf-8").count("CC BY 4.0")
        for page in ("a/index.html", "b/README.md", "c/index.html", "d/README.md")
    ]
    assert said == [0, 0, 1, 1]
