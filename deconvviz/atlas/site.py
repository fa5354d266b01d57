"""The folder of a site: what may be written there, which files belong to it, which are left over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deconvviz.errors import AtlasError
from deconvviz.files import sync_all, write_whole

MANIFEST = "atlas.json"
FORMAT = 1
# Only in these does a build delete what it did not write.
FOLDERS = ("assets", "classes", "effects", "images", "layers", "pictures")
SUFFIXES = (".css", ".html", ".js", ".json", ".part", ".svg", ".webp")
# What must be the same for a folder to be built further.
SAME = ("model", "weights")


class Folder:
    """A site being written: every file whole, unchanged files left alone, left-over files removed at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written: set[Path] = set()

    def claim(self, identity: Mapping[str, Any]) -> None:
        """Make the folder, or take one that holds the same atlas.

        Raises:
            AtlasError: it holds something else, or another network's atlas, or cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            others = [p.name for p in self.path.iterdir()]
        except OSError as error:
            raise AtlasError(f"cannot make the folder {self.path}: {error.strerror}") from error
        manifest = self.path / MANIFEST
        if manifest.is_file():
            check_same(manifest, identity)
        elif [name for name in others if not name.startswith(f".{MANIFEST}.")]:
            raise AtlasError(f"{self.path} is not empty and holds no atlas; give a new folder")
        self.text(MANIFEST, json.dumps({"format": FORMAT, **identity}, indent=1, sort_keys=True) + "\n")

    def has(self, name: str) -> bool:
        """Whether a file named by its content is there; it belongs to the site then."""
        path = self.path / name
        if not path.is_file() or not _is_whole(path):
            return False
        self.written.add(path)
        return True

    def bytes(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all, unless it holds just that."""
        path = self.path / name
        self.written.add(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
                return
            write_whole(path, data, sync=False)
        except OSError as error:
            raise AtlasError(f"cannot write {path}: {error.strerror}; run again to go on") from error

    def text(self, name: str, text: str) -> None:
        """Write a text file."""
        self.bytes(name, text.encode("utf-8"))

    def sweep(self) -> None:
        """Delete files of an earlier state, and what interrupted writes left."""
        for name in FOLDERS:
            for path in sorted((self.path / name).rglob("*"), reverse=True):
                if path.is_dir():
                    if not any(path.iterdir()):
                        path.rmdir()
                elif path not in self.written and path.suffix in SUFFIXES:
                    path.unlink()
        for path in self.path.glob(".*.part"):
            path.unlink()
        sync_all()


def check_same(manifest: Path, identity: Mapping[str, Any], advice: str = "give a new folder") -> dict[str, Any]:
    """What the site of a manifest says of itself. Raises `AtlasError` if it is not of the network of `identity`."""
    try:
        found: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
        different = [key for key in SAME if found[key] != identity[key]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AtlasError(f"{manifest} is not what an atlas writes; {advice}") from error
    if different:
        what = "; ".join(f"{key} {found[key]} there, {identity[key]} here" for key in different)
        raise AtlasError(f"{manifest.parent} holds an atlas of another network ({what}); {advice}")
    return found


def _is_whole(path: Path) -> bool:
    """Whether a picture is as long as it says: those of a site are not synced one by one, and power may fail."""
    with path.open("rb") as file:
        head = file.read(12)
    return path.suffix != ".webp" or (
        head[:4] == b"RIFF" and int.from_bytes(head[4:8], "little") + 8 == path.stat().st_size
    )
