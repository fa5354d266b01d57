"""The little server: files of the site to its own pages, and nothing else."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deconvviz.atlas import SiteServer
from deconvviz.errors import AtlasError


@pytest.fixture
def server(site: Path) -> Iterator[SiteServer]:
    with SiteServer(site) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        yield server
        server.close()
        thread.join(10)
        assert not thread.is_alive()


def ask(server: SiteServer, path: str, method: str = "GET", host: str | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    if host != "":
        connection.putheader("Host", host or f"127.0.0.1:{server.port}")
    connection.endheaders()
    answer = connection.getresponse()
    answer.data = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


@pytest.mark.parametrize(
    ("path", "file", "kind"),
    [
        ("/", "index.html", "text/html; charset=utf-8"),
        ("/layers/2/5.html?place=3", "layers/2/5.html", "text/html; charset=utf-8"),
        ("/assets/atlas.js", "assets/atlas.js", "text/javascript; charset=utf-8"),
        ("/assets/icon.svg", "assets/icon.svg", "image/svg+xml; charset=utf-8"),
        ("/l%61yers/1.html", "layers/1.html", "text/html; charset=utf-8"),
    ],
)
def test_files_come_as_they_are(server: SiteServer, site: Path, path: str, file: str, kind: str) -> None:
    answer = ask(server, path)
    assert answer.status == 200 and answer.data == (site / file).read_bytes()  # type: ignore[attr-defined]
    assert answer.getheader("Content-Type") == kind
    policy = answer.getheader("Content-Security-Policy") or ""
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "file:" not in policy
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    head = ask(server, path, "HEAD")
    assert head.status == 200 and head.data == b""  # type: ignore[attr-defined]
    assert head.getheader("Content-Length") == str((site / file).stat().st_size)


@pytest.mark.parametrize(
    "path",
    ["/nowhere.html", "/layers", "/layers/", "/../store.db", "/%2e%2e/secret.html", "/..%2fsecret.html", "//etc/passwd",
     "/.hidden.html", "/.unfinished.db", "/layers/.part.html", "/out.html", "/away/secret.html", "/a%00b.html",
     "/..\\secret.html", "/index.html/", "/" + "a" * 5000, "/%ff.html", "/notes.txt", "http://elsewhere/secret.html"],
)  # fmt: skip
def test_nothing_else_is_served(server: SiteServer, site: Path, path: str) -> None:
    secret = site.parent / "secret.html"
    extra = {site / ".hidden.html": None, site / ".unfinished.db": None, site / "notes.txt": None,
             site / "out.html": secret, site / "away": site.parent}  # fmt: skip
    secret.write_text("secret")
    try:
        for made, target in extra.items():
            made.symlink_to(target) if target else made.write_text("secret")
        answer = ask(server, path)
        assert answer.status == 404 and b"secret" not in answer.data  # type: ignore[attr-defined]
    finally:
        for made in [*extra, secret]:
            made.unlink()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "localhost.evil.example:{port}", ""]
)
def test_another_host_is_refused(server: SiteServer, host: str) -> None:
    answer = ask(server, "/", host=host.format(port=server.port))
    assert answer.status == 403 and b"<html" not in answer.data  # type: ignore[attr-defined]
    assert ask(server, "/", host=f"localhost:{server.port}").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_reading_is_all_that_can_be_done(server: SiteServer, method: str) -> None:
    assert ask(server, "/", method).status == 501


def test_a_slow_reader_keeps_nobody_waiting(server: SiteServer) -> None:
    slow = socket.create_connection(("127.0.0.1", server.port))
    slow.sendall(b"GET / HTTP/1.1\r\n")
    assert ask(server, "/").status == 200
    slow.close()
    assert ask(server, "/").status == 200


def test_only_this_machine_and_only_a_site(server: SiteServer, site: Path, tmp_path: Path) -> None:
    assert server.url == f"http://127.0.0.1:{server.port}/"
    with pytest.raises(AtlasError, match=f"port {server.port}"):
        SiteServer(site, server.port)
    with pytest.raises(AtlasError, match="holds no atlas"):
        SiteServer(tmp_path)
