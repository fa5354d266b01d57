"""`deconvviz project`, the main job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deconvviz.cli import _common as common
from deconvviz.cli._outputs import variant
from deconvviz.cli._pictures import PictureFiles

if TYPE_CHECKING:
    from deconvviz.analyses.projection.result import Projection
    from deconvviz.network.network import Network

ORDER = 10


@click.command(short_help="Show what the strongest maps of a layer respond to in a picture.")
@common.pictures_argument
@common.model_options
@common.layer_option
@click.option(
    "--unit", "units", multiple=True,
    help="Maps to show, such as 7 or 1,5-7; may be repeated. Or class: those that add most to --target.",
)  # fmt: skip
@common.target_options
@click.option("--top", type=click.IntRange(1), default=9, show_default=True, help="Number of strongest maps.")
@click.option(
    "--distinct/--no-distinct", default=None,
    help="Pass over strong maps within half a receptive field of one already shown. Default: in figures, not in npz "
    "and --json.",
)  # fmt: skip
@click.option("--place", nargs=2, type=int, help="Row and column of the map, instead of its strongest place.")
@common.method_options
@common.scale_option
@common.output_options
def project(images: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Show what the strongest maps of a layer respond to in IMAGES (pictures, or folders of them).

    \b
    Example:
      deconvviz project --model zfnet --layer 5 image.jpg
      deconvviz project --model zfnet --layer conv4 --unit 3,8-10 --out figures photos/
    """
    of_class = options["units"] == ("class",)
    options["units"] = "class" if of_class else common.parse_units(options["units"])
    if not of_class and any(options[name] for name in ("target", "target_place", "target_mask", "output")):
        raise click.UsageError("--target, --target-place, --target-mask and --output go with --unit class")
    pictures = PictureFiles(images, options["out"], options["kind"])
    if options["distinct"] is None:  # for people, who look; programs get what was strongest
        options["distinct"] = not as_json and common.suffix_of(options["out"], options["kind"]) != "npz"
    net = common.network_from(options)
    options["target"] = common.target_of(options, net)
    pictures.run(
        lambda picture, _: _compute(net, picture, options),
        lambda result: f"{net.card.name}-{result.name}{variant(options)}",
        {"scale": options["scale"]},
        as_json,
    )


def _compute(net: Network, picture: Path, options: dict[str, Any]) -> Projection:
    from deconvviz.analyses.projection.compute import project_one

    return project_one(
        net,
        picture,
        options["layer"],
        place=options["place"] or None,
        **{k: options[k] for k in ("units", "top", "method", "overlap", "distinct", "target", "output")},
    )
