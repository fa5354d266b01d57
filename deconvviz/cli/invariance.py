"""`deconvviz invariance`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deconvviz.cli import _common as common
from deconvviz.cli._pictures import PictureFiles
from deconvviz.cli._progress import Progress

if TYPE_CHECKING:
    from deconvviz.network.network import Network

ORDER = 70

# The names of deconvviz.data.transforms, which torch comes with.
KINDS = ("translation", "horizontal", "scale", "rotation", "flip")
DEFAULT = ("translation", "scale", "rotation")
_VALUES = "START:STOP:STEP (both ends included) or numbers with commas"


def parse_values(given: str, option: str) -> list[float]:
    """Return the numbers of `-60:60:4` (both ends included) or `1,1.2,1.5`; anything else is a usage error."""
    wrong = click.BadParameter(f"{given!r} is not {_VALUES}", param_hint=option)
    try:
        if ":" not in given:
            return [float(part) for part in given.split(",")]
        start, stop, step = (float(part) for part in given.split(":"))
    except ValueError:
        raise wrong from None
    steps = (stop - start) / step if step else -1
    if not 0 <= steps < 100_000:
        raise wrong
    # From the ends and not by adding up, so that 0 and 1 are met exactly.
    return [round(start + k * step, 9) for k in range(int(steps + 1e-6) + 1)]


# One option for the values of each transform.
range_options = common.options(
    click.option(f"--{KINDS[0]}", metavar="VALUES", help=f"Values of this transform: {_VALUES}."),
    *(click.option(f"--{kind}", metavar="VALUES", help="As --translation.") for kind in KINDS[1:-1]),
)


@click.command(short_help="Show how features change as a picture is moved, scaled, turned.")
@common.pictures_argument
@common.model_options
@click.option("--label", "labels", multiple=True, help="True class, by name or number: one for all, or one each.")
@click.option("--transform", "transforms", multiple=True, type=click.Choice(KINDS), help="Default: the paper's three.")
@range_options
@click.option("--low", help="A low layer. Default: the lowest number among the aliases, such as 1.")
@click.option("--high", help="A high layer. Default: the highest number among the aliases, such as 7.")
@click.option("--fill", default="grey", show_default=True, help="Outside: grey, reflect, edge, a number or a colour.")
@click.option("--normalise", type=click.Choice(["none", "norm", "max"]), default="none", help="Of the drawn distances.")
@common.batch_option
@common.output_options
def invariance(images: tuple[Path, ...], out: Path | None, kind: str | None, as_json: bool, **options: Any) -> None:
    """Show how features and the answer change as IMAGES (pictures, or folders of them) are moved, scaled and turned.

    Without --label, a picture in a folder named like a class of the network is of that class; if one is not, the
    network's own top class of each picture is followed.

    \b
    Example:
      deconvviz invariance --model zfnet a.jpg b.jpg
      deconvviz invariance --model zfnet --transform flip --rotation 0:180:15 --label okapi a.jpg
    """
    chosen = _transforms(options)
    pictures = PictureFiles(images, None, None).files
    net = common.network_from(options)
    first = f"{pictures[0].stem}-" if len(pictures) == 1 else ""
    path = common.output_file(out, kind, f"{first}{net.card.name}-invariance")
    from deconvviz.analyses.invariance.compute import invariance as compute
    from deconvviz.data.made_here import check_regular

    for picture in pictures:
        check_regular(picture)
    with Progress(len(pictures)) as progress:
        result = compute(
            net,
            pictures,
            _labels(net, pictures, options["labels"]),
            chosen,
            options["low"],
            options["high"],
            common.parse_fill(options["fill"]),
            options["batch"],
            progress.share,
        )
    common.write_result(result, path, as_json, normalise=options["normalise"])


def _transforms(options: dict[str, Any]) -> dict[str, list[float] | None]:
    """What was asked for, in the order of `KINDS`; values add their transform to those that are named."""
    named = options["transforms"] or DEFAULT
    values = {k: parse_values(options[k], f"--{k}") for k in KINDS[:-1] if options[k] is not None}
    return {k: values.get(k) for k in KINDS if k in named or k in values}


def _labels(net: Network, pictures: Sequence[Path], given: Sequence[str]) -> list[int | str] | None:
    known = net.card.labels
    if given:
        each = list(given) * (len(pictures) if len(given) == 1 else 1)
        return [int(g) if g.isdecimal() and g not in known else g for g in each]
    folders = [p.resolve().parent.name for p in pictures]
    return list(folders) if all(f in known for f in folders) else None
