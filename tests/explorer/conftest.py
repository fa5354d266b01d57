"""A small network with pictures, served once for each module of tests."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deconvviz import Explorer, Network, explore


def small(seed: int = 0) -> Network:
    """Two convolutions with pools and a classifier, 32×32."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(12 * 8 * 8, 6),
    ).requires_grad_(False)  # fmt: skip
    return Network(
        module, 32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), labels=["ant", "bee", "cow", "dog", "eel", "fox"],
        aliases={"conv1": "0", "conv2": "3", "fc": "7"},
    )  # fmt: skip


def picture(seed: int = 0, size: tuple[int, int] = (40, 52)) -> Image.Image:
    """Noise, wider than high."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def content(image: Image.Image, kind: str = "PNG") -> bytes:
    """A picture as the content of a file."""
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


@dataclass
class Page:
    """What the page of an explorer does: it asks with the token."""

    explorer: Explorer
    net: Network
    folder: Path

    def __post_init__(self) -> None:
        self.base, _, self.token = self.explorer.url.partition("/?token=")
        self.http = httpx.Client(base_url=self.base, headers={"X-Token": self.token}, timeout=60)

    def get(self, path: str, **query: Any) -> httpx.Response:
        """An answer, whatever it is."""
        return self.http.get(f"/api/{path}", params={k: v for k, v in query.items() if v is not None})

    def json(self, path: str, **query: Any) -> Any:
        """An answer that must be one."""
        answer = self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def send(self, data: bytes, name: str = "sent.png") -> httpx.Response:
        """Drop a picture."""
        return self.http.post("/api/pictures", params={"name": name}, content=data)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A small network with one picture, `a.png`, served."""
    folder = tmp_path_factory.mktemp("pictures")
    picture().save(folder / "a.png")
    net = small()
    with explore(net, folder / "a.png") as explorer:
        opened = Page(explorer, net, folder)
        yield opened
        opened.http.close()


@pytest.fixture
def first(page: Page) -> str:
    """The id of the given picture."""
    id: str = page.json("model")["pictures"][0]["id"]
    return id
