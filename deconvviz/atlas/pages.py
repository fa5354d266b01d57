"""Pages from templates. Every name and label goes in as text; files and links are named by numbers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import jinja2

from deconvviz import __version__
from deconvviz.atlas.contents import DENSE, SPARSE, AtlasLayer, AtlasUnit, Contents, majority, printable

NARROW = " "


# Files of the site alone, over the web or from the disk (where 'self' is nothing to some browsers); no script and no
# style inside a page, nothing from elsewhere, no form.
POLICY: str = "; ".join(
    ["default-src 'none'", *(f"{what}-src 'self' file:" for what in ("script", "style", "img")), "base-uri 'none'",
     "form-action 'none'"]
)  # fmt: skip


class Measures:
    """CSS variables as classes of one stylesheet, for a page's own styles are not let in by its policy."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}

    def __call__(self, style: str) -> str:
        """The class that sets these variables."""
        name = f"m{hashlib.sha256(style.encode()).hexdigest()[:10]}"
        self._rules[name] = style
        return name

    def sheet(self) -> str:
        """All of them."""
        return "".join(f".{name}{{{style}}}\n" for name, style in sorted(self._rules.items()))


def environment() -> jinja2.Environment:
    """The templates with their filters; everything is escaped, and a name that is not given is an error."""
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("deconvviz.atlas"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(number=number, value=value, percent=percent, raw=raw, note=note, printable=printable)
    env.filters["signed"] = signed
    env.globals.update(version=__version__, policy=POLICY, majority=majority, dense=DENSE, sparse=SPARSE)
    return env


def number(count: int) -> str:
    """`12,384`."""
    return f"{count:,}"


def value(x: float) -> str:
    """About three digits: `1,234`, `56.7`, `8.90`, `0.00123`."""
    if not math.isfinite(x):
        return "–" if math.isnan(x) else "∞"
    size = abs(x)
    if size >= 1e6 or 0 < size < 1e-4:
        return f"{x:.1e}"
    if size >= 100:
        return f"{x:,.0f}"
    return f"{x:.1f}" if size >= 10 else f"{x:.2f}" if size >= 1 else f"{x:.3g}"


def signed(x: float) -> str:
    """A number with its sign: `+1.23`, `−0.456`."""
    return ("+" if x > 0 else "−" if x < 0 else "") + value(abs(x))


def percent(share: float) -> str:
    """`0 %`, `0.04 %`, `3.1 %`, `56 %`; a share that is not all never reads as 100 %."""
    percents = 100 * share
    if 0 < percents < 0.01:
        return f"<0.01{NARROW}%"
    if percents < 1:
        text = f"{percents:.2g}"
    elif percents < 10 or 99 <= percents < 100:
        text = f"{min(percents, 99.9):.1f}" if share < 1 else "100"
    else:
        text = f"{percents:.0f}"
    return f"{text}{NARROW}%"


def raw(x: float) -> str:
    """A number for the script to sort by."""
    return f"{x:.6g}" if math.isfinite(x) else "0"


def note(unit: AtlasUnit, contents: Contents) -> str:
    """What stands beside a unit's number: its class, or the class of most of its places."""
    if unit.label is not None:
        return unit.label
    group = majority(unit, contents)
    return "" if group is None else contents.groups[group].name


def script(name: str, data: Mapping[str, Any]) -> str:
    """A script that sets one variable; nothing in it can end a script element or a comment."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f"window.{name}={text};\n"


def layer_facts(layer: AtlasLayer) -> dict[str, Any]:
    """What the search knows of a layer."""
    return {
        "number": layer.number, "name": layer.name, "aliases": layer.aliases, "units": len(layer.units),
        "labels": layer.labels, "dead": [unit.number for unit in layer.units if unit.dead],
        "dense": sum(unit.dense for unit in layer.units),
    }  # fmt: skip


def search_index(contents: Contents) -> str:
    """What the search knows: layers, classes, pictures."""
    layers = [layer_facts(x) for x in contents.layers]
    groups = [[group.name, len(group.pictures)] for group in contents.groups]
    pictures = [[p.number, p.name, p.group] for p in contents.pictures.values()]
    index = {"classes": contents.classes, "layers": layers, "groups": groups, "pictures": pictures}
    return script("DECONVVIZ_INDEX", index)
