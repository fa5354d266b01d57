"""A site served on this machine: its own files, to its own pages, and nothing else."""

from __future__ import annotations

import mimetypes
import socket
import urllib.parse
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from deconvviz.atlas.pages import POLICY
from deconvviz.atlas.site import MANIFEST, SUFFIXES
from deconvviz.errors import AtlasError

HOST = "127.0.0.1"
# What the standard library does not know everywhere.
TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml",
         ".webp": "image/webp", ".json": "application/json"}  # fmt: skip
# What only the build reads is not served.
SERVED = frozenset(SUFFIXES) - {".part"}
_TEXT = "text/plain; charset=utf-8"
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": f"{POLICY.replace(' file:', '')}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class SiteFiles:
    """The site in `folder`, to be read from outside: its own files, none that is hidden, no link out of it.

    Raises:
        AtlasError: the folder holds no site.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / MANIFEST).is_file() or not (folder / "index.html").is_file():
            raise AtlasError(f"{folder} holds no atlas; make one with deconvviz atlas --store")
        self._root = folder.resolve()

    def read(self, name: str) -> tuple[bytes, str] | None:
        """What the file `name` holds (the first page: no name) and its type; None if that is no file of the site."""
        path = self._find(name.lstrip("/") or "index.html")
        try:
            data = None if path is None else path.read_bytes()
        except OSError:
            data = None
        if path is None or data is None:
            return None
        kind = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        text = kind.startswith("text/") or kind.endswith(("json", "svg+xml"))
        return data, f"{kind}; charset=utf-8" if text else kind

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def _find(self, name: str) -> Path | None:
        if "\0" in name or "\\" in name or name.endswith("/") or any(part.startswith(".") for part in name.split("/")):
            return None
        try:
            path = (self._root / name).resolve()
            inside = path.is_relative_to(self._root) and path.suffix in SERVED and path.is_file()
        except (OSError, ValueError, RuntimeError):
            return None
        return path if inside else None


class SiteServer:
    """Serves the site in `folder` on 127.0.0.1, at `port` or (0) a free one; `url` is its first page.

    It answers GET and HEAD for files of the site alone, lists no folder, follows no link out of it, and refuses a
    request that names another host (as a page of elsewhere does whose name is bound to this machine).

    Raises:
        AtlasError: the folder holds no site, or the port cannot be taken.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        files = SiteFiles(folder)
        try:
            self._server = _Server((HOST, port), partial(_Handler, files=files))
        except OSError as error:
            raise AtlasError(f"cannot serve on port {port}: {error.strerror}") from error
        self.port = self._server.server_port
        self.url = f"http://{HOST}:{self.port}/"

    def run(self) -> None:
        """Serve until `close` is called from another thread, or the program is interrupted."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """End `run`, and give the port back."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> SiteServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # an open page keeps nothing from ending

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader that has gone is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "deconvviz"
    sys_version = ""
    timeout = 30

    def __init__(self, request: socket.socket, client: Any, server: _Server, files: SiteFiles) -> None:
        self.files, self.port = files, server.server_port
        super().__init__(request, client, server)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed of requests."""

    def do_GET(self) -> None:
        self._answer(whole=True)

    def do_HEAD(self) -> None:
        self._answer(whole=False)

    def _answer(self, whole: bool) -> None:
        here = [[f"{host}:{self.port}"] for host in (HOST, "localhost")]
        if self.headers.get_all("Host", []) not in here:
            self._send(HTTPStatus.FORBIDDEN, b"this is another host\n", _TEXT, whole)
            return
        name = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path, errors="replace")
        found = self.files.read(name)
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, b"no such page\n", _TEXT, whole)
        else:
            self._send(HTTPStatus.OK, *found, whole)

    def _send(self, status: HTTPStatus, data: bytes, kind: str, whole: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if whole:
            self.wfile.write(data)
