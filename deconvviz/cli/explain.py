"""`deconvviz explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deconvviz.cli import _common as common
from deconvviz.cli._outputs import overwrite_option
from deconvviz.cli._pictures import PictureFiles, Tick

if TYPE_CHECKING:
    from deconvviz.analyses.explanation.result import Explanation
    from deconvviz.network.network import Network

ORDER = 12

FORMATS = (*common.FORMATS, "html", "json")


@click.command(short_help="One page about a picture: what the network thinks of it, and why.")
@common.pictures_argument
@common.network_options(default="zfnet", show_default=True)
@common.target_options
@common.layers_option(default="the numbered ones, else the last of each size")
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Units of each layer.")
@click.option(
    "--method", type=click.Choice(["deconvnet", "guided", "gradient"]),
    help="Default: deconvnet, or guided where no max pool lies on the way.",
)  # fmt: skip
@click.option("--checks/--no-checks", default=True, help="Say how far the projections can be believed. Default: yes.")
@common.device_option
@click.option("--out", type=click.Path(path_type=Path), help="File or folder.")
@click.option("--format", "kind", type=click.Choice(FORMATS), help="Default: by --out, else png.")
@overwrite_option
@common.json_option
def explain(images: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Say on one page what the network thinks of each of IMAGES (pictures, or folders of them), and why.

    Its five classes; what drives the answer (occlusion, Grad-CAM); for each stage the units that add most to the class,
    projected, and what the class loses without each; how far these projections can be believed.

    \b
    Example:
      deconvviz explain photo.jpg
      deconvviz explain photo.jpg --model torchvision:resnet50 --out why.html
    """
    pictures = PictureFiles(images, options["out"], options["kind"], FORMATS)
    layers = common.parse_layers(options["layers"])
    net = common.network_from(options)
    options["target"] = common.target_of(options, net)
    pictures.run(
        lambda picture, tick: _compute(net, picture, layers, options, tick),
        lambda _: f"{net.card.name}-explanation",
        {},
        as_json,
        each=100,
    )


def _compute(net: Network, picture: Path, layers: list[str] | None, options: dict[str, Any], tick: Tick) -> Explanation:
    from deconvviz.analyses.explanation.compute import explain as compute

    return compute(
        net, picture, layers=layers, progress=lambda done, total: tick(100 * done // total, 100),
        **{name: options[name] for name in ("target", "top", "method", "checks", "output")},
    )  # fmt: skip
