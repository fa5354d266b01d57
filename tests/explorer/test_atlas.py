"""The atlas beside the store: its pages under the token, bound as an atlas is, and nothing else of the disk."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import deconvviz
from deconvviz import explore
from deconvviz.atlas import build
from deconvviz.atlas.serve import HEADERS

from .conftest import Page, picture, small


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, the store of their scan, `s.db`, and its site, `site`."""
    folder = tmp_path_factory.mktemp("linked")
    (folder / "photos").mkdir()
    for seed in range(4):
        picture(seed).save(folder / "photos" / f"{seed}.png")
    net = small()
    with deconvviz.scan(net, folder / "photos", ["conv1", "conv2"], top=3, store=folder / "s.db", workers=0) as store:
        build(store, folder / "site", deconvviz.PanelSource(net, store))
    return folder


@pytest.fixture(scope="module")
def linked(place: Path) -> Iterator[Page]:
    """That network, served with store and site."""
    net = small()
    with explore(net, picture(0), place / "s.db", atlas=place / "site") as explorer:
        page = Page(explorer, net, place)
        yield page
        page.http.close()


def read(page: Page, path: str, method: str = "GET", host: str | None = None) -> bytes:
    """The head and the body of an answer to a path as it is (clients tidy paths), without a token in a header."""
    name, _, port = page.base.removeprefix("http://").partition(":")
    with socket.create_connection((name, int(port)), timeout=30) as link:
        link.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: {host or f'{name}:{port}'}\r\nConnection: close\r\n\r\n".encode()
        )
        return b"".join(iter(lambda: link.recv(65536), b""))


def status(answer: bytes) -> int:
    return int(answer.split()[1])


def test_a_unit_is_linked_to_its_page_and_its_pictures_to_theirs(linked: Page, place: Path) -> None:
    assert linked.json("model")["store"] == {"pictures": 4, "layers": ["conv1", "conv2"], "atlas": True}
    with deconvviz.Store.open(place / "s.db") as store:
        for number, layer in enumerate(store.layers(), 1):
            unit = int(store.units(layer).maximum.argmax())
            found = linked.json("store/unit", layer=layer.title, unit=unit)
            assert found["link"] == f"layers/{number}/{unit}.html"
            for one, at in zip(found["strongest"], store.top(layer, unit), strict=True):
                name, _, mark = one["link"].partition("#")
                assert name == f"pictures/{at.picture}.html"
                page = httpx.get(f"{linked.base}/atlas/{linked.token}/{name}").text
                assert f'id="{mark}"' in page and f"{at.picture}.png" in page
            page = httpx.get(f"{linked.base}/atlas/{linked.token}/{found['link']}").text
            assert f"<h1>Unit {unit}</h1>" in page and f"{layer.title}, unit {unit}" in page


@pytest.mark.parametrize(
    "name", ["", "index.html", "layers/2/5.html", "assets/atlas.js", "assets/icon.svg", "index.js"]
)
def test_a_page_of_it_is_the_file_bound_as_an_atlas(linked: Page, place: Path, name: str) -> None:
    answer = httpx.get(f"{linked.base}/atlas/{linked.token}/{name}")
    assert answer.status_code == 200 and answer.content == (place / "site" / (name or "index.html")).read_bytes()
    assert all(answer.headers[name] == value for name, value in HEADERS.items() if name != "Cache-Control")
    assert answer.headers["cache-control"] == "no-store"
    kind = {"js": "text/javascript", "svg": "image/svg+xml"}.get(name.rpartition(".")[2], "text/html")
    assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
    head = httpx.head(f"{linked.base}/atlas/{linked.token}/{name}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize("token", ["", "wrong", "wrong/{token}", "..", "%2e%2e/{token}", "{token}x"])
@pytest.mark.parametrize("name", ["index.html", "", "layers/1/0.html"])
def test_nothing_without_the_token(linked: Page, token: str, name: str) -> None:
    answer = read(linked, f"/atlas/{token.format(token=linked.token)}/{name}?token={linked.token}")
    assert status(answer) == 403 and b"<h1" not in answer and linked.token.encode() not in answer


def test_the_token_in_a_path_opens_nothing_but_the_atlas(linked: Page) -> None:
    for path in ("api/model", "api/store/unit", "page/explore.js", ""):
        assert status(read(linked, f"/atlas/{linked.token}/../../{path}")) in (403, 404)
        assert status(read(linked, f"/{path}/{linked.token}/")) in (403, 404)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "10.0.0.1"])
def test_another_host_is_refused(linked: Page, host: str) -> None:
    assert status(read(linked, f"/atlas/{linked.token}/index.html", host=host)) == 403


@pytest.mark.parametrize(
    "name",
    ["nowhere.html", "layers", "layers/", "../s.db", "%2e%2e/secret.html", "..%2fsecret.html", "/etc/passwd",
     "%2fetc%2fpasswd", ".hidden.html", "layers/.part.html", "out.html", "away/secret.html", "a%00b.html",
     "..%5csecret.html", "index.html/", "notes.txt", "a" * 5000, "%ff.html"],
)  # fmt: skip
def test_nothing_else_of_the_disk(linked: Page, place: Path, name: str) -> None:
    site, secret = place / "site", place / "secret.html"
    extra = {site / ".hidden.html": None, site / "notes.txt": None, site / "out.html": secret, site / "away": place}
    secret.write_text("secret")
    try:
        for made, target in extra.items():
            made.symlink_to(target) if target else made.write_text("secret")
        answer = read(linked, f"/atlas/{linked.token}/{name}")
        assert status(answer) == 404 and b"secret" not in answer.partition(b"\r\n\r\n")[2] and b"root:" not in answer
    finally:
        for made in [*extra, secret]:
            made.unlink()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_reading_is_all_that_can_be_done(linked: Page, method: str) -> None:
    assert status(read(linked, f"/atlas/{linked.token}/index.html", method)) == 405


def test_without_an_atlas_there_is_no_link_and_no_page(place: Path) -> None:
    with explore(small(), picture(0), place / "s.db") as explorer:
        page = Page(explorer, small(), place)
        found = page.json("store/unit", layer="conv2", unit=5)
        assert found["strongest"] and {one["link"] for one in found["strongest"]} == {found["link"]} == {None}
        assert status(read(page, f"/atlas/{page.token}/index.html")) == 404
        page.http.close()


def test_a_page_that_is_not_there_yet_is_not_linked(linked: Page, place: Path) -> None:
    page = place / "site" / "layers" / "2" / "5.html"
    kept = page.read_bytes()
    page.unlink()
    try:
        assert linked.json("store/unit", layer="conv2", unit=5)["link"] is None
    finally:
        page.write_bytes(kept)


def test_a_folder_that_is_not_its_atlas_is_a_line(place: Path, tmp_path: Path) -> None:
    with pytest.raises(deconvviz.AtlasError, match="photos holds no atlas; make one"):
        explore(small(), picture(0), place / "s.db", atlas=place / "photos")
    with pytest.raises(deconvviz.DeconvvizValueError, match="atlas goes with the store"):
        explore(small(), picture(0), atlas=place / "site")
    (tmp_path / "other").mkdir()
    for seed in range(5, 8):
        picture(seed).save(tmp_path / "other" / f"{seed}.png")
    deconvviz.scan(small(), tmp_path / "other", ["conv1", "conv2"], top=3, store=tmp_path / "o.db", workers=0).close()
    with pytest.raises(deconvviz.AtlasError, match=r"site holds an atlas of another scan; make one with .*o\.db"):
        explore(small(), picture(0), tmp_path / "o.db", atlas=place / "site")
