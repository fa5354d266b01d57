"""Which name may be meant by one that leads nowhere: another library's, a misspelt beginning, an address."""

from __future__ import annotations

import importlib
import importlib.util
import re

from deconvviz.errors import suggest

# What stands before the colon, and what else it is called.
_BEGINNINGS = {"torchvision": "torchvision", "timm": "timm", "hf-hub": "hf-hub", "hf": "hf-hub", "hub": "hf-hub",
               "huggingface": "hf-hub", "transformers": "hf-hub"}  # fmt: skip
_ADDRESS = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([^/\s]+/[^/\s?#]+)")


def meant(name: str, known: list[str] | None = None) -> str:
    """`"; did you mean …?"` for a name that no origin has, or an empty string; `known` are those of the zoo."""
    found = _other_names(name)
    if found:
        return "; did you mean " + " or ".join(f"'{other}'" for other in found) + "?"
    return suggest(name, known or [])


def _other_names(name: str) -> list[str]:
    if (address := _ADDRESS.match(name)) is not None:
        return [f"hf-hub:{address[1]}"]
    beginning, colon, rest = name.partition(":")
    if colon:
        near = suggest(beginning.lower().replace("_", "-"), _BEGINNINGS, count=1)
        right = next((full for short, full in _BEGINNINGS.items() if f"'{short}'" in near), None)
        return [f"{right}:{rest}"] if right is not None and right != beginning else []
    origin, _, inner = name.rpartition("/")
    if origin.count("/"):
        return []
    found = [f"{origin}:{inner}"] if origin in ("torchvision", "timm") and _has(origin, inner) else []
    if origin:
        return [*found, *([] if origin == "torchvision" else [f"hf-hub:{name}"])]
    return [f"{library}:{name}" for library in ("torchvision", "timm") if _has(library, name)]


def _has(library: str, name: str) -> bool:
    """Whether a library, if it is installed, builds a network of this name."""
    if importlib.util.find_spec(library) is None:
        return False
    models = importlib.import_module({"torchvision": "torchvision.models"}.get(library, library))
    return (name.partition(".")[0] if library == "timm" else name) in models.list_models()
