"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write beside `path` and rename: an interruption leaves the old file or none.

    Raises the OSError of what failed (no space, no permission), about `path` and not about the file beside it.
    """
    try:
        _write_whole(path, data)
    except OSError as error:
        if error.strerror is None:
            raise
        raise type(error)(error.errno, f"cannot write: {error.strerror}", str(path)) from error


def _write_whole(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
