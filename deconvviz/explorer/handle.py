"""`explore`: a page on one's own machine, and the handle of it that Python keeps."""

from __future__ import annotations

import atexit
import html
import os
import sys
from collections.abc import Mapping
from typing import Any

from torch import nn

from deconvviz.errors import DeconvvizError
from deconvviz.explorer.calls import Origin
from deconvviz.explorer.session import Session
from deconvviz.network.network import Network
from deconvviz.progress import in_notebook

_HEIGHT = 820


def explore(
    model: Network | nn.Module,
    image: Any = None,
    store: str | os.PathLike[str] | None = None,
    port: int = 0,
    atlas: str | os.PathLike[str] | None = None,
) -> Explorer:
    """Serve a page on this machine on which pictures and the network are explored live, and return its handle.

    `model` takes pictures: a `Network` with mean and std. `image` is what the page begins with: a picture (a path, PIL
    image, array, or preprocessed tensor), a folder, or a list of them; others can be dropped on the page. `store` is
    the path of a store of `scan`, for the strongest pictures of each unit, and `atlas` the folder of the site made of
    it, to which each unit is linked then. `port` 0 takes a free one. The page is served to this machine alone, until
    `.close()`; the caller goes on meanwhile. In a notebook the handle shows the page.

    The model is asked by the server's threads whenever the page is used, as it is then: of a pass, no other thread sees
    a mode or a hook, so it may train meanwhile, and a picture is recorded again once weights have changed.

    Raises `DeconvvizError` if the extra `explore` is not installed, `DeconvvizTypeError` for a model that takes no
    pictures, `DeconvvizValueError` for a port that is in use, `StoreError`, `AtlasError` for a folder that holds no
    atlas of the store, and the errors of `record` and of reading pictures.

    >>> page = deconvviz.explore(deconvviz.load("zfnet"), "image.jpg")
    >>> page.url.startswith("http://127.0.0.1:")
    True
    >>> page.close()
    """
    return Explorer(Network.of(model), image, store, port, framed=in_notebook(), atlas=atlas)


class Explorer:
    """A page that is served until it is closed: `explore` makes it; a context manager.

    `url` is its address with the token that it asks for. Shows itself in a notebook.

    >>> with deconvviz.explore(deconvviz.load("lenet")) as page:
    ...     page.url.rpartition("/")[2].startswith("?token=")
    True
    >>> page
    Explorer(lenet, closed)
    """

    def __init__(
        self, net: Network, image: Any = None, store: Any = None, port: int = 0, framed: bool = False,
        origin: Origin | None = None, atlas: Any = None,
    ) -> None:  # fmt: skip
        check_installed()
        from deconvviz.explorer.app import build
        from deconvviz.explorer.guard import new_token
        from deconvviz.explorer.serve import Server, listening

        bound = listening(port)
        try:
            self._session = Session(net, image, store, origin, atlas)
            token = new_token()
            app = build(self._session, token, framed, anywhere=_in_colab())
            self._server = Server(app, bound)
        except BaseException:
            bound.close()
            raise
        self._path = f"/?token={token}"
        # Nobody need hold on to it: a page stays until it is closed, or Python ends.
        _OPEN.add(self)

    @property
    def url(self) -> str:
        """The address of the page, with its token."""
        return f"http://127.0.0.1:{self._server.port}{self._path}"

    def close(self) -> None:
        """End the server; the page says so."""
        if self in _OPEN:
            _OPEN.discard(self)
            self._server.close()
            self._session.close()

    def join(self) -> None:
        """Wait until it is closed, or for Ctrl-C."""
        self._server.join()

    def __enter__(self) -> Explorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        where = self.url if self._server.running else "closed"
        return f"Explorer({self._session.net.card.name}, {where})"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Mapping[str, str]:
        """What a notebook asks for: the page in a frame."""
        shown = self._repr_html_()
        if shown is None:
            _shown_in_colab(self._server.port, self._path)
            return {"text/plain": repr(self)}
        return {"text/plain": repr(self), "text/html": shown}

    def _repr_html_(self) -> str | None:
        """The page in a frame, and its address for where frames of this machine are not shown; None in Colab."""
        if self._server.running and _in_colab():
            return None
        address = html.escape(self.url)
        title = html.escape(f"deconvviz explore: {self._session.net.card.name}")
        if not self._server.running:
            return f"<code>{html.escape(repr(self))}</code>"
        return (
            f'<iframe src="{address}" title="{title}" width="100%" height="{_HEIGHT}" '
            f'style="border: 0" allow="camera; clipboard-write"></iframe>\n'
            f'<a href="{address}" target="_blank" rel="noopener">{title}, in a page of its own</a>\n'
        )


_OPEN: set[Explorer] = set()


@atexit.register
def _close_all() -> None:
    for page in list(_OPEN):
        page.close()


def check_installed() -> None:
    """Raise `DeconvvizError` that says what to install where the extra is missing."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise DeconvvizError(
            f'explore needs {error.name}, which is not installed: pip install "deconvviz[explore]"'
        ) from error


def _in_colab() -> bool:
    return "google.colab" in sys.modules


def _shown_in_colab(port: int, path: str) -> None:
    """Colab shows a port of its machine in a frame by a way of its own."""
    output = sys.modules["google.colab"].output
    output.serve_kernel_port_as_iframe(port, path=path, height=str(_HEIGHT))
