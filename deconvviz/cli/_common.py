"""What several commands share: the model options and how they become a network."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deconvviz.cli._outputs import check_output, file_name, overwrite_option, write_output

if TYPE_CHECKING:
    from deconvviz.network.network import Network
    from deconvviz.results.base import Result
    from deconvviz.scanning.store import Store

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)
FORMATS = ("png", "pdf", "svg", "npz")
# Those of deconvviz.results.table, which torch comes with.
TABLES = ("text", "markdown", "latex", "html")
# What `--fit` says, as `Network(crop=…)`.
FITS = {"crop": "center", "letterbox": "letterbox", "stretch": None}
Options = Callable[[Callable[..., Any]], Callable[..., Any]]


def options(*several: Options) -> Options:
    """Several options as one decorator, the first one first in the help."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(several):
            command = option(command)
        return command

    return add


MODEL = "In the zoo, or torchvision:NAME, timm:NAME, hf-hub:ORG/NAME, package.module:callable, file.py:callable."


def network_options(weights: str = "what the model has", model: str = "", **more: Any) -> Options:
    """Add the options that `get_network` takes; `weights` and `model` say their defaults, `more` is for `--model`."""
    return options(
        click.option("--model", help=f"{MODEL}{model}", **more),
        click.option("--weights", help=f"A name that the model has for some, random, or a file. Default: {weights}."),
        click.option("--checkpoint", type=FILE, help="The same as --weights FILE."),
        preprocessing_options,
    )


def _numbers(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """`0.5` or `0.485,0.456,0.406`."""
    if value is None:
        return None
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r}; allowed: one number per channel, such as 0.485,0.456,0.406") from None


def _sides(ctx: click.Context, option: click.Parameter, value: str | None) -> int | tuple[int, int] | None:
    """`224`, or `HEIGHTxWIDTH`."""
    if value is None:
        return None
    found = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", value)
    if found is None:
        raise click.BadParameter(f"{value!r}; allowed: a number of pixels, or HEIGHTxWIDTH")
    return (int(found[1]), int(found[2])) if found[2] else int(found[1])


def _class_names(ctx: click.Context, option: click.Parameter, value: Path | None) -> tuple[str, ...] | None:
    """The names in a text file or a JSON file."""
    if value is None:
        return None
    from deconvviz.errors import DeconvvizError
    from deconvviz.network.labels import class_names

    try:
        return class_names(value)
    except DeconvvizError as error:
        raise click.BadParameter(str(error)) from error


# What is said of a model's preprocessing and classes where its own is another, or unknown; see `get_network`.
preprocessing_options = options(
    click.option("--size", callback=_sides, help="Input size: pixels, or HEIGHTxWIDTH. Default: the model's."),
    click.option("--resize", callback=_sides, help="Length of the shorter side before the crop, or HEIGHTxWIDTH."),
    click.option(
        "--fit", type=click.Choice(list(FITS)), help="How a picture fits the input: its middle, framed, or squeezed."
    ),
    click.option("--mean", callback=_numbers, help="Mean of each channel, of pixels in 0 to 1: 0.485,0.456,0.406."),
    click.option("--std", callback=_numbers, help="Standard deviation of each channel."),
    click.option(
        "--labels",
        "class_names",
        type=FILE,
        callback=_class_names,
        help="File of class names: one a line, or a list or mapping as JSON.",
    ),
    click.option("--allow-nonfinite", is_flag=True, help="Take weights and pictures with NaN or infinity."),
)
PREPROCESSING = ("size", "resize", "fit", "mean", "std", "class_names", "allow_nonfinite")


model_options = network_options(required=True)
# A store, and what may be said of its network and pictures; see `network_of`.
scanned_options = options(
    network_options("as the store says", " Default: as the store says."),
    click.option("--images", type=FOLDER, help="Folder of the scanned pictures. Default: where they were."),
)
store_options = options(
    click.option("--store", required=True, type=FILE, help="What deconvviz scan has written."), scanned_options
)
# How units are sent back.
method_option = click.option("--method", type=click.Choice(["deconvnet", "guided", "gradient"]), default="deconvnet")
method_options = options(
    method_option,
    click.option("--overlap", type=click.Choice(["add", "overwrite", "max"]), default="add"),
)
# Which class is asked about, and where it is read; see `target_of`.
target_options = options(
    click.option("--target", help="Class, as label or number. Default: the picture's most probable."),
    click.option("--target-place", nargs=2, type=int, help="Row and column of a dense output. Default: its mean."),
    click.option("--target-mask", type=FILE, help="Picture of the places of a dense output: what is light counts."),
    click.option("--output", help="Which of several outputs holds class scores: its name, or its number in a tuple."),
)
scale_option = click.option(
    "--scale", type=click.Choice(["panel", "shared"]), default="panel", help="Contrast per panel."
)
pictures_argument = click.argument("images", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
layer_option = click.option("--layer", required=True, help="One layer: an alias (5, conv5) or a module path.")
data_option = click.option(
    "--data", required=True, type=FOLDER,
    help="Folder with one folder of pictures per category, or with the files of (Fashion-)MNIST or CIFAR.",
)  # fmt: skip
batch_option = click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Pictures at once.")
device_option = click.option(
    "--device", default="cpu", show_default=True, help="Where to compute, such as cpu or cuda."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
# For a command that computes and writes one file; see `output_file`.
output_options = options(
    device_option,
    click.option("--out", type=click.Path(path_type=Path), help="File or folder."),
    click.option("--format", "kind", type=click.Choice(FORMATS), help="Default: by --out, else png."),
    overwrite_option,
    json_option,
)


def layers_option(name: str = "--layer", default: str | None = None) -> Options:
    """Add an option for several layers, as `parse_layers` reads them; `default` says what is taken without it."""
    text = "Layers: aliases or module paths, such as 1-5,7 or conv3; may be repeated."
    return click.option(
        name,
        "layers",
        multiple=True,
        required=default is None,
        help=text + (f" Default: {default}." if default else ""),
    )


def said_of_preprocessing(options: Mapping[str, Any]) -> list[str]:
    """The options of `preprocessing_options` again, as they were given; class names are not said."""
    parts: list[str] = []
    for key in ("size", "resize", "fit", "mean", "std"):
        value = options.get(key)
        if isinstance(value, tuple):
            value = ("x" if key in ("size", "resize") else ",").join(f"{v:g}" for v in value)
        if value is not None:
            parts += [f"--{key}", str(value)]
    return parts + ["--allow-nonfinite"] * bool(options.get("allow_nonfinite"))


def preprocessing_given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `preprocessing_options` that were given, as arguments of `load`."""
    given = {key: value for key, value in options.items() if key in PREPROCESSING and value not in (None, False)}
    for option, argument in (("size", "input_size"), ("class_names", "labels")):
        if option in given:
            given[argument] = given.pop(option)
    if "fit" in given:
        given["crop"] = FITS[given.pop("fit")]
    return given


def get_network(
    model: str, weights: str | None, checkpoint: Path | None = None, said: Mapping[str, Any] | None = None
) -> Network:
    """Return the network that the options name, its preprocessing as is `said`; contradictions are a usage error."""
    from deconvviz.network.load import load, looks_like_a_path

    if checkpoint is not None:
        if weights is not None:
            raise click.UsageError("give either --weights or --checkpoint, not both")
        weights = str(checkpoint)
    named = weights is None or not looks_like_a_path(weights)
    if not named and not Path(str(weights)).is_file():
        raise click.BadParameter(f"no such file: {weights}", param_hint="--weights")
    given = preprocessing_given(said or {})
    net: Network = load(model, weights, **given)
    if net.card.weights is not None and net.card.weights.note is not None:
        click.echo(f"deconvviz: {net.card.weights.note}", err=True)
    return net


def network_from(options: Mapping[str, Any]) -> Network:
    """Return the network that `--model` and the options beside it name, on `--device`."""
    net = get_network(options["model"], options["weights"], options["checkpoint"], options)
    try:
        net.module.to(options["device"])
    except (RuntimeError, AssertionError) as error:
        raise click.BadParameter(f"cannot use {options['device']!r}: {error}", param_hint="--device") from error
    return net


def site_of(store: Path) -> Path:
    """Where the site of a store is, if nothing else is said."""
    return Path(f"{store.stem}-site")


def network_of(store: Store, options: Mapping[str, Any]) -> Network:
    """Return the network that a store was made with: what the options name, else what the store says of it.

    A store whose network cannot be found by its name is a usage error that says what to give.
    """
    from deconvviz.models import registry

    model, weights, checkpoint = (options[name] for name in ("model", "weights", "checkpoint"))
    known = store.facts["model"]
    source, _, detail = str(known["weights"]).partition(": ")
    if model is None:
        if "spec" not in known and known["name"] not in registry.names():
            raise click.UsageError(
                f"{store.path} was made with {known['name']}, which is not in the zoo; "
                "give --model package.module:callable"
            )
        model = str(known.get("spec", known["name"]))
        if weights is None and checkpoint is None:
            if source == "file":
                raise click.UsageError(
                    f"{store.path} was made with weights from a file ({detail}); give --weights FILE"
                )
            # A repository's own weights, and those that a callable makes, have no name to be asked for by.
            weights = None if source in ("hub", "given") else source
    return network_from({**options, "model": model, "weights": weights})


def target_of(options: Mapping[str, Any], net: Network) -> Any:
    """Return what `target_options` say as an argument `target`; a label first: those of some data sets are digits."""
    text, place, mask = (options[name] for name in ("target", "target_place", "target_mask"))
    label = int(text) if text is not None and text not in net.card.labels and text.isdecimal() else text
    if place and mask is not None:
        raise click.UsageError("give either --target-place or --target-mask, not both")
    return label if not place and mask is None else (label, place or read_mask(mask))


def read_mask(path: Path) -> Any:
    """Return what is light in a picture, as a boolean array (H, W)."""
    import numpy as np

    from deconvviz.data.images import read_image

    return np.asarray(read_image(path).convert("L")) >= 128


def parse_layers(given: Sequence[str]) -> list[str] | None:
    """Return the layers of `1-5,7` or `conv1,features.3`, in the given order, or None for none given."""
    layers: list[str] = []
    for part in ",".join(given).split(",") if given else ():
        span = re.fullmatch(r"(\d{1,4})-(\d{1,4})", part.strip())
        if not part.strip() or (span and int(span[1]) > int(span[2])):
            raise click.BadParameter(f"{part!r} is no layer; allowed: 1-5,7 or names", param_hint="--layer")
        layers += map(str, range(int(span[1]), int(span[2]) + 1)) if span else [part.strip()]
    return list(dict.fromkeys(layers)) or None


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


def parse_fill(given: str) -> str | float | list[float]:
    """Return a fill of `deconvviz.data.transforms.warp`: its name, a number, or a colour such as `0,0,0`."""
    try:
        numbers = [float(part) for part in given.split(",")]
    except ValueError:
        return given
    return numbers[0] if len(numbers) == 1 else numbers


def output_file(out: Path | None, kind: str | None, name: str, formats: Sequence[str] = FORMATS) -> Path:
    """Return where a command writes its one file: `--out`, or `name` in the folder that it is, or here.

    What cannot be written is a usage error, as is what the command reads; a folder that does not exist yet is made.
    """
    ending = f".{kind or 'png'}"
    if out is None:
        return _writable(Path(file_name(name, ending, Path())))
    suffix = out.suffix[1:].lower()
    if out.is_dir() or not suffix:
        return _writable(make_folder(out) / file_name(name, ending, out))
    if suffix not in formats:
        raise click.BadParameter(
            f"cannot write .{suffix}; allowed: {', '.join(formats)}, or a folder", param_hint="--out"
        )
    if kind and kind != suffix:
        raise click.UsageError(f"--format {kind} contradicts --out {out.name}")
    if not out.parent.is_dir():
        raise click.BadParameter(f"the folder {out.parent} does not exist", param_hint="--out")
    return _writable(out)


def suffix_of(out: Path | None, kind: str | None) -> str:
    """What a command writes: what `--format` says, else what `--out` ends in, if it is one of `FORMATS`, else png."""
    suffix = "" if out is None else out.suffix[1:].lower()
    return kind or (suffix if suffix in FORMATS else "png")


def make_folder(out: Path) -> Path:
    """Return the folder `out`, made if need be; a usage error if that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.BadParameter(f"cannot make the folder {out}: {error.strerror}", param_hint="--out") from error
    return out


def _writable(path: Path) -> Path:
    # Said now, not after the computation.
    if not os.access(path.parent, os.W_OK):
        raise click.BadParameter(f"cannot write in the folder {path.parent.resolve()}", param_hint="--out")
    check_output(path)
    return path


def write_result(
    result: Result, path: Path, as_json: bool, before: str = "", pasted: bool = False, **figure: Any
) -> None:
    """Save a result, with the options `figure` of its figure, and print its facts as JSON, or `before` and the file.

    A table that is to be `pasted` elsewhere stands alone on stdout.
    """
    write_output(result, path, **figure)
    if as_json:
        click.echo(json.dumps({"file": str(path), **result.facts()}))
        return
    click.echo(before, nl=False)
    print_path(path, err=pasted)


def print_path(path: Path | str, err: bool = False) -> None:
    """Print a path; one that is no text, as the bytes that it is."""
    try:
        text: str | bytes = str(path)
        str(path).encode(getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = os.fsencode(path)
    click.echo(text, err=err)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: folded to a terminal's width, names whole; else as wide as it is."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for n, heading in enumerate(headings):
        table.add_column(heading, no_wrap=n == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 10_000
    Console(width=width, markup=False, highlight=False).print(table)
