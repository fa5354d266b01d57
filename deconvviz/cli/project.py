"""`deconvviz project`, the main job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deconvviz.cli.common import get_network, model_options

if TYPE_CHECKING:
    from deconvviz.network import Network
    from deconvviz.results import Projection

FORMATS = ("png", "pdf", "svg", "npz")


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
    units = parse_units(options["units"])
    pictures = _pictures(images)
    single = _single(options["out"], options["kind"], len(pictures))
    net = get_network(options["model"], options["weights"], options["checkpoint"])
    _to_device(net, options["device"])
    done: list[dict[str, object]] = []
    failed = 0
    taken: set[Path] = set()
    from deconvviz.projection import project as compute

    from deconvviz.errors import ImageError

    for picture in pictures:
        try:
            inputs = net.preprocess(picture)
        except ImageError as error:
            if len(pictures) == 1:
                raise
            click.echo(f"deconvviz: {error}", err=True)
            failed += 1
            continue
        result = compute(
            net,
            inputs,
            options["layer"],
            units=units,
            top=options["top"],
            place=options["place"] or None,
            method=options["method"],
            overlap=options["overlap"],
        )
        path = single or _free(_name(picture, net, result, options), taken)
        drawn = {} if path.suffix == ".npz" else {"scale": options["scale"]}
        result.save(path, **drawn)
        done.append({"image": str(picture), "file": str(path), **_facts(result)})
        if not as_json:
            click.echo(str(path))
    if as_json:
        click.echo(json.dumps({"results": done, "failed": failed}))
    if failed:
        raise click.ClickException(f"{failed} of {len(pictures)} pictures could not be read")


def _pictures(given: Sequence[Path]) -> list[Path]:
    from deconvviz.images import pictures_in

    return [p for path in given for p in (pictures_in(path) if path.is_dir() else [path])]


def _single(out: Path | None, kind: str | None, count: int) -> Path | None:
    """Return --out if it names a file, None if a folder (made here) or not given."""
    if out is None:
        return None
    suffix = out.suffix[1:].lower()
    if out.is_dir() or not suffix:
        out.mkdir(parents=True, exist_ok=True)
        return None
    if suffix not in FORMATS:
        raise click.BadParameter(
            f"cannot write .{suffix}; allowed: {', '.join(FORMATS)}, or a folder", param_hint="--out"
        )
    if kind and kind != suffix:
        raise click.UsageError(f"--format {kind} contradicts --out {out.name}")
    if count > 1:
        raise click.UsageError(f"--out {out} is one file, but there are {count} pictures; give a folder")
    if not out.parent.is_dir():
        raise click.BadParameter(f"the folder {out.parent} does not exist", param_hint="--out")
    return out


def _to_device(net: Network, device: str) -> None:
    try:
        net.module.to(device)
    except (RuntimeError, AssertionError) as error:
        raise click.BadParameter(f"cannot use {device!r}: {error}", param_hint="--device") from error


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
