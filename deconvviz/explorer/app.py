"""The HTTP of a session: routes, sizes, errors as one line of JSON."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

import deconvviz
from deconvviz.atlas.serve import HEADERS as ATLAS_HEADERS
from deconvviz.errors import DeconvvizError, ImageError, said
from deconvviz.explorer.guard import ATLAS, Guard
from deconvviz.explorer.lanes import QUICK, SLOW, Busy, Lane, Overtaken, Ticket, Tickets
from deconvviz.explorer.pictures import MOST_BYTES, UnknownPicture
from deconvviz.explorer.questions import BadQuestion, Covered, Projected, choice, name_of, text, whole
from deconvviz.explorer.session import Session

T = TypeVar("T")
Answer = Callable[[Request], Awaitable[Response]]
_PAGE = Path(__file__).parent / "page"
# What the pages of the atlas look like too is kept there.
_SHARED = tuple(Path(str(files("deconvviz.atlas"))) / "assets" / name for name in ("base.css", "theme.js", "icon.svg"))
_KINDS = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml", ".woff2": "font/woff2", ".png": "image/png",
}  # fmt: skip
_FILES = {"png": "image/png", "pdf": "application/pdf", "npz": "application/octet-stream"}
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (BadQuestion, 400), (UnknownPicture, 404), (Overtaken, 409), (Busy, 503), (DeconvvizError, 422),
)  # fmt: skip
_ID = re.compile(r"[0-9a-f]{16}")


def build(session: Session, token: str, framed: bool = False, anywhere: bool = False) -> ASGIApp:
    """The application that answers the page of a session; see `Guard` for the rest."""
    return Guard(_App(session).starlette, token, framed, anywhere)


class _App:
    """The routes of one session."""

    def __init__(self, session: Session) -> None:
        self.session, self.started = session, time.time()
        self._quick, self._slow, self._tickets = Lane(QUICK), Lane(SLOW), Tickets()
        # No path of a page ever becomes a path of this machine: these are the files there are.
        self._page = {file.name: file for file in (*sorted(_PAGE.iterdir()), *_SHARED) if file.suffix in _KINDS}
        picture = "/api/pictures/{id}"
        routes = [
            Route("/", self._index), Route("/page/{name}", self._asset), Route("/api/health", self._health),
            Route("/api/model", self._model), Route("/api/pictures", self._send, methods=["POST"]),
            Route(picture, self._json(lambda id, q: partial(self.session.picture, id))),
            Route(f"{picture}/input", self._input), Route(f"{picture}/whole", self._whole),
            Route(f"{picture}/maps", self._maps), Route(f"{picture}/units", self._json(self._units)),
            Route(f"{picture}/projection", self._json(self._projection)),
            Route(f"{picture}/cover", self._json(self._cover)), Route(f"{picture}/heat", self._heat),
            Route(f"{picture}/call", self._json(self._call)), Route(f"{picture}/file", self._file),
            Route("/api/store/unit", self._store), Route(f"{ATLAS}{{token}}/{{name:path}}", self._atlas),
        ]  # fmt: skip
        handlers: Any = {Exception: _answer_error, 404: _not_found, 405: _not_found}
        handlers |= {kind: _answer_error for kind, _ in _STATUS}
        self.starlette = Starlette(routes=routes, exception_handlers=handlers)

    # The page ---------------------------------------------------------------------------------------------------------

    async def _index(self, request: Request) -> Response:
        return Response(self._page["index.html"].read_bytes(), media_type=_KINDS[".html"])

    async def _asset(self, request: Request) -> Response:
        file = self._page.get(request.path_params["name"])
        if file is None or file.name == "index.html":
            return _error("no such file of the page", 404)
        return Response(file.read_bytes(), media_type=_KINDS[file.suffix])

    async def _atlas(self, request: Request) -> Response:
        """A file of the site beside the store, which is bound by its own policy."""
        site = self.session.strongest and self.session.strongest.site
        found = site and site.files.read(request.path_params["name"])
        if not found:
            return _error("no such page", 404)
        return Response(found[0], headers={**ATLAS_HEADERS, "Content-Type": found[1]})

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"version": deconvviz.__version__, "started": self.started})

    # What is answered at once -----------------------------------------------------------------------------------------

    async def _asked(self, request: Request, work: Callable[[], T], lane: Lane | None = None) -> T:
        """`work()` in a lane, unless the page has asked otherwise since or has gone."""
        return await (lane or self._quick).run(work, self._ticket(request), request.is_disconnected)

    def _ticket(self, request: Request) -> Ticket:
        query = request.query_params
        kind = request.url.path.rpartition("/")[2] if "id" in request.path_params else request.url.path
        return self._tickets.draw(name_of(query, "tab"), kind, whole(query, "q", None))

    def _json(self, question: Callable[[str, Any], Callable[[], Any]]) -> Answer:
        async def answer(request: Request) -> Response:
            work = question(_id(request), request.query_params)
            return JSONResponse(await self._asked(request, work))

        return answer

    async def _model(self, request: Request) -> Response:
        return JSONResponse(await self._asked(request, self.session.model))

    def _units(self, id: str, query: Any) -> Callable[[], Any]:
        return partial(self.session.units, id, text(query, "layer"), whole(query, "target", None))

    def _projection(self, id: str, query: Any) -> Callable[[], Any]:
        return partial(self.session.projection, id, Projected.of(query))

    def _cover(self, id: str, query: Any) -> Callable[[], Any]:
        asked = Covered.of(query)
        if asked.place is None:
            raise BadQuestion("row and col are missing")
        return partial(self.session.cover, id, asked)

    def _call(self, id: str, query: Any) -> Callable[[], Any]:
        return lambda: asdict(self.session.call(id, _view(query)))

    async def _input(self, request: Request) -> Response:
        content = await self._asked(request, partial(self.session.input_png, _id(request)))
        return Response(content, media_type="image/png")

    async def _whole(self, request: Request) -> Response:
        side = whole(request.query_params, "side", 480)
        if not 16 <= side <= 2048:
            raise BadQuestion(f"side is {side}; allowed: 16 to 2048")
        content = await self._asked(request, partial(self.session.whole_jpeg, _id(request), side))
        return Response(content, media_type="image/jpeg")

    async def _maps(self, request: Request) -> Response:
        layer = text(request.query_params, "layer")
        shape, content = await self._asked(request, partial(self.session.maps, _id(request), layer))
        headers = {"X-Shape": ",".join(map(str, shape))}
        return Response(content, media_type="application/octet-stream", headers=headers)

    async def _send(self, request: Request) -> Response:
        content = await _body(request)
        if content is None:
            refused = _error(f"the file is larger than {MOST_BYTES // 1_000_000} MB", 413)
            refused.headers["Connection"] = "close"  # the rest is not waited for
            return refused
        name = request.query_params.get("name", "picture")

        def add() -> dict[str, Any]:
            return self.session.picture(self.session.pictures.send(content, name))

        try:
            return JSONResponse(await self._quick.run(add))
        except ImageError as error:
            return _error(said(error), 415)

    # What takes long --------------------------------------------------------------------------------------------------

    async def _store(self, request: Request) -> Response:
        strongest = self.session.strongest
        if strongest is None:
            return _error("there is no store: start with --store", 404)
        layer, unit = text(request.query_params, "layer"), whole(request.query_params, "unit")
        return JSONResponse(await self._asked(request, partial(strongest.unit, layer, unit), self._slow))

    async def _file(self, request: Request) -> Response:
        kind = choice(request.query_params, "format", tuple(_FILES))
        work = partial(self.session.file, _id(request), _view(request.query_params), kind)
        name, content = await self._asked(request, work, self._slow)
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
        return Response(content, media_type=_FILES[kind], headers=headers)

    async def _heat(self, request: Request) -> Response:
        asked, ticket = Covered.of(request.query_params), self._ticket(request)
        # The recording is made and filters are folded where quick questions are answered; parts are computed beside.
        heat = await self._quick.run(partial(self.session.heat, _id(request), asked), ticket, request.is_disconnected)

        async def lines() -> AsyncIterator[bytes]:
            head = heat.head()
            yield _line(head)
            done = 0
            try:
                while done < head["total"]:
                    await self._quick.rest()
                    part = await self._slow.run(heat.next, ticket)
                    done += len(part)
                    yield _line({"at": part, "done": done})
                yield _line({"end": True})
            except Overtaken:
                return
            except DeconvvizError as error:
                yield _line({"error": said(error)})

        return StreamingResponse(lines(), media_type="application/x-ndjson")


def _view(query: Any) -> Projected | Covered:
    view = choice(query, "view", ("projection", "occlusion"))
    return Projected.of(query) if view == "projection" else Covered.of(query)


def _id(request: Request) -> str:
    id: str = request.path_params["id"]
    if not _ID.fullmatch(id):
        raise UnknownPicture("no such picture")
    return id


async def _body(request: Request) -> bytes | None:
    """What was sent; None as soon as it is known to be too large."""
    stated = request.headers.get("content-length", "0")
    if not stated.isdecimal() or int(stated) > MOST_BYTES:
        return None
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _error(line: str, status: int) -> Response:
    return JSONResponse({"error": line}, status_code=status)


async def _answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)
    status = next((number for kind, number in _STATUS if isinstance(error, kind)), 500)
    return _error(said(error), status)


async def _not_found(request: Request, error: Exception) -> Response:
    return _error("there is nothing here", getattr(error, "status_code", 404))
