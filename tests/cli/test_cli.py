"""The command line: exit codes, one line of error, no torch for help."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest

from deconvviz import cli
from deconvviz.cli._common import TABLES, parse_units
from deconvviz.results.table import KINDS


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(args)
    return int(stopped.value.code or 0)


def test_help_imports_no_torch() -> None:
    """Neither the list of commands nor the help of any of them."""
    code = (
        "import sys\nfrom deconvviz.cli import main, names\n"
        "for command in ([], *([name] for name in names())):\n"
        "    try: main([*command, '--help'])\n"
        "    except SystemExit as end: assert not end.code\n"
        "    assert 'torch' not in sys.modules, command"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "project" in done.stdout and done.stderr == ""


def test_every_command_has_a_line_of_help_and_a_place_of_its_own() -> None:
    context = click.Context(cli.cli)
    listed = cli.cli.list_commands(context)
    assert listed[0] == "project" and sorted(listed) == sorted(cli.names())
    commands = [cli.cli.get_command(context, name) for name in listed]
    assert all(command is not None and (command.short_help or "").endswith(".") for command in commands)
    assert len({importlib.import_module(f"deconvviz.cli.{name}").ORDER for name in listed}) == len(listed)


def test_kinds_of_tables_are_those_of_results() -> None:
    assert TABLES == KINDS


@pytest.mark.parametrize("command", cli.names())
def test_every_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    assert f"Example:\n    deconvviz {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "args",
    [["projct"], ["project", "--model", "zfnet"], ["project", "--model", "zfnet", "--layer", "5", "no.jpg"]],
)
def test_wrong_usage_is_2_with_one_line(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*args) == 2
    error = capsys.readouterr().err
    assert error.startswith("deconvviz: ") and error.count("\n") == 1


def test_tables_in_a_pipe_are_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each weights file and each layer, nothing folded or cut, however narrow the terminal."""
    from deconvviz.models import registry

    monkeypatch.setenv("COLUMNS", "40")
    assert run("models") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line[1] != " "] == ["name", *registry.names()]
    files = sum(max(len(registry.card(name).available), 1) for name in registry.names())
    assert len(lines) == 1 + files
    assert run("layers", "--model", "lenet") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12 and lines[1].split() == ["features.conv1", "conv1,", "1", "Conv2d", "6", "24", "5", "1"]


def test_interruption_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.cli, "main", interrupt)
    assert run("models") == 130


def test_units() -> None:
    assert parse_units(["7", "1,5-7"]) == [7, 1, 5, 6]
    assert parse_units([]) is None
    for wrong in ("a", "3-1", "-2", ""):
        with pytest.raises(click.BadParameter):
            parse_units([wrong])


def test_a_model_that_ends_the_program_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ends_it.py").write_text("import sys\n\ndef make():\n    sys.exit()\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["layers", "--model", "ends_it:make"])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("deconvviz: ") and "ends_it" in line
