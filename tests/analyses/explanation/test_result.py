"""The page about one picture: saved and loaded, drawn, as HTML that is whole and safe, as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import deconvviz
from deconvviz import Explanation, Network

EVIL = "<script>alert('&\"$x_1$')</script>"


@pytest.fixture(scope="module")
def made() -> Explanation:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(7)
    )
    module(torch.rand(1, 3, 20, 26))
    labels = [EVIL, *(f"class number {n}" for n in range(6))]
    net = Network(module.eval(), (20, 26), mean=(0.5,) * 3, std=(0.25,) * 3, labels=labels)
    return deconvviz.explain(net, torch.randn(1, 3, 20, 26), target=EVIL, window=8, stride=4)


def test_saves_and_loads(made: Explanation, tmp_path: Path) -> None:
    loaded = Explanation.load(made.save(tmp_path / "e.npz"))
    assert loaded == made and loaded.html() == made.html()
    with pytest.raises(deconvviz.DeconvvizValueError, match=r"one of \.png, \.pdf, \.svg, \.npz, \.html, \.json"):
        made.save(tmp_path / "e.txt")


def test_as_json(made: Explanation, tmp_path: Path) -> None:
    found = json.loads(made.save(tmp_path / "e.json").read_text())
    assert found["target_label"] == EVIL and len(found["classes"]) in (5, 6)
    assert [len(stage["units"]) for stage in found["stages"]] == [3, 3, 3]
    assert found["stages"][0]["units"][0]["drop"] == float(made.stages[0].drops[0])
    assert {one["about"] for one in found["stages"][2]["sanity"]["statements"]} >= {"picture", "weights"}


class Tags(HTMLParser):
    """What a page is made of: tags, where they point, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_as_html_whole_and_escaped(made: Explanation, tmp_path: Path) -> None:
    text = made.save(tmp_path / "e.html").read_text(encoding="utf-8")
    page = Tags()
    page.feed(text)
    assert "script" not in page.tags and EVIL in page.text
    assert page.links and all(link.startswith("data:image/png;base64,") for link in page.links)
    assert len(page.links) == 1 + 2 * 3 * 3 and not re.search(r"https?:", text)
    for stage in made.stages:
        for one in stage.sanity.statements() if stage.sanity else ():
            assert one.text in page.text


def test_nothing_overlaps_or_is_cut(made: Explanation, words_apart: Callable[[Figure], None]) -> None:
    words_apart(made.figure())


def test_a_network_without_maps() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 4))
    found = deconvviz.explain(net, torch.rand(1, 3, 6, 6), window=3, stride=3)
    assert found.cam is None and found.stages == () and found.figure() is not None and "<h1>" in found.html()
    assert found.facts()["grad_cam"] is None
