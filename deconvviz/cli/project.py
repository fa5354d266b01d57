"""`deconvviz project`, the main job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deconvviz.cli.common import FORMATS, get_network, model_options, to_device
from deconvviz.cli.progress import Progress
from deconvviz.errors import DeconvvizError, ImageError, UnknownNameError, UnsupportedOperatorError

if TYPE_CHECKING:
    from deconvviz.network import Network
    from deconvviz.results import Projection


def parse_units(given: Sequence[str]) -> list[int] | None:
    """Return the units of `1,5-7` and the like, in the given order, or None for none given."""
    units: list[int] = []
    for part in ",".join(given).split(",") if given else ():
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise click.BadParameter(f"{part!r} is not a unit; allowed: 7, 1,5-7", param_hint="--unit")
        low, high = int(first), int(last) if dash else int(first)
        if high < low or high - low > 100_000:
            raise click.BadParameter(f"{part!r} is not a range of units", param_hint="--unit")
        units += range(low, high + 1)
    return list(dict.fromkeys(units)) or None


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@model_options
@click.option("--layer", required=True, help="An alias (5, conv5) or a module path.")
@click.option("--unit", "units", multiple=True, help="Maps to show, such as 7 or 1,5-7; may be repeated.")
@click.option("--top", type=click.IntRange(1), default=9, show_default=True, help="Number of strongest maps.")
@click.option("--place", nargs=2, type=int, help="Row and column of the map, instead of its strongest place.")
@click.option("--method", type=click.Choice(["deconvnet", "guided", "gradient"]), default="deconvnet")
@click.option("--overlap", type=click.Choice(["add", "overwrite", "max"]), default="add")
@click.option("--scale", type=click.Choice(["panel", "shared"]), default="panel", help="Contrast per panel.")
@click.option("--device", default="cpu", show_default=True, help="Where to compute, such as cpu or cuda.")
@click.option("--format", "kind", type=click.Choice(FORMATS), help="Default: by --out, else png.")
@click.option("--out", type=click.Path(path_type=Path), help="File (for one picture) or folder.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def project(images: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Show what the strongest maps of a layer respond to in IMAGES (pictures, or folders of them).

    \b
    Example:
      deconvviz project --model zfnet --layer 5 image.jpg
      deconvviz project --model zfnet --layer conv4 --unit 3,8-10 --out figures photos/
    """
    options["units"] = parse_units(options["units"])
    pictures = _pictures(images)
    single = _single(options["out"], options["kind"], pictures)
    net = get_network(options["model"], options["weights"], options["checkpoint"])
    to_device(net, options["device"])
    done: list[dict[str, object]] = []
    failed: list[dict[str, str]] = []
    taken: set[Path] = set()
    with Progress(len(pictures)) as progress:
        for picture in pictures:
            try:
                result = _compute(net, picture, options)
                path = single or _free(_name(picture, net, result, options), taken)
                result.save(path, **({} if path.suffix == ".npz" else {"scale": options["scale"]}))
            except DeconvvizError as error:
                # What is wrong for every picture ends the run; what is wrong with one must not lose the others.
                if len(pictures) == 1 or isinstance(error, (UnknownNameError, UnsupportedOperatorError)):
                    raise
                message = " ".join(str(error).split())
                named = message if str(picture) in message else f"{picture}: {message}"
                failed.append({"image": str(picture), "error": message})
                progress.problem(f"deconvviz: {named}")
            else:
                done.append({"image": str(picture), "file": str(path), **_facts(result)})
                if not as_json:
                    progress.result(str(path))
            progress.advance()
    if as_json:
        click.echo(json.dumps({"results": done, "failed": failed}))
    if failed:
        raise click.ClickException(f"{len(failed)} of {len(pictures)} pictures failed; see above")


def _compute(net: Network, picture: Path, options: dict[str, Any]) -> Projection:
    from deconvviz.projection import project as compute

    return compute(
        net,
        net.preprocess(picture),
        options["layer"],
        units=options["units"],
        top=options["top"],
        place=options["place"] or None,
        method=options["method"],
        overlap=options["overlap"],
    )


def _pictures(given: Sequence[Path]) -> list[Path]:
    from deconvviz.images import pictures_in

    try:
        return [p for path in given for p in (pictures_in(path) if path.is_dir() else [path])]
    except ImageError as error:
        raise click.UsageError(str(error)) from error


def _single(out: Path | None, kind: str | None, pictures: Sequence[Path]) -> Path | None:
    """Return --out if it names a file, None if a folder (made here) or not given."""
    if out is None:
        return None
    suffix = out.suffix[1:].lower()
    if out.is_dir() or not suffix:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.BadParameter(f"cannot make the folder {out}: {error.strerror}", param_hint="--out") from error
        return None
    if suffix not in FORMATS:
        raise click.BadParameter(
            f"cannot write .{suffix}; allowed: {', '.join(FORMATS)}, or a folder", param_hint="--out"
        )
    if kind and kind != suffix:
        raise click.UsageError(f"--format {kind} contradicts --out {out.name}")
    if len(pictures) > 1:
        raise click.UsageError(f"--out {out} is one file, but there are {len(pictures)} pictures; give a folder")
    if not out.parent.is_dir():
        raise click.BadParameter(f"the folder {out.parent} does not exist", param_hint="--out")
    if out.resolve() == pictures[0].resolve():
        raise click.UsageError(f"--out {out} would overwrite the picture itself")
    return out


def _name(picture: Path, net: Network, result: Projection, options: dict[str, Any]) -> Path:
    parts = (picture.stem, net.card.name.replace("/", "-"), result.name.replace("/", "-"))
    return (options["out"] or Path()) / f"{'-'.join(parts)}.{options['kind'] or 'png'}"


def _free(path: Path, taken: set[Path]) -> Path:
    """Return `path`, numbered if this run has written it already."""
    free, number = path, 2
    while free in taken:
        free, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    taken.add(free)
    return free


def _facts(result: Projection) -> dict[str, object]:
    return {k: v for k, v in result.facts().items() if k not in ("labels", "mean", "std")}
