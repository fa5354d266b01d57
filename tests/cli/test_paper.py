"""`deconvviz figure`, `table` and `paper` from end to end, on a small network that only the test knows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deconvviz import cli
from deconvviz.paper import architecture, pages

SOURCE = """
import torch
from torch import nn
from deconvviz import Network

def make():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU()]
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 81, 2))
    return Network(module, 24, (0.5,) * 3, (0.25,) * 3, ("a", "b"), {"1": "0", "2": "3"})
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, with a network and a picture, where no pictures of the repository are found."""
    (tmp_path / "small_for_paper.py").write_text(SOURCE)
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pages, "_demos", lambda: [tmp_path / "demos"])
    yield tmp_path
    sys.modules.pop("small_for_paper", None)


def run(*args: str, model: str | None = "small_for_paper:make") -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*args, *(["--model", model] if model else [])])
    return int(stopped.value.code or 0)


def test_a_figure(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("figure", "1", "--image", "a.png") == 0
    out, err = capsys.readouterr()
    names = [f"Sequential-figure1.{kind}" for kind in ("png", "pdf", "svg", "txt")]
    assert out.splitlines() == names and err == "" and all((place / name).is_file() for name in names)


def test_what_exists_and_differs_is_kept(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("figure", "1", "--image", "a.png", "--format", "txt", "--format", "svg")
    assert run(*given) == 0 and run(*given) == 0, "equal figures are no reason to ask"
    (place / "Sequential-figure1.svg").write_text("the user's own")
    (place / "Sequential-figure1.txt").unlink()
    capsys.readouterr()
    assert run(*given) == 2
    err = capsys.readouterr().err
    assert "Sequential-figure1.svg exists and differs; give --overwrite" in err and err.count("\n") == 1
    assert (place / "Sequential-figure1.svg").read_text() == "the user's own"
    assert not (place / "Sequential-figure1.txt").exists(), "all or none"
    assert run(*given, "--overwrite") == 0 and (place / "Sequential-figure1.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize("command", ["figure", "paper"])
def test_a_picture_that_is_read_is_not_overwritten(
    command: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "Sequential-figure1.png" if command == "figure" else "figure1.png"
    (place / name).write_bytes((place / "a.png").read_bytes())
    chosen = ["1", "--out", "."] if command == "figure" else ["--only", "figure1", "--out", "."]
    assert run(command, *chosen, "--image", name, "--overwrite") == 2
    err = capsys.readouterr().err
    assert f"{name} would overwrite the picture {name}, which this command reads" in err and err.count("\n") == 1
    assert (place / name).read_bytes() == (place / "a.png").read_bytes()


def test_a_paper_replaces_papers_and_nothing_else(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = ("paper", "--only", "figure1", "--image", "a.png", "--format", "svg")
    for folder, name in (("out", "claims.txt"), ("out", "figure1.svg"), ("gallery", "README.md")):
        (place / folder).mkdir(exist_ok=True)
        (place / folder / name).write_text("the user's own")
        assert run(*made, "--out", "out", "--gallery", "gallery") == 2
        assert f"{name} exists, in a folder that deconvviz paper has not made" in capsys.readouterr().err
        assert [p.name for p in (place / folder).iterdir()] == [name]
        (place / folder / name).unlink()
    (place / "out" / "notes.txt").write_text("the user's own")
    assert run(*made, "--out", "out", "--gallery", "gallery") == 0
    for again in ([], ["--fresh"], ["--format", "txt"]):
        assert run(*made, "--out", "out", "--gallery", "gallery", *again) == 0
    assert (place / "out" / "notes.txt").read_text() == "the user's own"
    (place / "out2").mkdir()
    (place / "out2" / "figure1.svg").write_text("old")
    assert run(*made, "--out", "out2", "--overwrite") == 0
    assert (place / "out2" / "figure1.svg").read_text() != "old"


def test_formats_folder_and_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("figure", "3", "--out", "new/folder", "--format", "svg", "--format", "pdf", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["page"] == "figure3" and facts["caption"].startswith("Sequential: a picture of 24 x 24 pixels")
    assert [Path(f).suffix for f in facts["files"]] == [".svg", ".pdf"]
    assert sorted(Path("new/folder").iterdir()) == sorted(map(Path, facts["files"])), "and no file that was not asked"
    assert facts["table"]["columns"][0] == "layer"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["figure", "4"], "figure 4 needs --run: "),
        (["figure", "7"], "figure 7 needs --image or --data: "),
        (["table", "7"], "https://doi.org/10.22002/D1.20086"),
        (["figure", "10"], "'10' is not one of '1', '2'"),
        (["table", "2"], "'2' is not one of '1', '4', '7'"),
        (["figure", "3", "--out", "a.png/x"], "cannot make the folder"),
        (["paper", "--only", "figure11"], "figure11"),
        (["paper", "--out", "a.png/x"], "cannot make the folder"),
    ],
)
def test_wrong_usage_is_2_with_one_line(
    place: Path, args: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*args) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and says in err


def test_what_is_missing_is_said_before_torch_is_loaded(place: Path) -> None:
    code = (
        "import sys\nfrom deconvviz.cli import main\ntry: main(['table', '7'])\n"
        "finally: print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout.split() == ["False", "False"]


def test_a_paper(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = ["--only", "figure3", "--only", "figure1", "--only", "table7"]
    assert run("paper", "--image", "a.png", "--format", "svg", *only, "--gallery", "docs/gallery") == 0
    out, err = capsys.readouterr()
    assert (place / "paper" / "index.html").is_file() and out.splitlines()[-1] == str(Path("paper", "index.html"))
    assert err.count("\n") == 1 and "table 7 needs --data" in err
    text = (place / "docs" / "gallery" / "README.md").read_text(encoding="utf-8")
    assert "deconvviz paper --model small_for_paper:make --image a.png --gallery docs/gallery" in text
    assert run("paper", "--image", "a.png", "--format", "svg", *only) == 0
    assert capsys.readouterr().out.count("(kept)") == 2


def test_a_failing_page_is_1_and_loses_no_other(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(architecture, "make", fail)
    options = ["--image", "a.png", "--format", "svg", "--out", "p", "--only", "figure3", "--only", "figure1"]
    assert run("paper", *options) == 1
    out, err = capsys.readouterr()
    assert err.splitlines() == ["deconvviz: figure3: no such luck", "deconvviz: 1 of the pages failed: figure3"]
    assert str(Path("p", "figure1")) in out and (place / "p" / "figure1.svg").is_file()
    assert run("paper", "--json", *options) == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["failed"] == {"figure3": "no such luck"} and list(facts["pages"]) == ["figure1"]
    assert {claim["holds"] for claim in facts["claims"]} == {None}


def test_the_gallerys_command_names_pictures_by_their_folder(tmp_path: Path) -> None:
    from deconvviz.cli.paper import _command

    options = {"model": "zfnet", "weights": None, "checkpoint": None, "run": tmp_path / "run", "store": None}
    options |= {
        "parts": None,
        "data": tmp_path / "photos",
        "images": (tmp_path / "photos" / "a" / "1.jpg", Path("b.jpg")),
    }
    said = _command(options, Path("docs/gallery"))
    assert said == (
        "deconvviz paper --data photos --run run --image photos/a/1.jpg --image b.jpg --gallery docs/gallery"
    )
