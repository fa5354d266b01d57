"""`deconvviz train`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from deconvviz.models.recipes import Recipe
    from deconvviz.training import Pictures, Split


class StagesType(click.ParamType):
    """`22x112,8x160,3x224`: epochs and size of each stage."""

    name = "EPOCHSxSIZE,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            stages = [tuple(int(n) for n in part.split("x")) for part in value.split(",")]
        except ValueError:
            stages = []
        if not stages or any(len(s) != 2 or min(s) < 1 for s in stages):
            self.fail(f"'{value}' is not of the form 22x112,8x160,3x224 (epochs x size)", param, ctx)
        return stages


@click.command()
@click.option("--model", required=True, help="Name in the zoo.")
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of category folders with pictures, or of Fashion-MNIST's idx files.",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the run.")
@click.option("--recipe", "recipe_name", help="Name of a recipe. Default: the model's own.")
@click.option("--epochs", type=click.IntRange(1), help="Number of epochs, if the recipe has one stage.")
@click.option("--stages", type=StagesType(), help="Epochs and picture sizes, such as 22x112,8x160,3x224.")
@click.option("--batch", type=click.IntRange(1), help="Pictures a step.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Learning rate.")
@click.option("--teacher", type=click.Path(exists=True, dir_okay=False), help="EfficientNet-Lite0's state dict.")
@click.option("--rms-limit", type=click.FloatRange(0, min_open=True), help="Rescale filters above this RMS.")
@click.option("--fraction", default=0.12, show_default=True, help="Share of each category for the test.")
@click.option("--per-category", type=click.IntRange(1), help="Training pictures of each category instead.")
@click.option("--test", default=50, show_default=True, type=click.IntRange(1), help="At most, with --per-category.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of everything random.")
@click.option("--threads", type=click.IntRange(1), help="Threads of torch. Default: torch's choice.")
@click.option("--bfloat16", is_flag=True, help="Compute in bfloat16 where it is safe.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def train(
    model: str,
    data: Path,
    out: Path,
    recipe_name: str | None,
    epochs: int | None,
    stages: list[tuple[int, int]] | None,
    batch: int | None,
    rate: float | None,
    teacher: str | None,
    rms_limit: float | None,
    fraction: float,
    per_category: int | None,
    test: int,
    seed: int,
    threads: int | None,
    bfloat16: bool,
    resume: bool,
    as_json: bool,
) -> None:
    """Train a network of the zoo on a folder of category folders.

    \b
    Examples:
      deconvviz train --model zfnet --data caltech101 --out run
      deconvviz train --model zfnet --data caltech101 --out run --resume
      deconvviz train --model lenet --data /usr/share/datasets/fashion-mnist --out run
    """
    recipe = _recipe(model, recipe_name, epochs, stages, batch, rate, rms_limit)
    import torch

    from deconvviz.training import train as run

    if threads is not None:
        torch.set_num_threads(threads)
    click.echo(f"reading {data}", err=True)
    pictures, parts = _read(model, data, recipe, fraction, per_category, test, seed)
    click.echo(
        f"{len(parts.train):,} pictures to train on, {len(parts.test):,} to test on, "
        f"{len(pictures.classes)} categories; recipe {recipe.name}, {recipe.epochs} epochs into {out}",
        err=True,
    )
    facts = {"data": data.resolve().name, "recipe": json.dumps(recipe.facts())}
    if teacher is not None:
        facts["teacher"] = "EfficientNet-Lite0 (ImageNet; Apache-2.0)"
    facts["split"] = (
        f"{per_category} a category to train on, at most {test} to test on" if per_category else "by file name"
    )
    end = run(
        model,
        pictures,
        parts,
        out,
        recipe,
        seed=seed,
        teacher=teacher,
        resume=resume,
        bfloat16=bfloat16,
        facts=facts,
        report=lambda row: click.echo(_line(row, recipe.epochs), err=True),
    )
    if as_json:
        told = {"accuracy": end.accuracy, "ten_crop": end.ten_crop, "weights": str(end.weights)}
        click.echo(json.dumps({**told, "epochs": recipe.epochs, "test": len(parts.test)}))
    else:
        click.echo(f"{end.weights}: {end.accuracy:.1%} mean per category, {end.ten_crop:.1%} from ten crops")


def _line(row: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {row['epoch']}/{epochs}  {row['size']}²  loss {row['loss']:.3f}  "
        f"train {row['train_accuracy']:.1%}  test {row['test_accuracy']:.1%}  {row['seconds']:.0f} s"
    )


def _recipe(
    model: str,
    name: str | None,
    epochs: int | None,
    stages: list[tuple[int, int]] | None,
    batch: int | None,
    rate: float | None,
    rms_limit: float | None,
) -> Recipe:
    from dataclasses import replace

    from deconvviz.errors import UnknownNameError, suggest
    from deconvviz.models import registry
    from deconvviz.models.recipes import RECIPES, Stage, recipe_for

    if model not in registry.names():
        raise UnknownNameError(f"unknown model '{model}'{suggest(model, registry.names())}")
    if name is not None and name not in RECIPES:
        allowed = ", ".join(RECIPES)
        raise UnknownNameError(f"unknown recipe '{name}'; allowed: {allowed}{suggest(name, RECIPES)}")
    recipe = RECIPES[name] if name else recipe_for(model)
    if epochs is not None:
        if stages is not None:
            raise click.UsageError("--epochs is for one stage; give the epochs in --stages")
        if len(recipe.stages) != 1:
            raise click.UsageError(f"the recipe '{recipe.name}' has several stages; give --stages, not --epochs")
        recipe = replace(recipe, stages=(Stage(epochs, recipe.stages[0].size),))
    if stages is not None:
        recipe = replace(recipe, stages=tuple(Stage(*stage) for stage in stages))
    if rms_limit is not None:
        recipe = replace(recipe, rms_limit=_limits(model, recipe, rms_limit))
    return replace(recipe, batch=batch or recipe.batch, rate=rate or recipe.rate)


def _limits(model: str, recipe: Recipe, limit: float) -> dict[str, float]:
    """The limit for every convolution of the model."""
    from torch import nn

    from deconvviz.models import registry

    built = registry.build(model, **recipe.options)
    return {name: limit for name, module in built.named_modules() if isinstance(module, nn.Conv2d)}


def _read(
    model: str,
    data: Path,
    recipe: Recipe,
    fraction: float,
    per_category: int | None,
    test: int,
    seed: int,
) -> tuple[Pictures, Split]:
    from deconvviz.models import registry
    from deconvviz.training import is_idx, read_folder, read_idx, split

    card = registry.card(model)
    if is_idx(data):
        return read_idx(data, card.labels)
    # Room for random crops above the largest size of the recipe.
    largest = max(stage.size for stage in recipe.stages)
    pictures = read_folder(data, round(largest * 256 / 224), card.channels)
    return pictures, split(pictures, fraction=fraction, per_category=per_category, test=test, seed=seed)
