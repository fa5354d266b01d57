"""Commands that make one file of each of several pictures: which pictures, which files, and what may go wrong."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deconvviz.cli import _common as common
from deconvviz.cli._outputs import file_name, write_output
from deconvviz.cli._progress import Progress
from deconvviz.errors import DeconvvizValueError, ImageError, UnknownNameError, UnsupportedOperatorError, said

if TYPE_CHECKING:
    from deconvviz.results.base import Result

R = TypeVar("R", bound="Result")
# Called with how much of a picture is done, and of how much.
Tick = Callable[[int, int], object]


class PictureFiles:
    """The pictures of one run and the files that come of them.

    `given` are pictures and folders of them, `out` is `--out` (a file for one picture, else a folder, made here),
    `kind` is `--format`, one of `formats`. What cannot be read or written at all is a usage error before anything is
    computed.
    """

    def __init__(
        self, given: Sequence[Path], out: Path | None, kind: str | None, formats: Sequence[str] = common.FORMATS
    ) -> None:
        self.files = _pictures(given)
        self._single = _single(out, kind, self.files, formats)
        self._out, self._kind = out, kind
        self._taken: set[Path] = set()

    def run(
        self,
        compute: Callable[[Path, Tick], R],
        name: Callable[[R], str],
        figure: dict[str, Any],
        as_json: bool,
        each: int = 1,
        what: str = "",
        shared: Callable[[R | None], dict[str, Any]] | None = None,
    ) -> None:
        """Compute and save a result for each picture, `<picture>-<name>.<kind>`, and print the files or the facts.

        The progress bar counts `each` steps of `what` a picture. A picture that fails loses no other one, but what is
        wrong for every picture ends the run. `shared` is shown every result, and at the end, called with None, gives
        options of all figures: with several pictures no file is written before.
        """
        from deconvviz.data.made_here import check_regular
        from deconvviz.data.noise import quiet_decoders

        quiet_decoders()
        waits = shared is not None and len(self.files) > 1
        with Progress(each * len(self.files), what) as progress, tempfile.TemporaryDirectory() as spool:
            told = _Told(progress, as_json, len(self.files))
            waiting: list[tuple[Path, Path, Path, type[R]]] = []
            for n, picture in enumerate(self.files):
                with told.surviving(picture):
                    check_regular(picture)
                    result = compute(picture, partial(_tick, progress, n * each))
                    path = self._single or self._free(picture, name(result))
                    self._check(path)
                    if waits and shared is not None:
                        shared(result)
                        waiting.append((picture, path, result.save(Path(spool, f"{n}.npz")), type(result)))
                    else:
                        told.written(picture, write_output(result, path, **figure), result)
                progress.reach((n + 1) * each)
            if waits and shared is not None:
                figure = {**figure, **shared(None)}
            for picture, path, kept, kind in waiting:
                with told.surviving(picture):
                    result = kind.load(kept)
                    told.written(picture, write_output(result, path, **figure), result)
        told.end()

    def _free(self, picture: Path, name: str) -> Path:
        """A path for this picture's file, numbered if this run has written it already."""
        folder, ending = self._out or Path(), f".{self._kind or 'png'}"
        free, number = folder / file_name(picture.stem, f"-{name}{ending}", folder), 2
        while free in self._taken:
            free = folder / file_name(picture.stem, f"-{name}-{number}{ending}", folder)
            number += 1
        self._taken.add(free)
        return free

    def _check(self, path: Path) -> None:
        """Raise `DeconvvizValueError` if `path` is one of the pictures, by whatever name."""
        if path.exists() and any(_is(path, picture) for picture in self.files):
            raise DeconvvizValueError(f"{path} would overwrite the picture of that name; give another --out")


class _Told:
    """What is said of the pictures of a run: the files that came of them, and what went wrong."""

    def __init__(self, progress: Progress, as_json: bool, count: int) -> None:
        self._progress, self._as_json, self._count = progress, as_json, count
        self._done: list[dict[str, object]] = []
        self._failed: list[dict[str, str]] = []

    @contextlib.contextmanager
    def surviving(self, picture: Path) -> Iterator[None]:
        """Whatever goes wrong with one of several pictures is told, and ends here."""
        try:
            yield
        # Whatever a malformed picture makes Pillow, or anything behind it, raise.
        except Exception as error:
            if self._count == 1 or isinstance(error, UnknownNameError | UnsupportedOperatorError):
                raise
            message = said(error)
            named = message if str(picture) in message else f"{picture}: {message}"
            self._failed.append({"image": str(picture), "error": message})
            self._progress.problem(f"deconvviz: {named}")

    def written(self, picture: Path, path: Path, result: Result) -> None:
        self._done.append({"image": str(picture), "file": str(path), **_facts(result)})
        if not self._as_json:
            self._progress.result(path)

    def end(self) -> None:
        """Print the facts, if they are asked for; an error if a picture has failed."""
        if self._as_json:
            click.echo(json.dumps({"results": self._done, "failed": self._failed}))
        if self._failed:
            raise click.ClickException(f"{len(self._failed)} of {self._count} pictures failed; see above")


def readable(files: Sequence[Path]) -> tuple[list[Path], int]:
    """Those of several pictures that can be read, and how many cannot: these are named on stderr.

    For commands that make one result of all; a single picture is left to them.
    """
    from deconvviz.data.images import read_image
    from deconvviz.data.made_here import check_regular
    from deconvviz.data.noise import quiet_decoders

    quiet_decoders()
    found: list[Path] = []
    for picture in files:
        try:
            if len(files) > 1:
                check_regular(picture)
                read_image(picture)
        except ImageError as error:
            click.echo(f"deconvviz: {error}", err=True)
            continue
        found.append(picture)
    if not found:
        raise click.ClickException("none of the pictures can be read")
    return found, len(files) - len(found)


def _is(path: Path, picture: Path) -> bool:
    return picture.exists() and path.samefile(picture)


def _tick(progress: Progress, before: int, done: int, total: int) -> None:
    progress.reach(before + done)


def _pictures(given: Sequence[Path]) -> list[Path]:
    from deconvviz.data.listing import pictures_in

    try:
        return [p for path in given for p in (pictures_in(path) if path.is_dir() else [path])]
    except ImageError as error:
        raise click.UsageError(str(error)) from error


def _single(out: Path | None, kind: str | None, pictures: Sequence[Path], formats: Sequence[str]) -> Path | None:
    """Return --out if it names a file, None if a folder (made here) or not given."""
    if out is None:
        return None
    path = common.output_file(out, kind, "in a folder", formats)
    if path != out:
        return None
    if len(pictures) > 1:
        raise click.UsageError(f"--out {out} is one file, but there are {len(pictures)} pictures; give a folder")
    return out


def _facts(result: Result) -> dict[str, object]:
    return {k: v for k, v in result.facts().items() if k not in ("labels", "mean", "std")}
