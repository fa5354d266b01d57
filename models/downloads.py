"""Files of weights that do not ship: where they belong in torch hub's folder, fetched if they are not there."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import torch


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def hub_path(url: str) -> Path:
    """Where the file of an address belongs: the folder of checkpoints of torch hub."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def hash_in(url: str) -> str:
    """What the SHA-256 of a file begins with, by its name (`resnet18-f37072fd.pth`); empty if it does not say."""
    found = re.search(r"-([0-9a-f]{8,})\.", url.rsplit("/", 1)[-1])
    return found[1] if found else ""


def fetch(url: str, hash_prefix: str | None = None) -> Path:
    """The file of `url` in torch hub's folder, downloaded if it is not there, and then its hash checked.

    Raises OSError, with what is missing, from where it comes and where to put it.
    """
    path = hub_path(url)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = hash_in(url) if hash_prefix is None else hash_prefix
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix or None, progress=False)
        except (OSError, RuntimeError) as error:
            raise OSError(missing(path.name, url, path, error)) from error
    return path


def missing(file: str, url: str, path: Path, why: object) -> str:
    """What is said of a file that is not there and cannot be fetched: its address, and where it belongs."""
    return (
        f"the weights file {file} is missing and could not be downloaded ({why}); fetch it from {url} and put it at "
        f"{path}"
    )


def fetch_checked(url: str, hash_prefix: str | None = None) -> Path:
    """As `fetch`, the hash checked at every time.

    Raises ValueError if the SHA-256 does not begin with `hash_prefix` (None: what the file's name says).
    """
    path = fetch(url, hash_prefix)
    expected = hash_in(url) if hash_prefix is None else hash_prefix
    found = file_sha256(path)
    if not found.startswith(expected):
        raise ValueError(
            f"{path} does not have the expected SHA-256: it begins {found[: len(expected)]}, expected "
            f"{expected}; delete it and fetch it again from {url}"
        )
    return path
