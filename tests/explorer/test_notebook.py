"""In a notebook: the page in a frame, two at once, the kernel free meanwhile."""

from __future__ import annotations

import re
import warnings
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

CELLS = {
    "start": """
import torch, deconvviz, httpx
net = deconvviz.load("lenet")
def ask(page, path):
    base, _, token = page.url.partition("/?token=")
    return httpx.get(f"{base}{path}", headers={"X-Token": token}, timeout=60)
""",
    "one": "one = deconvviz.explore(net, torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(0))); one",
    "two": "two = deconvviz.explore(net, torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(1))); two",
    "both": "[ask(page, '/api/model').json()['pictures'][0]['id'] for page in (one, two)]",
    "free": "tuple(net.module(torch.zeros(1, 1, 28, 28)).shape)",
    "framed": "httpx.get(one.url).headers['content-security-policy'], 'x-frame-options' in httpx.get(one.url).headers",
    "closed": "one.close(); one",
    "other": "ask(two, '/api/health').status_code",
    "not kept": "print(deconvviz.explore(net).url)",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each cell has put out."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS.values()])
    place = tmp_path_factory.mktemp("notebook")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sockets and loops: none of ours
        NotebookClient(book, timeout=900, resources={"metadata": {"path": str(place)}}).execute()
    return dict(zip(CELLS, (cell.outputs for cell in book.cells), strict=True))


def one(outputs: list[Any]) -> Any:
    (found,) = outputs
    return found.data


@pytest.mark.parametrize("cell", ["one", "two"])
def test_the_page_is_in_a_frame(outputs: dict[str, list[Any]], cell: str) -> None:
    data = one(outputs[cell])
    frame = re.search(r'<iframe src="(http://127\.0\.0\.1:\d+/\?token=[\w-]+)" title="[^"]+"', data["text/html"])
    assert frame is not None and data["text/plain"] == f"Explorer(lenet, {frame[1]})"
    assert f'<a href="{frame[1]}"' in data["text/html"] and "<script" not in data["text/html"]


def test_two_at_once_and_the_kernel_is_free(outputs: dict[str, list[Any]]) -> None:
    first, second = re.findall(r"[0-9a-f]{16}", one(outputs["both"])["text/plain"])
    assert first != second
    assert one(outputs["free"])["text/plain"] == "(1, 10)"


def test_a_notebook_may_frame_it(outputs: dict[str, list[Any]]) -> None:
    said = one(outputs["framed"])["text/plain"]
    assert "frame-ancestors" not in said and said.endswith("False)") and "default-src" in said


def test_closing_one_leaves_the_other(outputs: dict[str, list[Any]]) -> None:
    assert one(outputs["closed"])["text/html"] == "<code>Explorer(lenet, closed)</code>"
    assert one(outputs["other"])["text/plain"] == "200"
