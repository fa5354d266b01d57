"""One look for all figures, applied locally: the user's rcParams and pyplot state stay as they are."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import IO

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

# Okabe & Ito's colours, told apart with every common colour vision; yellow left out (invisible on paper), and
# three dark ones of Tol's added, so that nine maps have nine colours.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255", "#332288", "#111111",
)  # fmt: skip

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


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of `width` x `height` inches that pyplot knows nothing of."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def write(figure: Figure, stream: IO[bytes], kind: str, metadata: dict[str, str], dpi: int = 200) -> None:
    """Write `figure` as `kind` (png, pdf, svg) with `metadata` inside; text stays text in vector formats."""
    kept = dict(metadata)
    if kind == "pdf":
        kept = {"Title": kept["Title"], "Creator": kept["Software"], "Subject": kept["Description"]}
    elif kind == "svg":
        kept = {"Title": kept["Title"], "Creator": kept["Software"], "Description": kept["Description"]}
    with styled():
        figure.savefig(stream, format=kind, dpi=dpi, metadata=kept)


def inches(text: str, size: float, weight: str = "normal") -> float:
    """Return how wide a line of text is drawn."""
    font = FontProperties(size=size, weight=weight)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) / 72
