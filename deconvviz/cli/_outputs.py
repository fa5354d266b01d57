"""The files that commands write: their names carry what differs, and nothing else is ever overwritten unasked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deconvviz.errors import DeconvvizValueError
from deconvviz.files import longest_name, write_whole

if TYPE_CHECKING:
    from deconvviz.results.base import Result

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what exists and differs.")
# What commands do without, and the option's name in a file's name where it is not its value alone.
_DEFAULTS = {"method": "deconvnet", "overlap": "add", "view": "paper"}
_MOST_UNITS = 8


def variant(options: Mapping[str, Any]) -> str:
    """What of a command's options its file's name has to carry, each part after a dash; defaults are left out."""
    parts = [str(options[k]) for k, default in _DEFAULTS.items() if options.get(k, default) != default]
    if options.get("units") == "class":
        parts.append("class")
    elif options.get("units"):
        parts.append(_units(options["units"]))
    if options.get("place"):
        parts.append("at{}-{}".format(*options["place"]))
    return "".join(f"-{part}" for part in parts)


def _units(units: Sequence[int]) -> str:
    """`u3`, `u3-8-9`; of many, the first ones and a hash of all."""
    shown = "u" + "-".join(map(str, units[:_MOST_UNITS]))
    return shown if len(units) <= _MOST_UNITS else f"{shown}-{_hash(repr(list(units)).encode())}"


def file_name(stem: str, rest: str, folder: Path) -> str:
    """`stem` + `rest` as the name of a file in `folder`; where that is too long, the stem is cut and ends in a hash."""
    name = f"{stem}{rest}".replace("/", "-")
    most = longest_name(folder)
    if len(os.fsencode(name)) <= most:
        return name
    rest = rest.replace("/", "-")
    end = f"~{_hash(os.fsencode(stem))}{rest}"
    room = most - len(os.fsencode(end))
    if room < 1:  # it is the rest that is too long
        kind = Path(rest).suffix
        end, room = f"~{_hash(os.fsencode(name))}{kind}", most - len(os.fsencode(kind)) - 9
        stem = name
    while len(os.fsencode(stem)) > room:
        stem = stem[:-1]
    return stem + end


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]


def check_output(path: Path) -> None:
    """Raise `click.UsageError` if writing `path` would overwrite what this command reads, by whatever name."""
    if not os.path.lexists(path):
        return
    for given in _inputs():
        if _same(path, given) or (given.is_dir() and _is_input_of(given, path)):
            raise click.UsageError(
                f"{path} would overwrite {_what(given)} {given}, which this command reads; give another --out"
            )


def write_output(result: Result, path: Path, **figure: Any) -> Path:
    """Write a result as `Result.save` does, but not over what this command reads, nor unasked over what differs."""
    if not path.parent.is_dir():
        raise DeconvvizValueError(f"the folder {path.parent} does not exist")
    check_output(path)
    write_files({path: result.encoded(path.suffix, **({} if path.suffix == ".npz" else figure))})
    return path


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write all of these files or, if one is what this command reads, or exists and differs unasked, none."""
    context = click.get_current_context(silent=True)
    for path, data in files.items():
        check_output(path)
        if path.exists() and not (context and context.params.get("overwrite")) and path.read_bytes() != data:
            raise DeconvvizValueError(f"{path} exists and differs; give --overwrite to replace it, or another --out")
    for path, data in files.items():
        write_whole(path, data)


def _inputs() -> Iterator[Path]:
    """Every file and folder among the values of the command that runs, but where it writes."""
    context = click.get_current_context(silent=True)
    for name, value in (context.params if context else {}).items():
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Path) and name not in ("out", "gallery"):
                yield one
            elif isinstance(one, str) and name.endswith("weights"):
                yield Path(one)


def _same(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except OSError:
        return False


def _what(path: Path) -> str:
    if path.is_dir():
        return "a file of"
    return "the picture" if path.suffix.lower() in (".png", ".jpg", ".jpeg") else "the file"


def _is_input_of(folder: Path, path: Path) -> bool:
    """Whether a file is one of those that a folder is read for, not one that was written there.

    Of what commands write, only PNG can be a picture of the user's.
    """
    from deconvviz.data.made_here import made_here

    return path.suffix.lower() == ".png" and folder.resolve() in path.resolve().parents and not made_here(path)
