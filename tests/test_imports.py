"""Imports go one way (docs/architecture.md), only the command line prints, and help needs no torch."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deconvviz import _public

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "deconvviz"
MODELS = ROOT / "models"

# Imports inside functions that go against the table, each for a reason.
LATE: set[tuple[str, str]] = set()


def parts() -> dict[str, list[Path]]:
    """Part of the package ("recording", "rules", …) → its files."""
    found: dict[str, list[Path]] = {"models": sorted(MODELS.rglob("*.py"))}
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        found.setdefault(relative.parts[0].removesuffix(".py"), []).append(path)
    return found


def rows() -> list[list[str]]:
    """Parts in the order of the table in docs/architecture.md, top first; parts of one row may know each other."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("\n## ")[0]
    first_cells = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return [re.findall(r"`(\w+)(?:\.py|/)`", cell) for cell in first_cells]


PARTS = parts()


def module_of(path: Path) -> str:
    """Dotted name of a file as it is installed."""
    base, prefix = (MODELS, ["deconvviz", "models"]) if path.is_relative_to(MODELS) else (PACKAGE, ["deconvviz"])
    names = [*prefix, *path.relative_to(base).with_suffix("").parts]
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def imports(path: Path) -> Iterator[tuple[str, bool, int]]:
    """(dotted module, inside a function, line) for every import that runs; those for type checkers are left out."""
    package = module_of(path).split(".")
    package = package if path.name == "__init__.py" else package[:-1]

    def walk(node: ast.AST, late: bool) -> Iterator[tuple[str, bool, int]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        late = late or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, late, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                # `from deconvviz import images` imports a part; `from deconvviz.images import read_image` a name.
                yield (f"{name}.{alias.name}" if name == "deconvviz" else name), late, node.lineno
        for child in ast.iter_child_nodes(node):
            yield from walk(child, late)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False)


def part_of(dotted: str) -> str | None:
    """The part that a dotted name belongs to, or None for other packages and the facts of the package itself."""
    names = dotted.split(".")
    return names[1] if names[0] == "deconvviz" and len(names) > 1 and names[1] in PARTS else None


def test_the_table_names_every_part() -> None:
    named = [name for row in rows() for name in row]
    missing = set(PARTS) - set(named) - {"__init__", "__main__"}
    assert not missing, f"not in the table of docs/architecture.md: {sorted(missing)}"
    assert len(named) == len(set(named))


@pytest.mark.parametrize("part", sorted(set(PARTS) - {"__init__", "__main__"}))
def test_imports_go_up_the_table(part: str) -> None:
    order = {name: n for n, row in enumerate(rows()) for name in row}
    wrong = []
    for path in PARTS[part]:
        for dotted, late, line in imports(path):
            other = part_of(dotted)
            if other is None or other == part or (late and (part, other) in LATE):
                continue
            if order[other] > order[part]:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {dotted}")
    assert not wrong


def test_every_late_import_is_still_needed() -> None:
    found = {(part, part_of(name)) for part in PARTS for path in PARTS[part] for name, late, _ in imports(path) if late}
    assert found >= LATE


def test_models_know_only_the_card() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {dotted}"
        for path in PARTS["models"]
        for dotted, _, line in imports(path)
        if dotted.split(".")[0] == "deconvviz" and part_of(dotted) not in {"card", "models"}
    ]
    assert not wrong


def test_pictures_are_drawn_from_results_alone() -> None:
    figures = [path for path in PARTS["analyses"] if path.name == "figure.py"]
    assert figures
    known = {dotted for path in figures for dotted, _, _ in imports(path) if part_of(dotted)}
    allowed = re.compile(r"deconvviz\.(results|errors|data\.(images|transforms)|analyses\.\w+\.(result|figure))\b")
    assert not {dotted for dotted in known if not allowed.match(dotted)}


def test_only_the_command_line_prints() -> None:
    wrong = []
    for part in set(PARTS) - {"cli"}:
        for path in PARTS[part]:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                call = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
                if call in {"print", "sys.stdout.write", "sys.stderr.write"} or call.startswith(("click.", "rich.")):
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} calls {call}")  # type: ignore[attr-defined]
    assert not wrong


def test_nothing_unpickles() -> None:
    wrong = []
    for paths in PARTS.values():
        for path in paths:
            wrong += [f"{path.name}:{line} imports {d}" for d, _, line in imports(path) if d in {"pickle", "dill"}]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in {"torch.load", "np.load", "numpy.load"}:
                    given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                    safe = given.get("weights_only") == "True" or (
                        "torch" not in ast.unparse(node.func) and given.get("allow_pickle", "False") == "False"
                    )
                    if not safe:
                        wrong.append(f"{path.name}:{node.lineno} loads a pickle")
    assert not wrong


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["project", "--help"], ["layers", "--help"]])
def test_help_needs_no_torch(arguments: list[str]) -> None:
    done = run("-X", "importtime", "-m", "deconvviz", *arguments)
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "deconvviz" in loaded, "the oracle sees what is imported"
    assert not loaded & {"torch", "torchvision", "timm", "numpy", "matplotlib"}
    assert done.stdout


def test_public_names_exist_and_are_lazy() -> None:
    code = (
        "import sys, deconvviz; assert 'torch' not in sys.modules; "
        "names = [n for n in deconvviz.__all__ if getattr(deconvviz, n) is None]; assert not names; "
        "assert 'matplotlib' not in sys.modules; print(len(deconvviz.__all__))"
    )
    assert int(run("-c", code).stdout) > 10


def test_the_stub_says_the_same_names() -> None:
    assert _public.STUB.read_text(encoding="utf-8") == _public.stub(), "write it again: python -m deconvviz._public"


def test_no_public_name_hides_a_module_or_another_name() -> None:
    parts = [path for part in _public._PARTS for path in PACKAGE.glob(part)]
    names = [name for path in parts for name in _public._exported(path)]
    assert len(set(names)) == len(names) and len(parts) > 10
    assert not set(names) & set(PARTS)


def test_star_and_dir_have_the_public_names() -> None:
    code = "from deconvviz import *; import deconvviz; assert {*deconvviz.__all__} <= {*globals()} & {*dir(deconvviz)}"
    run("-c", code)


def test_a_function_is_no_module() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("deconvviz.filters")


def test_an_unknown_name_is_an_attribute_error() -> None:
    import deconvviz

    with pytest.raises(AttributeError, match="no attribute 'deconv'"):
        deconvviz.deconv  # type: ignore[attr-defined]  # noqa: B018
