"""What several commands share: the model options and how they become a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from deconvviz.network import Network


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--model`, `--weights` and `--checkpoint` to a command."""
    for option in (
        click.option(
            "--checkpoint",
            type=click.Path(exists=True, dir_okay=False),
            help="Weights file for package.module:callable.",
        ),
        click.option("--weights", help="bundled, imagenet, random, or a file. Default: what the model has."),
        click.option("--model", required=True, help="Name in the zoo, or package.module:callable."),
    ):
        command = option(command)
    return command


def get_network(model: str, weights: str | None, checkpoint: str | None) -> Network:
    """Return the network that the options name; contradicting options are a usage error."""
    from deconvviz.network import load, load_custom

    if ":" in model:
        if weights is not None:
            raise click.UsageError("--weights is for models of the zoo; use --checkpoint FILE with a callable")
        return load_custom(model, checkpoint)
    if checkpoint is not None:
        raise click.UsageError("--checkpoint is for package.module:callable; use --weights FILE with the zoo")
    if weights is not None and Path(weights).suffix and not Path(weights).is_file():
        raise click.BadParameter(f"no such file: {weights}", param_hint="--weights")
    return load(model, weights)
