"""Who may ask: this machine's own pages, with the token of this start.

A server on one's own machine can be reached by every page that one's browser shows. Three things keep those out: the
name it is asked by (a name of theirs may be made to point here, DNS rebinding), where the asking page comes from, and
a secret in the address that only the page has that was opened with it.
"""

from __future__ import annotations

import hmac
import json
import secrets
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Any port: what forwards one (an editor, ssh) may give it another number.
_OWN = ("127.0.0.1", "localhost", "[::1]")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'"
)
# Below it the token is a part of the path, so that the links between the pages of an atlas carry it on.
ATLAS = "/atlas/"
_OLD = "this address is of an earlier start of deconvviz explore: open the one that it has printed"


def new_token() -> str:
    """A secret for one start."""
    return secrets.token_urlsafe(24)


class Guard:
    """Lets through to `app` what may ask, and gives every answer the headers that bind the page.

    `token` is asked for everywhere but under `/page/`; under `/atlas/` it is the next part of the path. `framed` lets
    other pages show this one in a frame, as notebooks do; `anywhere` does without the check of names, for a notebook
    whose own server stands between.
    """

    def __init__(self, app: ASGIApp, token: str, framed: bool = False, anywhere: bool = False) -> None:
        self._app, self._token, self._framed, self._anywhere = app, token, framed, anywhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no web sockets here

        async def bound(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._bind(MutableHeaders(scope=message))
            await send(message)

        problem = self._problem(scope)
        if problem is None:
            await self._app(scope, receive, bound)
        else:
            await _refuse(scope, bound, problem)

    def _problem(self, scope: Scope) -> str | None:
        """Why this request is refused, None if it is not."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if not self._anywhere:
            if len(headers.getlist("host")) != 1 or name not in _OWN:
                return "asked by another name than 127.0.0.1 or localhost"
            if origin is not None and origin != f"http://{host}":
                return "asked by a page of another origin"
        if scope["path"].startswith("/page/"):
            return None
        given = headers.get("x-token")
        if given is None and scope["path"] == "/":
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        elif scope["path"].startswith(ATLAS):
            given = scope["path"].removeprefix(ATLAS).partition("/")[0]
        if not given or not hmac.compare_digest(given.encode(), self._token.encode()):
            return _OLD
        return None

    def _bind(self, headers: MutableHeaders) -> None:
        # The atlas brings its own, which is stricter.
        headers.setdefault("Content-Security-Policy", _POLICY + ("" if self._framed else "; frame-ancestors 'none'"))
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers["Cache-Control"] = "no-store"
        if not self._framed:
            headers["X-Frame-Options"] = "DENY"


async def _refuse(scope: Scope, send: Send, problem: str) -> None:
    if scope["path"].startswith("/api/"):
        kind, body = "application/json", json.dumps({"error": problem})
    else:
        kind, body = "text/html; charset=utf-8", _PAGE.format(problem)
    content = body.encode()
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})


_PAGE = '<!doctype html><html lang="en"><meta charset="utf-8"><title>deconvviz</title><p>{}</p></html>\n'
