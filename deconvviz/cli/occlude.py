"""`deconvviz occlude`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deconvviz.cli import _common as common
from deconvviz.cli._outputs import variant
from deconvviz.cli._pictures import PictureFiles, Tick

if TYPE_CHECKING:
    from deconvviz.analyses.occlusion.result import Occlusion
    from deconvviz.card import Card
    from deconvviz.network.network import Network

ORDER = 20

_FILLS = ("grey", "mean", "blur", "noise")


def _pair(_: click.Context, option: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """`32` or `32x48` (rows x columns)."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(p.strip().isdecimal() and int(p) > 0 for p in parts):
        raise click.BadParameter(f"{text!r} is not a size; allowed: 32, or 32x48 (rows x columns)", param=option)
    return int(parts[0]), int(parts[-1])


def _fill(_: click.Context, option: click.Parameter, text: str) -> str | float | list[float]:
    fill = common.parse_fill(text)
    if fill in _FILLS or not isinstance(fill, str):
        return fill
    from deconvviz.errors import suggest

    allowed = f"{', '.join(_FILLS)}, a number, or one for each channel such as 0.5,0,-1"
    raise click.BadParameter(f"{text!r} is not a fill{suggest(text, _FILLS)} (allowed: {allowed})", param=option)


def _range(_: click.Context, option: click.Parameter, text: str | None) -> tuple[float, float] | None:
    """`0.2:0.9`, or `-5:5`."""
    if text is None:
        return None
    low, colon, high = text.partition(":")
    try:
        ends = float(low), float(high)
    except ValueError:
        ends = float("nan"), float("nan")
    if not (colon and all(map(math.isfinite, ends)) and ends[0] < ends[1]):
        raise click.BadParameter(f"{text!r} is not a range; allowed: LOW:HIGH, such as 0:1 or -5:5", param=option)
    return ends


@click.command(short_help="Show what the network makes of a picture with each place covered.")
@common.pictures_argument
@common.model_options
@common.target_options
@click.option("--window", callback=_pair, help="Size of the occluder: 32, or 32x48. Default: a seventh of the input.")
@click.option("--stride", callback=_pair, help="Step: 8, or 8x16. Default: a quarter of the window.")
@click.option(
    "--fill", callback=_fill, default="grey", show_default=True,
    help="grey or mean (the mean colour), blur, noise, or numbers in the scale of the network's input.",
)  # fmt: skip
@click.option("--mask", type=common.FILE,
              help="Picture of the occluder's shape: what is light covers. Its size is the window.")  # fmt: skip
@click.option("--layer", help="Alias, module path, or none. Default: layer 5 if the network has one.")
@click.option("--positions", type=click.Choice(["all", "captum"]), default="all", show_default=True,
              help="captum cuts the last window at the border.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="For --fill noise.")
@common.method_option
@click.option("--view", type=click.Choice(["paper", "attribution"]), default="paper", show_default=True)
@click.option(
    "--range", "ends", metavar="LOW:HIGH", callback=_range,
    help="Ends of the colours, for all IMAGES. Default: 0:1; in attribution, the largest drop in any of them on either "
    "side of none.",
)  # fmt: skip
@click.option("--overlay", is_flag=True, help="Lay the colours over the photograph.")
@click.option("--batch", type=click.IntRange(1), default=64, show_default=True, help="Bounds the memory.")
@common.output_options
def occlude(images: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Cover one place after the other of IMAGES (pictures, or folders of them) and show what the network says.

    Writes the paper's Fig. 7 for each picture, or (npz) the logits of every position.

    \b
    Example:
      deconvviz occlude --model zfnet --window 32 --stride 8 image.jpg
      deconvviz occlude --model zfnet --window 64 --fill blur --target cup --view attribution photos/
    """
    pictures = PictureFiles(images, options["out"], options["kind"])
    net = common.network_from(options)
    options["mask"] = None if options["mask"] is None else common.read_mask(options["mask"])
    options["window"] = options["window"] or _window(net, options["mask"])
    options["stride"] = options["stride"] or tuple(max(side // 4, 1) for side in options["window"])
    options["target"] = common.target_of(options, net)
    options["layer"] = _layer(options["layer"], net.card)
    low, high = options["ends"] or (None, None)
    colours = common.suffix_of(options["out"], options["kind"]) != "npz"
    pictures.run(
        lambda picture, tick: _compute(net, picture, options, tick),
        lambda _: f"{net.card.name}-occlusion{variant(options)}",
        {"kind": options["view"], "overlay": options["overlay"] or None, "vmin": low, "vmax": high},
        as_json,
        each=_positions(net, options),
        what="positions",
        shared=_OneScale() if colours and options["view"] == "attribution" and options["ends"] is None else None,
    )


class _OneScale:
    """The ends of the colours by the largest drop in any of the pictures."""

    def __init__(self) -> None:
        self._most = 0.0

    def __call__(self, result: Occlusion | None) -> dict[str, Any]:
        from deconvviz.analyses.occlusion.figure import largest_drop

        if result is not None:
            self._most = max(self._most, largest_drop([result]))
        return {"vmin": -(self._most or 1.0), "vmax": self._most or 1.0}


def _compute(net: Network, picture: Path, options: dict[str, Any], tick: Tick) -> Occlusion:
    from deconvviz.analyses.occlusion.compute import occlude as compute
    from deconvviz.analyses.occlusion.result import Occlusion

    taken = ("target", "window", "stride", "fill", "layer", "batch", "mask", "positions", "seed", "method", "output")
    result = compute(net, picture, progress=tick, **{name: options[name] for name in taken})
    assert isinstance(result, Occlusion)  # one picture, one result
    return result


def _window(net: Network, mask: Any) -> tuple[int, int]:
    """The mask's size, else 32 for the 224 pixels of ImageNet's networks and as much of other inputs."""
    if mask is not None:
        return int(mask.shape[0]), int(mask.shape[1])
    side = max(round(min(net.card.input_size) / 7), 1)
    return side, side


def _layer(text: str | None, card: Card) -> str | None:
    if text is None:
        return "5" if "5" in card.aliases else None
    return None if text == "none" else text


def _positions(net: Network, options: dict[str, Any]) -> int:
    """How many positions a picture has, for the progress bar."""
    sides: tuple[int, int] = options["window"]
    steps: tuple[int, int] = options["stride"]
    rows, cols = (
        -(-max(full - side, 0) // step) + 1 for full, side, step in zip(net.card.input_size, sides, steps, strict=True)
    )
    return rows * cols
