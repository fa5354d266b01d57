"""Files that appear whole or not at all, and are still there after the power has failed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path


def write_whole(path: Path, data: bytes, sync: bool = True) -> None:
    """Write beside `path` and rename: an interruption leaves the old file or none.

    The file is on the disk before it gets its name, and the name before this returns; `sync=False` leaves that to the
    system, for one of many files that `sync_all` follows. Raises the OSError of what failed (no space, no permission),
    about `path` and not about the file beside it.
    """
    try:
        _write_whole(path, data, sync)
    except OSError as error:
        if error.strerror is None:
            raise
        raise type(error)(error.errno, f"cannot write: {error.strerror}", str(path)) from error


def _write_whole(path: Path, data: bytes, sync: bool) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path.name), suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(name, 0o666 & ~umask)
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if sync:
        _sync_folder(path.parent)


def _prefix(name: str) -> str:
    """How the file beside begins; a long name would have no room for the rest."""
    return f".{name}." if len(os.fsencode(name)) < 100 else f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}."


def _sync_folder(folder: Path) -> None:
    # Not every system lets one open a folder, and not every file system sync it: the rename is done all the same.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_all() -> None:
    """Return when everything that was written is on the disk, where the system can do that."""
    if hasattr(os, "sync"):
        os.sync()


def longest_name(folder: Path) -> int:
    """How many bytes a file's name may have in `folder`."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError, AttributeError):
        return 255
