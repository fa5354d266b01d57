"""One writer for a whole run: a lock beside the store that dies with its process, and says who holds it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path

from deconvviz.errors import StoreError

SUFFIX = "-writer"
# The system's lock is one of processes; threads of this one are told apart here, by file and number of process
# (a forked child knows the entries of its parent, and holds none of them).
_held: set[tuple[str, int]] = set()
_guard = threading.Lock()

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        os.lseek(handle, 1 << 30, os.SEEK_SET)  # far behind the text, which others have to read
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        # Not `flock`: reading processes that outlive a killed scan for a moment would hold on to it.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Lock:
    """Held from `take` to `release`, or to the end of the process, however it ends."""

    def __init__(self, path: str, handle: int) -> None:
        self._path, self._handle, self._owner = path, handle, os.getpid()

    @classmethod
    def take(cls, store: Path) -> Lock:
        """The lock of a store, whether or not that exists. Raises `StoreError` that says who holds it."""
        path = os.path.realpath(store) + SUFFIX  # however it is linked to
        with _guard:
            if (path, os.getpid()) in _held:  # not even opened: closing it again would give the lock up
                raise StoreError(_taken(store, f"process {os.getpid()}, this one"))
            try:
                handle = _locked(path)
            except OSError as error:
                raise StoreError(f"cannot write the store {store}: {error.strerror or error}") from error
            if handle is None:
                raise StoreError(_taken(store, _who(path)))
            _held.add((path, os.getpid()))
        return cls(path, handle)

    def release(self) -> None:
        """Give it up, and take the file away; the second time does nothing."""
        with _guard:
            if self._owner != os.getpid() or (self._path, self._owner) not in _held:
                return
            if sys.platform != "win32":
                Path(self._path).unlink(missing_ok=True)  # before it is given up: the next one makes its own
            os.close(self._handle)
            if sys.platform == "win32":  # where an open file cannot be taken away
                with contextlib.suppress(OSError):
                    Path(self._path).unlink(missing_ok=True)
            _held.remove((self._path, self._owner))


def _locked(path: str) -> int | None:
    """A handle that holds the lock, with who that is in the file; None if another process does."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            try:
                _lock(handle)
            except (BlockingIOError, PermissionError):
                os.close(handle)
                return None
            if not _still(handle, path):  # the one before took the file away in between
                os.close(handle)
                continue
            me = {"process": os.getpid(), "host": socket.gethostname(), "since": _now()}
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, json.dumps(me).encode())
            return handle
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(handle)
            raise


def _still(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _who(path: str) -> str:
    try:
        who = json.loads(Path(path).read_bytes())
        return f"process {who['process']} on {who['host']}, since {who['since']}"
    except (OSError, ValueError, LookupError, TypeError):
        return "a process that has just begun, or just ended"


def _taken(store: Path, who: str) -> str:
    return f"{store} is being written by another scan ({who}); wait for it, or use another store"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
