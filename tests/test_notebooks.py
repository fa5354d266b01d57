"""Notebooks, executed: results show themselves at once and are drawn once, tables are tables, progress is seen."""

from __future__ import annotations

import base64
import re
import warnings
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

CELLS = {
    "start": """
import torch
from matplotlib.figure import Figure
import deconvviz

draw, drawn = Figure.draw, []
Figure.draw = lambda figure, *given, **more: (drawn.append(figure), draw(figure, *given, **more))[1]
net = deconvviz.load("lenet")
image = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(0))
""",
    "result": "drawn.clear(); p = deconvviz.project(net, image, '1', top=2); p",
    "result drawn": "len(drawn)",
    "figure": "drawn.clear(); p.figure()",
    "figure drawn": "len(drawn)",
    "inline": "%matplotlib inline\nimport matplotlib.pyplot",
    "figure inline": "drawn.clear(); p.figure()",
    "figure inline drawn": "len(drawn)",
    "result inline": "drawn.clear(); p",
    "result inline drawn": "len(drawn)",
    "layers": "net.layers()",
    "table": "deconvviz.Table(('a < b', 'n'), [('<script>alert(1)</script>', 3)])",
    "store": """
class Three(torch.utils.data.Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, number):
        return image

store = deconvviz.scan(net, Three(), ["1"], top=1, store="<s>.db", workers=0, progress=True)
store
""",
    "closed": "store.close(); store",
    "progress": "o = deconvviz.occlude(net, image, window=14, stride=7, progress=True)",
    "heard": """
said = []
o = deconvviz.occlude(net, image, window=14, stride=7, progress=lambda *s: said.append(s))
said[-1]
""",
    "nobody": "o = deconvviz.occlude(net, image, window=14, stride=7)",
    "repr": "print(repr(o)); print(repr(p))",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each cell has put out."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS.values()])
    place = tmp_path_factory.mktemp("notebook")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sockets and loops: none of ours
        NotebookClient(book, timeout=900, resources={"metadata": {"path": str(place)}}).execute()
    nbformat.validate(book)
    return dict(zip(CELLS, (cell.outputs for cell in book.cells), strict=True))


def one(outputs: list[Any]) -> Any:
    (found,) = outputs
    return found.data


@pytest.mark.parametrize("cell", ["result", "result inline"])
def test_a_result_is_its_figure_and_a_line(outputs: dict[str, list[Any]], cell: str) -> None:
    data = one(outputs[cell])
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/plain"].startswith("Projection(lenet conv1: image (1, 28, 28), units (2,), places (2, 2)")
    assert "\n" not in data["text/plain"] and len(data["text/plain"]) < 300
    picture = re.search(r'<img src="data:image/png;base64,([^"]+)" width="\d+"', data["text/html"])
    assert picture is not None and base64.b64decode(picture[1]).startswith(b"\x89PNG")
    assert one(outputs[f"{cell} drawn"])["text/plain"] == "1"


@pytest.mark.parametrize("cell", ["figure", "figure inline"])
def test_a_figure_shows_itself_with_and_without_inline_and_is_drawn_once(
    outputs: dict[str, list[Any]], cell: str
) -> None:
    assert base64.b64decode(one(outputs[cell])["image/png"]).startswith(b"\x89PNG")
    assert one(outputs[f"{cell} drawn"])["text/plain"] == "1"


def test_layers_tables_and_stores_are_tables_and_nothing_in_them_is_html(outputs: dict[str, list[Any]]) -> None:
    layers = one(outputs["layers"])["text/html"]
    assert layers.count("<tr>") > 5 and "features.conv1" in layers and "receptive field" in layers
    table = one(outputs["table"])
    assert "<td" in table["text/html"] and "a &lt; b" in table["text/html"] and "<script>" not in table["text/html"]
    assert table["text/plain"] == "Table(a < b, n: 1 rows)"
    store = outputs["store"][-1].data
    assert "<table>" in store["text/html"] and "<s>" not in store["text/html"] and "conv1" in store["text/html"]
    assert store["text/plain"] == "Store(<s>.db: lenet, 1 layers, 3 of 3 pictures)"
    assert one(outputs["closed"]) == {"text/plain": "Store(<s>.db, closed)"}


def test_progress_is_seen_where_it_is_asked_for(outputs: dict[str, list[Any]]) -> None:
    bar = one(outputs["progress"])
    assert re.fullmatch(r"9/9 positions · [\d.]+ s", bar["text/plain"])
    assert bar["text/html"].startswith('<progress value="9" max="9"></progress> 9/9 positions')
    assert outputs["store"][0].data["text/plain"].startswith("3/3 pictures")
    assert one(outputs["heard"])["text/plain"] == "(9, 9)"
    assert outputs["nobody"] == []


def test_a_repr_is_one_line_of_shapes(outputs: dict[str, list[Any]]) -> None:
    (text,) = outputs["repr"]
    first, second = text.text.splitlines()
    assert first.startswith("Occlusion(lenet occlusion 14x14: ") and "logits (9, 10)" in first and len(first) < 300
    assert second.startswith("Projection(")
