"""The command line. Each module without an underscore is a command.

At their top these import click only: torch comes with the function of the command that needs it.
"""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import click

from deconvviz.errors import DeconvvizWarning


@functools.cache
def names() -> tuple[str, ...]:
    """Return the names of the commands: the modules beside this one, but for those with an underscore."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(name for name in found if not name.startswith("_"))


class LazyGroup(click.Group):
    """A group that imports a command when it is run. A command is the function named like its module, listed with its
    `short_help` in the `ORDER` that its module says."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(names(), key=lambda name: (_module(name).ORDER, name))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in names():
            return None
        command: click.Command = getattr(_module(cmd_name), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in names() and not args[0].startswith("-"):
            from deconvviz.errors import suggest

            known = self.list_commands(ctx)
            raise click.UsageError(f"no command {args[0]!r}{suggest(args[0], known)} (commands: {', '.join(known)})")
        return super().resolve_command(ctx, args)


def _module(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name}")


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
    with warnings.catch_warnings():
        # Ours as one line, once each.
        warnings.simplefilter("default", DeconvvizWarning)
        warnings.showwarning = functools.partial(_warn, warnings.showwarning)
        return _answered(args, debug)


def _warn(otherwise: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any) -> None:
    if issubclass(category, DeconvvizWarning):
        click.echo(f"deconvviz: {message}", err=True)
    else:
        otherwise(message, category, *where)


def _answered(args: list[str], debug: bool) -> int:
    try:
        code = cli.main(args, prog_name="deconvviz", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        if debug:
            raise
        click.echo(f"deconvviz: {' '.join(error.format_message().split())}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("deconvviz: interrupted", err=True)
        return 130
    except SystemExit as error:
        # Not ours, which click turns into a number: `--model builtins:exit`, or a module that ends the program.
        click.echo(f"deconvviz: what the command called has ended the program (with {error.code})", err=True)
        return 1
    except BrokenPipeError:
        # `deconvviz layers | head`: the reader has gone; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        from deconvviz.errors import said

        click.echo(f"deconvviz: {said(error)}", err=True)
        return 2 if _wrong_usage(error) else 1


def _wrong_usage(error: Exception) -> bool:
    from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnknownNameError

    # The value errors that are no kind of their own are about an argument: a unit, a place, a file name.
    return isinstance(error, UnknownNameError) or type(error) in (DeconvvizValueError, DeconvvizTypeError)
