"""`deconvviz train`."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import click

from deconvviz.cli import _common as common
from deconvviz.cli._progress import Stages

ORDER = 170
_TESTED = (("test", "test"), ("test_ten_crops", "ten crops"))


def _stages(_: click.Context, __: click.Parameter, text: str | None) -> tuple[tuple[int, int], ...] | None:
    if text is None:
        return None
    parts = [re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", part.strip()) for part in text.split(",")]
    if not all(parts):
        raise click.BadParameter(f"'{text}' is not of the form EPOCHSxSIZE,EPOCHSxSIZE, such as 61x112,3x224")
    return tuple((int(part[1]), int(part[2])) for part in parts if part)


@click.command(short_help="Train a network on a folder of pictures.")
@click.option("--model", required=True, help="Name in the zoo.")
@common.data_option
@click.option("--out", required=True, type=common.NEW_FOLDER, help="Folder for checkpoints and metrics.")
@click.option("--recipe", help="zfnet, paper, small or lenet. Default: what suits the model.")
@click.option("--epochs", type=click.IntRange(1), help="Default: the recipe's.")
@click.option("--size", type=click.IntRange(1), help="Input size, instead of the recipe's growing one.")
@click.option("--stages", callback=_stages, help="Epochs and input size, one after the other: 61x112,3x224.")
@click.option("--batch", type=click.IntRange(1), help="Default: the recipe's.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), help="Default: the recipe's.")
@click.option("--flip", type=click.FloatRange(0, 1), help="Share of mirrored pictures. Default: the recipe's.")
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), help="Default: the recipe's, float32.")
@click.option("--teacher", help="Learn from this network too: a name of the zoo or of timm.")
@click.option("--teacher-weights", help="File with the teacher's weights, or their name in the zoo.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--workers", type=click.IntRange(0), default=1, show_default=True, help="Processes for data.")
@click.option("--per-category", type=click.IntRange(1), help="Train on so many of each, test on up to 50 others.")
@click.option(
    "--test",
    "fraction",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.12,
    show_default=True,
    help="Share of each category that is looked at once, at the end.",
)
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.12,
    show_default=True,
    help="Share of each category by which the best epoch is chosen; 0: the last one.",
)
@click.option("--data-source", help="Name and licence of the pictures, for the written files.")
@click.option(
    "--test-every",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Epochs between looks at the validation pictures; those of kept checkpoints always get one.",
)
@click.option("--weights", type=common.FILE, help="File with weights to start from.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out.")
@click.option("--fresh", is_flag=True, help="Start again, over what is in --out.")
@click.option("--evolve", is_flag=True, help="At the end draw how features evolved, as `deconvviz evolve` does.")
@click.pass_context
def train(
    context: click.Context,
    /,
    model: str,
    data: Path,
    out: Path,
    resume: bool,
    fresh: bool,
    evolve: bool,
    **options: Any,
) -> None:
    """Train a network on a folder of pictures; Ctrl-C stops it, --resume goes on.

    \b
    Example:
      deconvviz train --model zfnet --data photos/ --out run
      deconvviz train --model lenet --data fashion-mnist/ --out run --epochs 8
      deconvviz train --model resnet18_32 --data cifar-100-binary/ --out run --evolve
      deconvviz train --model zfnet --data photos/ --out run --teacher tf_efficientnet_lite0 --teacher-weights lite0.pth
      torchrun --nproc-per-node 2 -m deconvviz train --model zfnet --data photos/ --out run
    """
    if resume and fresh:
        raise click.UsageError("--resume contradicts --fresh")
    last = out / "last.pt"
    if last.is_file() and not (resume or fresh):
        raise click.UsageError(f"{last} is there already; give --resume to go on, --fresh to overwrite it")
    if resume and not last.is_file():
        raise click.UsageError(f"nothing to resume: there is no {last}")
    stages, epochs, size = (options[name] for name in ("stages", "epochs", "size"))
    if stages and (epochs or size):
        raise click.UsageError("--stages contradicts --epochs and --size")
    if options["teacher_weights"] and not options["teacher"]:
        raise click.UsageError("--teacher-weights needs --teacher")
    from deconvviz.training import Changes, leads
    from deconvviz.training import train as run
    from deconvviz.training.plan import recipe_of

    with Stages() as bars:
        report = partial(_report, bars)
        lines = run(model, data, out, resume=resume, fresh=fresh, report=report, shown=bars.report, **options)
    if not leads():
        return
    unreadable = out / "unreadable.txt"
    if unreadable.is_file():
        count = len(unreadable.read_text(encoding="utf-8").splitlines())
        click.echo(f"{count} pictures could not be read and were left out; see {unreadable}", err=True)
    if "test" in lines[-1]:
        parts = [f"{name} {lines[-1][key]:.2%} ± {lines[-1][f'{key}_error']:.2%}" for key, name in _TESTED]
        click.echo("  ".join(parts))
    fields = ("epochs", "size", "stages", "batch", "lr", "flip", "precision")
    chosen = Changes(**{name: options[name] for name in fields}).apply(recipe_of(options["recipe"], model))
    click.echo(str(out / chosen.then / "final.safetensors"))
    if evolve:
        from deconvviz.cli.evolve import evolve as command

        context.invoke(command, run=out, out=out)


def _report(bars: Stages, line: dict[str, Any]) -> None:
    """Print the line of an epoch, with no bar in its way."""
    bars.close()
    parts = [f"epoch {line['epoch']}", f"size {line['size']}", f"loss {line['loss']:.4f}"]
    parts += [
        f"{name} {line[key]:.2%}" for key, name in (("train", "train"), ("validation", "validation")) if key in line
    ]
    click.echo("  ".join(parts))
