"""The Python code and the command that make what a page shows: one place, so that they stay true."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from deconvviz.explorer.pictures import Shown
from deconvviz.explorer.questions import Covered, Projected
from deconvviz.network.network import Network

_METHOD, _OVERLAP = Projected("", 0).method, Projected("", 0).overlap
_GIVEN = "the model came from Python; a command needs a name that --model takes"


@dataclass(frozen=True)
class Origin:
    """How others come by the network: Python code that makes `net`, and the options that name it for a command.

    `options` None: it has no name, but was given. `labels`: whether its class names are its own.
    """

    code: str
    options: tuple[str, ...] | None = None
    labels: bool = True

    @classmethod
    def of(cls, net: Network) -> Origin:
        """That of a network that a caller has."""
        return cls(f"# net: the model that was given to deconvviz.explore, {net.card.name}")


@dataclass(frozen=True)
class Call:
    """Python code, and a command, or `why` there is none."""

    python: str
    command: str | None
    why: str | None = None


def projection_call(origin: Origin, shown: Shown, asked: Projected) -> Call:
    """The call that sends this unit back."""
    given = [f"units=[{asked.unit}]"]
    flags = ["--layer", asked.layer, "--unit", str(asked.unit)]
    if asked.place is not None:
        given.append(f"place={asked.place}")
        flags += ["--place", *map(str, asked.place)]
    if asked.method != _METHOD:
        given.append(f"method={asked.method!r}")
        flags += ["--method", asked.method]
    if asked.overlap != _OVERLAP:
        given.append(f"overlap={asked.overlap!r}")
        flags += ["--overlap", asked.overlap]
    contrast = "" if asked.contrast == Projected("", 0).contrast else f"percentile={asked.contrast:g}"
    lines = [
        f"p = deconvviz.project(net, {shown.said}, {asked.layer!r}, {', '.join(given)})",
        f"p.figure({contrast})",
    ]
    return _call(origin, shown, "project", lines, flags)


def occlusion_call(
    origin: Origin, shown: Shown, asked: Covered, window: tuple[int, int], stride: tuple[int, int],
    fill: str | list[float], target: int | str | None, watched: bool,
) -> Call:  # fmt: skip
    """The call that covers one place after the other, and the one where the window is.

    `window`, `stride`, `fill` and `target` as `occlude` takes them; `watched`: the map in question is the one that
    `occlude` watches, the strongest of the layer.
    """
    whom = [] if target is None else [f"target={target!r}"]
    how = [f"window={window}", *([] if fill == "grey" else [f"fill={fill!r}"]), *whom]
    layer = [f"layer={asked.layer!r}"] if asked.layer is not None else []
    lines = [
        f"rec = deconvviz.record(net, {shown.said})",
        f"o = rec.occlude({', '.join([*how, f'stride={stride}', *(layer if watched else [])])})",
        "o.figure()",
    ]
    if asked.place is not None:
        unit = [f"unit={asked.unit}"] if asked.unit is not None else []
        row, col = asked.place
        lines.append(f"there = rec.occluder({', '.join([*how, *layer, *unit])}).at({row}, {col})")
    numbers = fill if isinstance(fill, str) else ",".join(map(repr, fill))
    flags = ["--window", "x".join(map(str, window)), "--stride", "x".join(map(str, stride))]
    flags += [] if fill == "grey" else [f"--fill={numbers}"]
    flags += [] if target is None else ["--target", str(target)]
    flags += ["--layer", asked.layer if watched and asked.layer is not None else "none"]
    return _call(origin, shown, "occlude", lines, flags)


def _call(origin: Origin, shown: Shown, command: str, lines: Sequence[str], flags: Sequence[str]) -> Call:
    imports = ["import deconvviz", ""]
    given = [f"# image: {shown.name}, as it was given to deconvviz.explore"] if shown.said == "image" else []
    python = "\n".join([*imports, origin.code, *given, *lines]) + "\n"
    if origin.options is None:
        return Call(python, None, _GIVEN)
    if shown.said == "image":
        return Call(python, None, "the picture came from Python; a command needs a file")
    # A file whose name begins with a dash is no option.
    return Call(python, shlex.join(["deconvviz", command, *origin.options, *flags, "--", shown.path]))
