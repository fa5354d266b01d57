"""The command line. Importing it loads click only: torch comes with the command that needs it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

# Name -> module and one line of help: `deconvviz --help` must not import the commands.
COMMANDS = {
    "project": ("deconvviz.cli.project", "Show what the strongest maps of a layer respond to in a picture."),
    "occlude": ("deconvviz.cli.occlude", "Show what the network makes of a picture with each place covered."),
    "scan": ("deconvviz.cli.scan", "Find the strongest pictures of every unit of some layers."),
    "top": ("deconvviz.cli.top", "Show what a scanned unit responds to most, with its projections."),
    "atlas": ("deconvviz.cli.atlas", "Make a site to browse a scanned network."),
    "layers": ("deconvviz.cli.layers", "List the layers of a network, their sizes and receptive fields."),
    "invariance": ("deconvviz.cli.invariance", "Show how features change as a picture is moved, scaled, turned."),
    "correspond": ("deconvviz.cli.correspond", "Show whether covering the same part changes features alike."),
    "filters": ("deconvviz.cli.filters", "Show the first filters of a network and what is wrong with them."),
    "figure": ("deconvviz.cli.figure", "Make a figure of the paper."),
    "table": ("deconvviz.cli.table", "Make a table of the paper."),
    "paper": ("deconvviz.cli.paper", "Make all figures and tables of the paper, and check its claims."),
    "evolve": ("deconvviz.cli.evolve", "Show how features evolve over a training run, and when layers settle."),
    "probe": ("deconvviz.cli.probe", "Show how well a linear classifier does on the features of each layer."),
    "history": ("deconvviz.cli.history", "Show who won the ILSVRC, with depth and size of the networks."),
    "models": ("deconvviz.cli.models", "List the networks of the zoo and their weights."),
    "train": ("deconvviz.cli.train", "Train a network on a folder of pictures."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is run, not when it is listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            from deconvviz.errors import suggest

            raise click.UsageError(
                f"no command {args[0]!r}{suggest(args[0], COMMANDS)} (commands: {', '.join(COMMANDS)})"
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(f"deconvviz {version('deconvviz')}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Version.")
def cli(debug: bool) -> None:
    """See what a convolutional network sees, with the DeconvNet of Zeiler and Fergus (2014).

    \b
    Example:
      deconvviz project --model zfnet --layer 5 image.jpg
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 wrong usage, 1 anything else, 130 interrupted."""
    given = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in given
    # `--debug` works before and after the command's name.
    given = [a for a in given if a != "--debug"]
    sys.exit(_run(given, debug))


def _run(args: list[str], debug: bool) -> int:
    try:
        code = cli.main(args, prog_name="deconvviz", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        if debug:
            raise
        click.echo(f"deconvviz: {_line(error.format_message())}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("deconvviz: interrupted", err=True)
        return 130
    except BrokenPipeError:
        # `deconvviz layers | head`: the reader has gone; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        click.echo(f"deconvviz: {_line(_said(error))}", err=True)
        return 2 if _wrong_usage(error) else 1


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _line(message: str) -> str:
    return " ".join(message.split())


def _wrong_usage(error: Exception) -> bool:
    from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnknownNameError

    # The value errors that are no kind of their own are about an argument: a unit, a place, a file name.
    return isinstance(error, UnknownNameError) or type(error) in (DeconvvizValueError, DeconvvizTypeError)
