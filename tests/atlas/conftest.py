"""A small scan that never ran: a store with hostile names and labels, and a source of made-up panels."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from deconvviz.atlas import build
from deconvviz.scanning.rows import BINS, StoreLayer, StorePicture
from deconvviz.scanning.store import Store as Opened
from deconvviz.scanning.tally import StrongestPlaces, Tally, exact_parts
from deconvviz.scanning.writer import Commit, Writer

Pixels = NDArray[np.uint8]

HOSTILE = (
    '"><script>alert(1)</script>.jpg',
    "</script><img src=x onerror=alert(1)>.jpg",
    "100% #1? a&b;c.jpg",
    "  two  spaces .jpg",
    "Ünïcödé 写真 🦊.jpg",
    "'quotes' `ticks` ${x} {{ 7*7 }}.jpg",
    "bad-\udcff-bytes.jpg",
    "turned-\u202egpj.exe.jpg",
)
LABELS = ("fox", '"><script>alert(2)</script>', "a & b", "</script>", "plain class")
CLASSES = ("fox", '"><script>alert(3)</script>', "naïve 50% #2", "javascript:alert(4)")
INPUT = 32
TOP = 9
LAYERS = (
    StoreLayer(0, "features.0", "conv1", "Conv2d", 12, (16, 16), (2, 2), (7, 7), 0),
    StoreLayer(1, "features.3", "conv2", "Conv2d", 70, (8, 8), (4, 4), (19, 19), 3),
    StoreLayer(2, "head", None, "Linear", len(LABELS), None, None, (INPUT, INPUT), 5),
)
# (layer, unit) that never fire.
DEAD = {(0, 3), (1, 69), (1, 4)}


def names(count: int) -> list[str]:
    """Paths of `count` pictures, the hostile ones first."""
    plain = [f"{n:04d}.jpg" for n in range(count - len(HOSTILE))]
    return [f"{CLASSES[n % len(CLASSES)]}/{name}".replace("</", "<|") for n, name in enumerate([*HOSTILE, *plain])]


def write_store(
    path: Path,
    pictures: int = 40,
    classes: bool = True,
    weights: str = "0" * 64,
    maps: Sequence[int] = (12, 70, 5),
    top: int = TOP,
    seed: int = 0,
    prefix: str = "",
) -> Path:
    """A complete store of random numbers, the same for the same arguments."""
    rng = np.random.default_rng(seed)
    facts = {
        "model": {"name": "net <b>&", "weights": "made up", "sha256": weights},
        "preprocessing": {"input_size": [INPUT, INPUT]},
        "input": [3, INPUT, INPUT],
        "aliases": {"conv1": "features.0", "1": "features.0", "conv2": "features.3", "2": "features.3"},
        "labels": list(LABELS),
        "top": top,
        "per_picture": 1,
    }
    layers = [replace(layer, maps=n) for layer, n in zip(LAYERS, maps, strict=True)]
    keys = [(layer.id, unit) for layer in layers for unit in range(layer.maps)]
    count = len(keys)
    histogram = np.zeros((count, BINS), np.int64)
    tops = []
    for n, (layer, unit) in enumerate(keys):
        if (layer, unit) in DEAD:
            histogram[n, 0] = pictures
            places = [(p, 0, 0, 0.0) for p in range(top)]
        else:
            histogram[n, rng.integers(40, 50, pictures)] += 1
            chosen = rng.choice(pictures - 1, top, replace=False)
            strengths = np.sort(rng.uniform(1, 50, top))[::-1]
            high, wide = LAYERS[layer].size or (1, 1)
            places = [
                (int(p), int(rng.integers(high)), int(rng.integers(wide)), float(a))
                for p, a in zip(chosen, strengths, strict=True)
            ]
        tops.append((layer, unit, places))
    alive = np.array([key not in DEAD for key in keys])
    progress = Commit(
        done=pictures,
        tally=Tally(
            count=pictures - 1,
            parts=exact_parts(rng.uniform(0, 100, (1, count)) * alive),
            maximum=np.array([places[0][3] for _, _, places in tops]),
            fires=rng.integers(1, pictures, count) * alive,
            histogram=histogram,
            places=StrongestPlaces.empty(count, top),
        ),
        top=tops,
        pictures=[(n, None, 64, 48, None) for n in range(pictures - 1)] + [(pictures - 1, None, None, None, "no <b>")],
    )
    listed = [(prefix + name, name.split("/")[0] if classes else None) for name in names(pictures)]
    progress.pictures = [(n, listed[n][1], *rest) for n, _, *rest in progress.pictures]
    with Writer.open(path) as store:
        store.create(facts, layers)
        store.begin("2026-01-01", "/nowhere", 1, {}, listed)
        store.commit(0, progress, 1.0, "2026-01-01")
    return path


@dataclass(frozen=True)
class MadeUp:
    """A panel."""

    projection: Pixels
    crop: Pixels
    offset: tuple[int, int]
    field: tuple[int, int]


@dataclass
class FakeSource:
    """Panels that depend on unit and rank only; counts what it is asked, and fails after `fail_after` panels."""

    fail_after: int | None = None
    asked: list[tuple[int, int, int]] = field(default_factory=list)
    classified: list[int] = field(default_factory=list)

    def panels(self, layer: StoreLayer, wanted: Collection[tuple[int, int]]) -> Iterator[tuple[int, int, MadeUp]]:
        # In the order of pictures, so that units become complete late.
        for unit, rank in sorted(wanted, key=lambda w: zlib.crc32(repr(w).encode())):
            if self.fail_after is not None and len(self.asked) >= self.fail_after:
                raise KeyboardInterrupt
            self.asked.append((layer.id, unit, rank))
            yield unit, rank, panel(layer, unit, rank)

    def photograph(self, picture: StorePicture) -> Pixels:
        y, x = np.mgrid[0:INPUT, 0:INPUT]
        return np.stack([x * 8, y * 8, np.full_like(x, picture.id * 6 % 256)], axis=-1).astype(np.uint8)

    def boxes(self, layer: StoreLayer, places: Sequence[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
        rows, columns = layer.stride or (1, 1)
        high, wide = layer.field or (INPUT, INPUT)
        return [
            (
                max(r * rows - high // 2, 0),
                max(c * columns - wide // 2, 0),
                r * rows + high // 2,
                c * columns + wide // 2,
            )
            for r, c in places
        ]

    def direct(self, layer: StoreLayer) -> NDArray[np.float64] | None:
        """Of conv2 alone: unit u drives class u % 5, and unit 0 works against class 3."""
        if layer.name != "features.3":
            return None
        weights = np.zeros((len(LABELS), layer.maps))
        for unit in range(layer.maps):
            weights[unit % len(LABELS), unit] = 1 + unit
        weights[3, 0] = -2
        return weights

    def shares(
        self, layers: Sequence[StoreLayer], pictures: Sequence[StorePicture]
    ) -> Iterator[tuple[int, list[NDArray[np.float64]]]]:
        """A picture is taken for class `id % 3`, to which unit u adds u - 1, times one more than the picture's id."""
        for picture in pictures:
            self.classified.append(picture.id)
            yield picture.id % 3, [(np.arange(layer.maps) - 1.0) * (picture.id + 1) for layer in layers]


def panel(layer: StoreLayer, unit: int, rank: int) -> MadeUp:
    """A grating whose direction and colour are the unit's, cut at the top left for every fourth rank."""
    high, wide = layer.field or (INPUT, INPUT)
    y, x = np.mgrid[0:high, 0:wide] / max(high, wide)
    turn = unit * 0.7
    wave = np.sin(14 * (x * np.cos(turn) + y * np.sin(turn)) + rank * 0.2)[..., None]
    colour = np.abs([np.cos(turn), np.sin(turn * 1.3), np.cos(turn * 0.4 + 1)])
    projection = (128 + 100 * wave * colour).astype(np.uint8)
    crop = np.clip(128 + 90 * wave * colour + 30 * x[..., None], 0, 255).astype(np.uint8)
    start = (high // 3, wide // 4) if rank % 4 == 3 else (0, 0)
    return MadeUp(projection[start[0] :, start[1] :], crop[start[0] :, start[1] :], start, (high, wide))


@pytest.fixture(scope="session")
def made_up() -> SimpleNamespace:
    """What the tests of the atlas make stores and panels with."""
    return SimpleNamespace(
        write_store=write_store, Source=FakeSource, panel=panel, Panel=MadeUp, layers=LAYERS, top=TOP, dead=DEAD
    )


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """The store with classes, open."""
    with Opened.open(write_store(tmp_path_factory.mktemp("store") / "atlas.db")) as opened:
        yield opened


@pytest.fixture(scope="session")
def site(store: Opened, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished site; its folder has a name that a URL must escape. Tests only read it."""
    out = tmp_path_factory.mktemp("site") / "an atlas, 100 % #1"
    build(store, out, FakeSource())
    return out
