"""The page about one picture as one HTML file: pictures inside, nothing fetched, everything escaped."""

from __future__ import annotations

import base64
import html
import io
import json
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deconvviz.analyses.explanation.figure import draw_overview
from deconvviz.results.base import rgb
from deconvviz.results.style import as_png, shown_width
from deconvviz.results.table import Table

if TYPE_CHECKING:
    from deconvviz.analyses.explanation.result import Explanation, Stage

_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin: 2rem 0 .3rem } p { margin: .4rem 0 }
img { max-width: 100%; height: auto; background: #fff }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0 }
th, td { padding: .15rem .7rem .15rem 0; text-align: left } .r { text-align: right } caption { text-align: left }
.units { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0 } figcaption { font-size: .85rem }
.units img { width: 8.5rem; height: 8.5rem; object-fit: contain; image-rendering: auto; background: #808080 }
pre { white-space: pre-wrap; overflow-wrap: anywhere }
.no::marker { content: "✕  " } .yes::marker { content: "✓  " } small { opacity: .75 }
"""


def page(result: Explanation) -> str:
    """Return the HTML of `result`."""
    name, label = html.escape(result.model_name), html.escape(result.label(result.target))
    overview = as_png(draw_overview(result))
    classes = Table(("class", "probability"), [(label_, f"{share:.4f}") for _, label_, share in result.classes()])
    body = [
        f"<h1>Why {label}? <small>{name}</small></h1>",
        f'<p><img src="{_data(overview)}" width="{shown_width(overview)}" alt="The picture, its classes, the '
        'probability of the class with each place covered, and Grad-CAM"></p>',
        "<h2>What it thinks</h2>", classes.html(),
        "<p><small>Occlusion: the probability of the class with a window of the mean colour over each place, 0 to 1. "
        "Grad-CAM has no unit: its largest value is 1.</small></p>",
        *(_stage(result, stage) for stage in reversed(result.stages)),
        "<h2>How it was made</h2>",
        f"<pre>{html.escape(json.dumps({'model': result.model, **result.policy}, indent=1))}</pre>",
    ]  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Nothing may be fetched or run, whatever stands in a label.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>Why {label}? {name}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _stage(result: Explanation, stage: Stage) -> str:
    p = stage.projection
    images, crops = p.images(), p.crops()
    units = []
    for k in range(len(p)):
        top, left, bottom, right = p.boxes[k].tolist()
        projected, seen = _png(images[k, top:bottom, left:right]), _png(crops[k])
        unit = int(p.units[k])
        units.append(
            f'<figure><img src="{projected}" alt="unit {unit} projected"> <img src="{seen}" alt="what it sees">'
            f"<figcaption>unit {unit} at {p.places[k].tolist()}, activation {float(p.activations[k]):.3g}<br>"
            f"adds {float(stage.contributions[k]):+.3g} to the logit; without it {-float(stage.drops[k]):+.3g}"
            "</figcaption></figure>"
        )
    size = f"{stage.maps} maps of {stage.size[0]}×{stage.size[1]}, projected by {html.escape(str(p.policy['method']))}"
    return (
        f'<h2>{html.escape(stage.name)}</h2>\n<p>{size}</p>\n<div class="units">{"".join(units)}</div>{_checks(stage)}'
    )


def _checks(stage: Stage) -> str:
    if stage.sanity is None:
        return ""
    items = "".join(
        f'<li class="{"yes" if one.shows else "no"}">{"Shows" if one.shows else "Does not show"}: '
        f"{html.escape(one.text)}</li>"
        for one in stage.sanity.statements()
    )
    return f"<ul>{items}</ul>"


def _png(picture: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(rgb(picture)).save(stream, "png")
    return _data(stream.getvalue())


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
