"""Panels against `project` on each picture alone, their places in the input, and what is drawn of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import deconvviz
from deconvviz import Network, StoreError
from deconvviz.analyses.panels.compute import Panel, PanelSource, panels, panels_page
from deconvviz.analyses.panels.result import Panels, PanelsPage
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, ImageError, UnknownNameError
from deconvviz.scanning.store import Store

SIZE = 24


def make() -> Network:
    torch.manual_seed(1)
    layers = [
        nn.Conv2d(3, 5, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 6, 3, padding=1), nn.ReLU(),
        nn.Conv2d(6, 7, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(7 * 36, 4),
    ]  # fmt: skip
    module = nn.Sequential(*layers)
    with torch.no_grad():
        module[3].bias[2] = -50.0  # this unit is dead
        module[0].bias.fill_(0.2)
    return Network(module, SIZE, (0.4,) * 3, (0.3,) * 3, aliases={"1": "0", "2": "3", "3": "5"})


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of eight pictures beside their folder."""
    place = tmp_path_factory.mktemp("panels")
    for n in range(8):
        path = place / "photos" / "ab"[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(n).integers(0, 256, (30, 28, 3), dtype=np.uint8)).save(path)
    deconvviz.scan(make(), place / "photos", ["1", "2", "3", "8"], top=5, store=place / "s.db", workers=0).close()
    return place / "s.db"


@pytest.mark.parametrize("layer", ["1", "2", "3", "8"])
def test_as_project_on_each_picture(scanned: Path, layer: str) -> None:
    net, unit = make(), 3
    result = panels(net, scanned, layer, unit)
    with Store.open(scanned) as store:
        top = [p for p in store.top(layer, unit) if p.activation]
        assert len(result) == len(top) > 2
        for k, place in enumerate(top):
            picture = store.picture(place.picture)
            photo = scanned.parent / "photos" / str(picture.path)
            one = deconvviz.project(net, photo, layer, [unit], place=(place.row, place.col))
            top_, left, bottom, right = one.boxes[0].tolist()
            assert result.boxes[k].tolist() == [top_, left, bottom, right]
            a, b, c, d = result.parts[k].tolist()
            assert torch.allclose(result.pixels[k, :, a:c, b:d], one.pixels[0, :, top_:bottom, left:right], atol=1e-6)
            assert (result.crops[k, a:c, b:d].numpy() == one.crops()[0]).all()
            assert result.paths[k] == picture.path and result.labels[k] == picture.label
            assert result.places[k].tolist() == [place.row, place.col]
            outside = torch.ones(result.pixels.shape[2:], dtype=torch.bool)
            outside[a:c, b:d] = False
            assert not result.pixels[k][:, outside].any() and not result.crops[k][outside].any()
        assert result.statistics["share"] == store.units(layer).share[unit]


def test_the_part_lies_where_the_receptive_field_says(scanned: Path) -> None:
    """Layer 1 sees 5 x 5 pixels at a stride of 2, padded by 2: place (r, c) is centred on pixel (2 r, 2 c)."""
    with Store.open(scanned) as store:
        source, layer = PanelSource(make(), store), store.layer("1")
        wanted = {(u, k) for u in range(5) for k in range(5)}
        made = {(u, k): p for u, k, p in source.panels(layer, wanted)}
        assert set(made) == wanted
        clipped = 0
        for panel in made.values():
            row, col = 2 * panel.place.row - 2, 2 * panel.place.col - 2
            assert panel.field == (5, 5)
            assert panel.offset == (max(-row, 0), max(-col, 0))
            assert panel.box == (max(row, 0), max(col, 0), min(row + 5, SIZE), min(col + 5, SIZE))
            assert panel.crop.shape == panel.projection.shape == (*np.subtract(panel.box[2:], panel.box[:2]), 3)
            clipped += panel.crop.shape[:2] != (5, 5)
        assert clipped, "no panel hangs over a border: the test shows nothing"
        assert source.boxes(layer, [(0, 0), (3, 4)]) == [(0, 0, 3, 3), (4, 6, 9, 11)]


def test_a_field_larger_than_the_input_is_the_input(scanned: Path) -> None:
    with Store.open(scanned) as store:
        source = PanelSource(make(), store)
        for name in ("8", "3"):
            for _, _, panel in source.panels(store.layer(name), {(0, 0), (1, 0)}):
                high, wide = panel.field
                assert high <= SIZE and wide <= SIZE
                assert panel.offset[0] + panel.crop.shape[0] <= high and panel.offset[1] + panel.crop.shape[1] <= wide
        assert PanelSource(make(), store)._of(store.layer("8")).field == (SIZE, SIZE)


def test_one_recording_for_all_units_of_a_picture(scanned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    plain = deconvviz.analyses.panels.compute.project_one

    def counted(*args: Any, **kwargs: Any) -> object:
        asked.append(len(args[3]))
        return plain(*args, **kwargs)

    monkeypatch.setattr(deconvviz.analyses.panels.compute, "project_one", counted)
    with Store.open(scanned) as store:
        wanted = {(u, k) for u in range(7) for k in range(5)}
        list(PanelSource(make(), store).panels(store.layer("3"), wanted))
        pictures = {p.picture for places in store.tops("3") for p in places}
        places = sum(map(len, store.tops("3")))
    assert len(asked) == len(pictures) and sum(asked) == places


def test_projections_are_grey_where_nothing_is(scanned: Path) -> None:
    with Store.open(scanned) as store:
        (panel,) = [p for _, _, p in PanelSource(make(), store).panels(store.layer("2"), {(0, 0)})]
    assert isinstance(panel, Panel) and panel.projection.dtype == np.uint8
    assert (panel.projection[(panel.pixels == 0).all(0).numpy()] == 128).all()


def test_data_sets_and_bare_modules(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())
    data = TensorDataset(torch.randn(4, 1, 8, 8))
    deconvviz.scan(module, data, "0", top=2, store=tmp_path / "s.db", workers=0).close()
    with pytest.raises(DeconvvizValueError, match="give it as images"):
        panels(module, tmp_path / "s.db", "0", 1)
    with pytest.raises(StoreError, match="made of data set; give this data set as images"):
        panels(module, tmp_path / "s.db", "0", 1, tmp_path)
    result = panels(module, tmp_path / "s.db", "0", 1, data)
    assert result.paths == (None, None) and result.pixels.shape == (2, 1, 3, 3) and result.crops.shape == (2, 3, 3, 3)
    assert result.figure() is not None


def test_what_is_wrong_is_said(scanned: Path, tmp_path: Path) -> None:
    net = make()
    with pytest.raises(UnknownNameError, match="layer 'conv9'"):
        panels(net, scanned, "conv9", 0)
    with pytest.raises(DeconvvizValueError, match="unit 99 does not exist"):
        panels(net, scanned, "1", 99)
    with pytest.raises(DeconvvizTypeError, match="model is a str"):
        panels("zfnet", scanned, "1", 0)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="no such folder"):
        panels(net, scanned, "1", 0, tmp_path / "nowhere")
    with pytest.raises(StoreError, match="made of files; give the folder of these files"):
        panels(net, scanned, "1", 0, TensorDataset(torch.zeros(8, 3, SIZE, SIZE)))
    with pytest.raises(DeconvvizValueError, match="units_per_layer is 0"):
        panels_page(net, scanned, units_per_layer=0)
    (tmp_path / "other" / "a").mkdir(parents=True)
    (tmp_path / "other" / "b").mkdir()
    for n in range(8):
        Image.new("RGB", (28, 30), (9 * n, 80, 90)).save(tmp_path / "other" / "ab"[n % 2] / f"{n}.png")
    with pytest.raises(StoreError, match="is not the picture that was scanned"):
        panels(net, scanned, "1", 0, tmp_path / "other")
    with torch.no_grad():
        net.module[0].bias[0] += 1
    with pytest.raises(StoreError, match="weights"):
        panels(net, scanned, "1", 0)


def test_a_dead_unit_has_no_panels(scanned: Path) -> None:
    result = panels(make(), scanned, "2", 2)
    assert len(result) == 0 and result.statistics["maximum"] == 0
    assert "fires on no picture" in texts(result)


def texts(result: Panels | PanelsPage) -> str:
    return " ".join(t.get_text() for t in result.figure().texts)


def test_a_page(scanned: Path, tmp_path: Path) -> None:
    made = panels_page(make(), scanned, seed=3, units_per_layer=4, layers=["1", "2"])
    by_layer = {name: [p.unit for p in made.panels if p.name == name] for name in ("1", "2")}
    assert len(by_layer["1"]) == len(by_layer["2"]) == 4 and 2 not in by_layer["2"], "dead units are not drawn"
    again = panels_page(make(), scanned, seed=3, units_per_layer=4, layers=["1", "2"])
    other = panels_page(make(), scanned, seed=4, units_per_layer=4, layers=["1", "2"])
    assert made == again and [p.unit for p in other.panels] != [p.unit for p in made.panels]
    for panel in made.panels:
        if panel.name == "1":
            assert panel.filter is not None and torch.equal(panel.filter, make().module[0].weight[panel.unit].detach())
        else:
            assert panel.filter is None
    made.save(tmp_path / "page.npz")
    assert PanelsPage.load(tmp_path / "page.npz") == made
    for suffix, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        made.save(tmp_path / f"page.{suffix}")
        assert (tmp_path / f"page.{suffix}").read_bytes().startswith(start)
    assert "1 (filters)" in texts(made) and f"unit {by_layer['2'][0]}" in texts(made)


def test_panels_are_saved_and_loaded(scanned: Path, tmp_path: Path) -> None:
    result = panels(make(), scanned, "3", 1)
    result.save(tmp_path / "p.npz")
    assert Panels.load(tmp_path / "p.npz") == result
    assert result.facts()["places"] == result.places.tolist()


def test_a_figure_shows_projections_beside_crops(scanned: Path) -> None:
    result = panels(make(), scanned, "1", 3)
    figure = result.figure()
    shown = [np.asarray(ax.images[0].get_array()) for ax in figure.axes]
    count = len(result)
    assert len(shown) == 2 * count
    images = result.images()
    for k in range(count):
        top, left, bottom, right = result.parts[k].tolist()
        inside = np.s_[top:bottom, left:right]
        assert (shown[k][inside][..., :3] == images[k][inside]).all()
        assert (shown[count + k][inside][..., :3] == result.crops[k].numpy()[inside]).all()
        assert shown[k][..., 3].sum() == 255 * (bottom - top) * (right - left)
    assert f"1  {float(result.activations[0]):.3g}" in texts(result)


def test_hostile_names_are_text(scanned: Path) -> None:
    result = panels(make(), scanned, "1", 3)
    names = ("$x^2$.png", "a/\udcff\n<b>.png", *result.paths[2:])
    hostile = Panels(**{**vars(result), "paths": names, "labels": (None,) * len(result)})
    figure = hostile.figure()
    figure.canvas.draw()
    assert "\\$x^2\\$.png" in texts(hostile) and "??<b>.png" in texts(hostile)


def test_the_model_is_left_alone(scanned: Path) -> None:
    net = make()
    net.module.train()
    panels(net, scanned, "3", 1)
    assert all(m.training and not m._forward_hooks for m in net.module.modules())
    assert all(isinstance(p, Tensor) and p.grad is None for p in net.module.parameters())
