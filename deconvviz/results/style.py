"""One look for all figures, applied locally: the user's rcParams and pyplot state stay as they are."""

from __future__ import annotations

import importlib
import io
import os
from contextlib import AbstractContextManager
from typing import IO, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

# Okabe & Ito's colours, told apart with every common colour vision; yellow left out (invisible on paper), and
# three dark ones of Tol's added, so that nine maps have nine colours.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255", "#332288", "#111111",
)  # fmt: skip

SCREEN = 110  # pixels of a page for an inch of a figure

STYLE: dict[str, object] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Arial", "Helvetica", "Liberation Sans", "DejaVu Sans"],
    "font.size": 7.0,
    "axes.linewidth": 0.5,
    "axes.edgecolor": "#444444",
    "svg.fonttype": "none",
    "svg.hashsalt": "deconvviz",
    "pdf.fonttype": 42,
    "savefig.facecolor": "white",
    "figure.facecolor": "white",
}


def styled() -> AbstractContextManager[None]:
    """Return a context in which figures are drawn in the project's style."""
    return matplotlib.rc_context(STYLE)  # type: ignore[arg-type]


class NotebookFigure(Figure):
    """A figure that a notebook shows at once, without `%matplotlib inline`, and draws once, with or without it."""

    def _ipython_display_(self) -> None:
        display = importlib.import_module("IPython.display").display
        display({"text/plain": str(self), "image/png": as_png(self)}, raw=True)

    def _repr_png_(self) -> bytes:
        return as_png(self)


def as_png(figure: Figure) -> bytes:
    """Return `figure` as a notebook shows it, twice as fine as `shown_width` says."""
    stream = io.BytesIO()
    with styled():
        figure.savefig(stream, format="png", dpi=2 * SCREEN)
    return stream.getvalue()


def shown_width(png: bytes) -> int:
    """Return how many pixels of a page the picture of `as_png` is to be wide."""
    return int.from_bytes(png[16:20], "big") // 2  # where PNG has it


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of `width` x `height` inches that pyplot knows nothing of."""
    figure = NotebookFigure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Return new axes at a place given in inches from the lower left corner."""
    across, down = figure.get_size_inches()
    return figure.add_axes((x / across, y / down, width / across, height / down))


def headline(figure: Figure, x: float, title: str, *notes: str) -> None:
    """Write `title` at the top of a figure, `x` inches from its left, and `notes` small below, one a line."""
    across, down = figure.get_size_inches()
    figure.text(x / across, 1 - 0.14 / down, title, va="center", fontsize=8, weight="bold")
    style: dict[str, Any] = {"va": "center", "fontsize": 5.5, "color": "#555555", "parse_math": False}
    for line, note in enumerate(filter(None, notes)):
        figure.text(x / across, 1 - (0.3 + 0.12 * line) / down, note, **style)


def show(ax: Axes, picture: NDArray[np.uint8], frame: str | None = None, **options: Any) -> None:
    """Show a picture (H, W, C) uint8, grey for one channel, without ticks; `frame` is the colour of its edge.

    `options` are those of matplotlib's `imshow`.
    """
    grey = picture.shape[-1] == 1
    shown = picture[..., 0] if grey else picture
    ax.imshow(shown, cmap="gray" if grey else None, vmin=0, vmax=255, **options)
    ax.set(xticks=[], yticks=[])
    if frame is not None:
        ax.spines[:].set_color(frame)


def write(figure: Figure, stream: IO[bytes], kind: str, metadata: dict[str, str], dpi: int = 200) -> None:
    """Write `figure` as `kind` (png, pdf, svg) with `metadata` inside; text stays text in vector formats.

    No time stands inside but that of the environment variable SOURCE_DATE_EPOCH, so equal figures are equal files.
    """
    kept: dict[str, str | None] = dict(metadata)
    if kind == "pdf":
        kept = {"Title": kept["Title"], "Creator": kept["Software"], "Subject": kept["Description"]}
    elif kind == "svg":
        kept = {"Title": kept["Title"], "Creator": kept["Software"], "Description": kept["Description"]}
    if "SOURCE_DATE_EPOCH" not in os.environ:  # which matplotlib knows
        kept |= {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind, {})
    with styled():
        figure.savefig(stream, format=kind, dpi=dpi, metadata=kept)


def inches(text: str, size: float, weight: str = "normal") -> float:
    """Return how wide a line of text is drawn."""
    font = FontProperties(size=size, weight=weight)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) / 72


def shorten(text: str, room: float, size: float, weight: str = "normal") -> str:
    """Return `text`, cut with an ellipsis if it is wider than `room` inches at font size `size`."""
    if inches(text, size, weight) <= room:
        return text
    keep = len(text)
    while keep and inches(text[:keep] + "…", size, weight) > room:
        keep -= 1
    return text[:keep].rstrip() + "…"
