"""Every public function and class shows in its docstring how it is used, and what it shows is what happens."""

from __future__ import annotations

import doctest
import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest
import torch
from torch import nn

import deconvviz

ROOT = Path(__file__).parents[1]
# Errors are raised, not called; each names what was given.
NAMES = [
    name for name in sorted(deconvviz.__all__)
    if not (inspect.isclass(member := getattr(deconvviz, name)) and issubclass(member, Exception))
]  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `image.jpg`, and `photos/` of two categories with two pictures each."""
    root = tmp_path_factory.mktemp("examples")
    demos = sorted((ROOT / "demos" / "images").glob("*.jpg"))
    shutil.copy(demos[1], root / "image.jpg")
    for n, picture in enumerate(demos):
        folder = root / "photos" / ("one" if n % 2 else "two")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, folder)
    return root


def examples(name: str) -> Iterator[doctest.DocTest]:
    """The doctests of a public name, and of the methods of a class."""
    member = getattr(deconvviz, name)
    known = {"deconvviz": deconvviz, "torch": torch, "nn": nn, "Path": Path}
    yield from doctest.DocTestFinder().find(member, name, globs=known)


@pytest.mark.parametrize("name", NAMES)
def test_the_example_is_there_and_true(name: str, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures)
    found = list(examples(name))
    assert any(test.name == name and test.examples for test in found), f"deconvviz.{name} has no example"
    with matplotlib.rc_context():
        for test in found:
            torch.manual_seed(0)
            said: list[str] = []
            result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append)
            assert not result.failed, "".join(said)
