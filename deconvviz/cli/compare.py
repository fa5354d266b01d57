"""`deconvviz compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deconvviz.cli import _common as common
from deconvviz.cli._outputs import variant
from deconvviz.cli._pictures import PictureFiles, readable
from deconvviz.cli._progress import Progress

ORDER = 25

# What deconvviz.compare takes without being told.
_DEFAULT = "deconvnet,guided,gradient,grad-cam,occlusion,random"
_MORE = "input-x-gradient, integrated-gradients, smoothgrad (these two by captum), layer-cam, edges"


@click.command(short_help="Show which pixels several methods name, and measure which is right.")
@common.pictures_argument
@common.model_options
@click.option(
    "--methods", "names", default=_DEFAULT, show_default=True, help=f"Names, with commas between. Besides: {_MORE}."
)
@common.target_options
@click.option(
    "--mode", type=click.Choice(["class", "unit"]), default="class", show_default=True,
    help="What is explained: the target's logit, or a unit of --layer where it is strongest.",
)  # fmt: skip
@click.option("--layer", help="The unit's; in class mode that of the CAMs. Default there: the last with a map.")
@click.option("--unit", type=click.IntRange(0), help="In unit mode. Default: the strongest.")
@click.option("--steps", type=click.IntRange(1), default=32, show_default=True, help="Of deletion and insertion.")
@click.option("--block", type=click.IntRange(1), default=1, show_default=True, help="Side of what changes at once.")
@click.option(
    "--order", type=click.Choice(["own", "signed", "absolute"]), default="own", show_default=True,
    help="How maps rank pixels: own is by size for sensitivities, by signed value for contributions.",
)  # fmt: skip
@click.option("--fill", default="grey", show_default=True, help="Deleted to: grey, blur, noise, a number or a colour.")
@click.option("--subsets", type=click.IntRange(0), default=32, show_default=True, help="Random sets; 0: none.")
@click.option("--seed", type=int, default=0, show_default=True, help="For all that is random.")
@click.option(
    "--scale", type=click.Choice(["share", "panel"]), default="share", show_default=True,
    help="Colours: one scale for all maps, or one for each.",
)  # fmt: skip
@click.option(
    "--table", type=click.Choice(common.TABLES), default="text", show_default=True, help="How the table is printed."
)
@common.batch_option
@common.output_options
def compare(
    images: tuple[Path, ...], names: str, out: Path | None, kind: str | None, as_json: bool, **options: Any
) -> None:
    """Ask several methods why the network answers as it does, and measure them against edges and noise.

    IMAGES are pictures, or folders of them. Of one picture the figure shows all maps on one scale, with deletion and
    insertion curves; of several the mean curves. The table has the areas under the curves, sensitivity-n and
    infidelity, over several pictures with standard errors.

    \b
    Example:
      deconvviz compare --model zfnet image.jpg --methods deconvnet,guided,gradient,grad-cam,occlusion,edges,random
      deconvviz compare --model zfnet --mode unit --layer conv4 --unit 7 image.jpg
      deconvviz compare --model zfnet --table latex photos/
    """
    net = common.network_from(options)
    pictures, unread = readable(PictureFiles(images, None, None).files)
    asked = "" if options["mode"] == "class" else f"-{options['layer']}"
    units = {"units": None if options["unit"] is None else [options["unit"]]}
    stem = f"{pictures[0].stem}-" if len(pictures) == 1 else ""
    path = common.output_file(out, kind, f"{stem}{net.card.name}-comparison{asked}{variant(units)}")
    from deconvviz.analyses.comparison.compute import compare as compute

    taken = ("layer", "mode", "unit", "steps", "block", "order", "subsets", "batch", "seed", "output")
    with Progress(100, "percent") as progress:
        result = compute(
            net,
            pictures[0] if len(pictures) == 1 else pictures,
            [name.strip() for name in names.split(",")],
            target=common.target_of(options, net) if options["mode"] == "class" else None,
            fill=common.parse_fill(options["fill"]),
            progress=progress.share,
            **{name: options[name] for name in taken},
        )
    common.write_result(result, path, as_json, result.table().render(options["table"]), scale=options["scale"])
    if unread:
        raise click.ClickException(f"{unread} of {unread + len(pictures)} pictures failed; see above")
