"""A server on this machine alone, in a thread of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import uvicorn
from starlette.types import ASGIApp

from deconvviz.errors import DeconvvizError, DeconvvizValueError

ADDRESS = "127.0.0.1"
_START, _END = 10.0, 5.0  # seconds


def listening(port: int) -> socket.socket:
    """A socket bound to `port` of this machine alone; 0 takes a free one. Raises `DeconvvizValueError`."""
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 65536:
        raise DeconvvizValueError(f"port is {port!r}; allowed: 0 (a free one) to 65535")
    # asyncio sends small answers at once only on sockets that say they are TCP; else each waits some 40 ms.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((ADDRESS, port))
    except OSError as error:
        bound.close()
        raise DeconvvizValueError(f"port {port} of this machine cannot be used: {error.strerror}") from error
    return bound


class Server:
    """Serves `app` on the socket `bound` until `close`."""

    def __init__(self, app: ASGIApp, bound: socket.socket) -> None:
        self._socket = bound
        self.port: int = bound.getsockname()[1]
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, date_header=False, ws="none", lifespan="off",
            timeout_graceful_shutdown=1, h11_max_incomplete_event_size=16_384, limit_concurrency=200,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="deconvviz-explore", daemon=True)
        self._thread.start()
        until = time.monotonic() + _START
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                self.close()
                raise DeconvvizError("the server did not start")
            time.sleep(0.005)

    def _run(self) -> None:
        with contextlib.closing(self._socket):
            self._server.run(sockets=[self._socket])

    @property
    def running(self) -> bool:
        """Whether it still answers."""
        return self._thread.is_alive() and not self._server.should_exit

    def join(self) -> None:
        """Wait for its end; Ctrl-C comes through."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def close(self) -> None:
        """End it: what is under way gets a second."""
        self._server.should_exit = True
        if threading.current_thread() is not self._thread:
            self._thread.join(_END)
