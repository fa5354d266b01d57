"""Files of repositories of huggingface.co: from the cache on disk, or downloaded into it. None of them is code."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvviz.errors import UnknownNameError, WeightsError, in_one_line
from deconvviz.models.downloads import missing
from deconvviz.network.origins.base import needs

# Seconds to wait for an answer before a file counts as out of reach.
_PATIENCE = 10


@dataclass(frozen=True)
class Repository:
    """`name` is ORG/NAME (or a NAME of old), `revision` a branch, tag or commit."""

    name: str
    revision: str = "main"

    @classmethod
    def named(cls, text: str) -> Repository:
        """Read `ORG/NAME` or `ORG/NAME@REVISION`; raises `UnknownNameError` for what cannot be one."""
        name, _, revision = text.partition("@")
        parts = name.split("/")
        if len(parts) > 2 or not all(part and part[0] not in ".-" and part.isprintable() for part in parts):
            raise UnknownNameError(f"'{text}' is no repository of the hub; allowed: ORG/NAME, or ORG/NAME@REVISION")
        return cls(name, revision or "main")

    def cached(self, file: str) -> Path | None:
        """The file on disk, or None."""
        hub = _hub()
        found = hub.try_to_load_from_cache(self.name, file, cache_dir=_cache(), revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def place(self, file: str) -> Path:
        """Where the file belongs in the cache."""
        root = _cache() / f"models--{self.name.replace('/', '--')}"
        known = root / "refs" / self.revision
        commit = known.read_text(encoding="utf-8").strip() if known.is_file() else self.revision
        return root / "snapshots" / commit / file

    def url(self, file: str) -> str:
        """Where it is downloaded from."""
        return str(_hub().hf_hub_url(self.name, file, revision=self.revision))

    def first(self, *files: str) -> Path:
        """The first of these files that is on disk, else the first that the repository has, downloaded.

        Raises `WeightsError` with file, address and place if there is none.
        """
        for file in files:
            found = self.cached(file)
            if found is not None:
                return found
        why = "the repository has no such file"
        for file in files:
            reason = _unreachable(self.url(file))
            if reason is None:
                return self._download(file)
            if not reason.startswith("404"):
                why = reason
                break
        raise WeightsError(missing(f"{files[0]} of {self.name}", self.url(files[0]), self.place(files[0]), why))

    def maybe(self, file: str) -> Path | None:
        """The file, if it is on disk or can be had."""
        return self.cached(file) or (self._download(file) if _unreachable(self.url(file)) is None else None)

    def _download(self, file: str) -> Path:
        try:
            return Path(_hub().hf_hub_download(self.name, file, revision=self.revision, cache_dir=_cache()))
        except Exception as error:
            raise WeightsError(
                missing(f"{file} of {self.name}", self.url(file), self.place(file), in_one_line(error))
            ) from error


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise needs("huggingface_hub", "timm", error) from error
    return huggingface_hub


def _cache() -> Path:
    """The cache's folder, by the environment as it is now: huggingface_hub reads it once."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return Path(os.environ[name]).expanduser()
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]).expanduser() / "hub"
    return Path(_hub().constants.HF_HUB_CACHE)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _unreachable(url: str) -> str | None:
    """Why the file at an address cannot be had, or None if it can; huggingface_hub would try for half a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    try:
        opener = urllib.request.build_opener(_NoRedirect)
        opener.open(urllib.request.Request(url, method="HEAD"), timeout=_PATIENCE).close()
    except urllib.error.HTTPError as error:
        # A redirection leads to the file; 401 is for what only a token opens, which huggingface_hub may know.
        return None if error.code < 400 or error.code in (401, 403) else f"{error.code} {error.reason}"
    except (OSError, ValueError) as error:
        return in_one_line(error)
    return None
