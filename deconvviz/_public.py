"""Which names `deconvviz` has, and where they live: read from the `__all__` of its parts without importing them.

`python -m deconvviz._public` writes the same for type checkers into `__init__.pyi`.
"""

from __future__ import annotations

import ast
import functools
import sys
from pathlib import Path

STUB = Path(__file__).parent / "__init__.pyi"
# The parts whose `__all__` is public; every analysis is one of them.
_PARTS = ("card.py", "errors.py", "network/__init__.py", "results/__init__.py", "scanning/__init__.py",
          "analyses/*/__init__.py", "live/__init__.py", "explorer/__init__.py")  # fmt: skip


@functools.cache
def homes() -> dict[str, str]:
    """Return each public name with the module that has it."""
    found: dict[str, str] = {}
    for root in map(Path, sys.modules["deconvviz"].__path__):
        for path in sorted(file for part in _PARTS for file in root.glob(part)):
            found.update(dict.fromkeys(_exported(path), _module(path.relative_to(root.parent))))
    return found


def _module(path: Path) -> str:
    names = path.with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def _exported(path: Path) -> list[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def stub() -> str:
    """Return the text of `__init__.pyi`: the same names as imports, for type checkers."""
    lines = ["# Written by `python -m deconvviz._public` from the `__all__` of the parts: change those."]
    for module in sorted(set(homes().values())):
        # As import sorters have them: classes first, whatever the case of letters.
        found = (name for name, home in homes().items() if home == module)
        names = ", ".join(sorted(found, key=lambda name: (name[0].islower(), name.lower())))
        line = f"from {module} import {names}"
        lines.append(line if len(line) <= 120 else f"from {module} import (\n    {_one_a_line(names)}\n)")
    everything = ", ".join(f'"{name}"' for name in sorted(homes()))
    return "\n".join([*lines, "", "__version__: str", f"__all__ = [\n    {_one_a_line(everything)}\n]", ""])


def _one_a_line(names: str) -> str:
    return names.replace(", ", ",\n    ") + ","


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
