"""`deconvviz sanity`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deconvviz.cli import _common as common
from deconvviz.cli._outputs import variant
from deconvviz.cli._pictures import PictureFiles, Tick

if TYPE_CHECKING:
    from deconvviz.analyses.sanity.result import Sanity
    from deconvviz.network.network import Network

ORDER = 14

_OTHERS = 4  # pictures that each is compared with, at most


@click.command(short_help="Say whether the projections of a layer can be believed.")
@common.pictures_argument
@common.model_options
@common.layer_option
@click.option("--unit", "units", multiple=True, help="Maps to check, such as 7 or 1,5-7; may be repeated.")
@click.option("--top", type=click.IntRange(1), default=9, show_default=True, help="Number of strongest maps.")
@click.option("--most", type=click.IntRange(1), default=16, show_default=True, help="Layers looked at, at most.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random weights.")
@common.method_options
@common.output_options
def sanity(images: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Say whether the projections of a layer in IMAGES (pictures, or folders of them) can be believed.

    Weights are drawn anew layer by layer; the same unit is taken in other pictures (the other IMAGES, or this one
    mirrored and turned round), other units at the same place, the switches of another picture. One page a picture: the
    curves, and in words what the projections show and what they do not.

    \b
    Example:
      deconvviz sanity --model zfnet --layer 5 image.jpg
      deconvviz sanity --model zfnet --layer 5 --method guided photos/
    """
    pictures = PictureFiles(images, options["out"], options["kind"])
    options["units"] = common.parse_units(options["units"])
    net = common.network_from(options)
    pictures.run(
        lambda picture, tick: _compute(net, picture, pictures.files, options, tick),
        lambda result: f"{net.card.name}-{result.name}-sanity{variant(options)}",
        {},
        as_json,
        each=100,
    )


def _compute(net: Network, picture: Path, files: list[Path], options: dict[str, Any], tick: Tick) -> Sanity:
    from deconvviz.analyses.sanity.compute import sanity as compute

    taken = ("units", "top", "most", "seed", "method", "overlap")
    return compute(
        net, picture, options["layer"], others=_readable(picture, files) or None,
        progress=lambda done, total: tick(100 * done // total, 100), **{name: options[name] for name in taken},
    )  # fmt: skip


def _readable(picture: Path, files: list[Path]) -> list[Path]:
    """The pictures that come behind this one, and then from the first on; those that cannot be read are left out."""
    from deconvviz.data.images import read_image
    from deconvviz.errors import ImageError

    at = files.index(picture)
    found: list[Path] = []
    for other in [*files[at + 1 :], *files[:at]]:
        try:
            read_image(other)
        except ImageError:
            continue
        found.append(other)
        if len(found) == _OTHERS:
            break
    return found
