"""What the documents say runs: every Python snippet, one after the other, and every command line is understood."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import matplotlib
import pytest
import torch
from torch import nn
from torchvision.models import alexnet

import deconvviz
import deconvviz.analyses
import deconvviz.captum
import deconvviz.cli
import deconvviz.models
import deconvviz.rules
from deconvviz import _public
from deconvviz.cli import cli
from deconvviz.engine.rules import base as rules
from deconvviz.models import registry
from deconvviz.network.checkpoints import checkpoint_name, note_run
from deconvviz.network.weights import write_weights

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(p for p in (ROOT / "docs").rglob("*.md") if "gallery" not in p.parts),
    ]
)


def snippets(page: Path, language: str) -> Iterator[tuple[int, str, str]]:
    """(line, file, text) of the fenced blocks of one language; a guide says of which file a block is the whole."""
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(rf"^```{language}(?: file=(\S+))?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, match.start(2)), match[1] or "", match[2]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the documents speak of: pictures, folders of categories, a run."""
    root = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "demos", root / "demos")
    pictures = sorted((root / "demos" / "images").glob("*.jpg"))
    for name, picture in zip(
        ("image.jpg", "photo.jpg", "a.jpg", "b.jpg"), pictures[1:2] * 3 + pictures[:1], strict=True
    ):
        shutil.copy(picture, root / name)
    # The two categories of the examples, for networks that take a class from the name of a folder.
    for folder, picture in zip(("cougar_face", "cup"), pictures[1:3], strict=True):
        (root / "photos" / folder).mkdir(parents=True)
        shutil.copy(picture, root / "photos" / folder / "one.jpg")
        shutil.copy(picture, root / "photos" / folder / "two.jpg")
    (root / "caltech101" / "Faces_easy").mkdir(parents=True)
    for entry in json.loads((root / "demos" / "faces.json").read_text(encoding="utf-8"))["images"]:
        shutil.copy(pictures[0], root / "caltech101" / entry["file"])
    net = deconvviz.load("zfnet")
    (root / "run").mkdir()
    for epoch in (1, 2):
        facts = {"labels": list(net.card.labels), "model": "zfnet", "options": {"classes": 101}}
        write_weights(root / "run" / checkpoint_name(epoch), net.module.state_dict(), facts)
    note_run(root / "run", "zfnet", root / "photos")
    return root


def names(place: Path) -> dict[str, Any]:
    """What the snippets speak of as known: networks, and a training loop's own."""
    torch.manual_seed(0)
    small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    mine = nn.Sequential()
    mine.add_module("features", small)
    my_network = deconvviz.Network(mine, 64, (0.5,) * 3, (0.25,) * 3)
    return {
        "deconvviz": deconvviz, "net": deconvviz.load("zfnet"), "module": alexnet(weights=None).eval(),
        "model": small, "my_network": my_network, "epoch": 1, "labels": None,
    }  # fmt: skip


@pytest.fixture
def grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Adds a file to the project, as the guides do; afterwards it is as before."""
    packages = {
        "models": deconvviz.models, "deconvviz": deconvviz, "deconvviz/analyses": deconvviz.analyses,
        "deconvviz/cli": deconvviz.cli,
    }  # fmt: skip
    for folder, package in packages.items():
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / folder)])
    monkeypatch.setattr(rules, "_RULES", dict(rules._RULES))
    before, public = set(sys.modules), set(vars(deconvviz))

    def add(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
        forget()

    def forget() -> None:
        for found in (registry._families, _public.homes, deconvviz.cli.names):
            found.cache_clear()

    yield add
    forget()
    for name in set(vars(deconvviz)) - public:
        delattr(deconvviz, name)  # what was asked for is kept there
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_runs(
    page: Path, place: Path, tmp_path: Path, grown: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    known, written = names(place), False
    with matplotlib.rc_context():
        for line, file, text in snippets(page, "python"):
            if file:
                grown(file, text)
                written |= file.startswith("tests/")
            else:
                # Padded, so that a traceback names the line of the page.
                exec(compile("\n" * line + text, str(page), "exec"), known)
    if written:
        # In this process, which knows what the page has added.
        (tmp_path / "tests" / "cli" / "conftest.py").write_bytes((ROOT / "tests" / "cli" / "conftest.py").read_bytes())
        options = ["-q", "--import-mode=importlib", "-p", "no:cacheprovider", "-W", "error", "--rootdir", str(tmp_path)]
        assert pytest.main([*options, str(tmp_path / "tests")]) == pytest.ExitCode.OK


COMMANDS = [
    (name_of(page), command.strip())
    for page in PAGES
    for _, _, text in snippets(page, "sh")
    for command in text.replace("\\\n", " ").split("\n")
    if command.strip().startswith("deconvviz ")
]


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{p}: {c[:60]}" for p, c in COMMANDS])
def test_commands_are_understood(
    page: str, command: str, place: Path, grown: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command exists, with these options and values; what the examples name and no test has is made up."""
    for _, file, text in snippets(ROOT / page, "python"):
        if file:
            grown(file, text)
    words = shlex.split(command, comments=True)[1:]
    for word in words:
        stand_in = place / word
        if re.fullmatch(r"[\w./-]+\.(jpg|safetensors|pth|db|json)|FILE", word) and not stand_in.exists():
            stand_in.parent.mkdir(parents=True, exist_ok=True)
            stand_in.touch()
        elif re.fullmatch(r"[\w-]+/", word):
            stand_in.mkdir(exist_ok=True)
    monkeypatch.chdir(place)
    with click.Context(cli) as parent:
        known = cli.get_command(parent, words[0])
        assert known is not None, f"{page}: no command {words[0]!r}"
        known.make_context(words[0], words[1:], parent=parent)


def test_every_link_leads_somewhere() -> None:
    dead = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists():
                dead.append(f"{name_of(page)}: {target}")
    assert not dead


def test_the_reference_names_what_is_public() -> None:
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page))
    # An analysis is found, and adds to no list: what it is its own docstring says.
    listed = {name for name, home in _public.homes().items() if not home.startswith("deconvviz.analyses.")}
    assert not {*listed, *deconvviz.rules.__all__, *deconvviz.captum.__all__} - named
