"""What a page is told is what `project`, `occlude` and the network itself say."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import deconvviz
from deconvviz import Network, explore
from deconvviz.explorer.session import Session
from deconvviz.results.base import photograph, signed_pictures

from .conftest import Page, picture, small


def pixels(url: str) -> np.ndarray[Any, Any]:
    """The picture of a data address."""
    kind, _, data = url.partition(";base64,")
    assert kind == "data:image/png"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def heat(page: Page, id: str, **query: Any) -> list[Any]:
    """The lines of a heat map's stream."""
    with page.http.stream("GET", f"/api/pictures/{id}/heat", params=query) as answer:
        assert answer.status_code == 200
        return [json.loads(line) for line in answer.iter_lines()]


def test_the_model_says_its_layers_and_pictures(page: Page, first: str) -> None:
    model = page.json("model")
    layers = {layer["id"]: layer for layer in model["layers"]}
    assert model["name"] == "Sequential" and model["input"] == [32, 32] and model["labels"][0] == "ant"
    assert layers["conv2"] == {
        "id": "conv2", "name": "conv2", "path": "3", "kind": "Conv2d", "shape": [12, 16, 16], "stride": [2, 2],
        "field": [8, 8], "methods": ["deconvnet", "guided", "gradient"],
    }  # fmt: skip
    assert layers["fc"]["shape"] == [6, 1, 1] and layers["fc"]["field"] is None
    assert model["window"] == {"default": 5, "max": 32, "grey": "#80664c"} and model["refused"] is None
    assert model["pictures"][0] == {"id": first, "name": "a.png"}


def test_a_picture_is_what_the_network_sees(page: Page, first: str) -> None:
    found, x = page.json(f"pictures/{first}"), page.net.preprocess(page.folder / "a.png")
    logits = page.net.module(x)[0]
    order = logits.argsort(descending=True)[:5].tolist()
    assert [one["class"] for one in found["answer"]] == order
    assert [one["label"] for one in found["answer"]] == [page.net.card.labels[k] for k in order]
    assert [one["logit"] for one in found["answer"]] == pytest.approx(logits[order].tolist(), abs=1e-5)
    assert [one["probability"] for one in found["answer"]] == pytest.approx(logits.softmax(0)[order].tolist(), abs=1e-6)
    assert found["whole"] == [40, 52] and found["size"] == [32, 32]
    assert found["used"] == pytest.approx(list(page.net.shown_region((40, 52))))
    seen = np.asarray(Image.open(io.BytesIO(page.get(f"pictures/{first}/input").content)))
    assert np.array_equal(seen, photograph(x[0], page.net.card.mean, page.net.card.std))
    whole = Image.open(io.BytesIO(page.get(f"pictures/{first}/whole", side=26).content))
    assert whole.size == (26, 20) and whole.format == "JPEG"


@pytest.mark.parametrize("layer", ["conv1", "conv2", "fc", "2"])
def test_maps_are_bytes_by_their_own_maximum(page: Page, first: str, layer: str) -> None:
    answer = page.get(f"pictures/{first}/maps", layer=layer)
    shape = tuple(map(int, answer.headers["x-shape"].split(",")))
    maps = deconvviz.record(page.net, page.folder / "a.png").maps(layer)
    found = torch.frombuffer(bytearray(answer.content), dtype=torch.uint8).view(shape)
    assert shape == tuple(maps.shape)
    for one, shown in zip(maps, found, strict=True):
        most = float(one.max())
        wanted = (one / most).clamp(0, 1) * 255 if most > 0 else torch.zeros_like(one)
        assert (wanted - shown.float()).abs().max() <= 0.5001


def test_large_maps_are_made_smaller_by_their_peaks() -> None:
    from deconvviz.explorer.drawing import map_bytes

    maps = torch.zeros(2, 130, 90)
    maps[0, 77, 13], maps[0, 0, 0], maps[1, 129, 89] = 4.0, 1.0, 2.0
    (c, h, w), data = map_bytes(maps)
    found = np.frombuffer(data, np.uint8).reshape(c, h, w)
    assert (c, h, w) == (2, 44, 30)
    assert found[0, 25, 4] == 255 and found[0, 0, 0] == 64 and found[1, 43, 29] == 255
    assert (found > 0).sum() == 3


@pytest.mark.parametrize("target", [None, 2])
def test_units_say_their_peaks_and_what_they_add(page: Page, first: str, target: int | None) -> None:
    found = page.json(f"pictures/{first}/units", layer="conv2", target=target)
    module, x = page.net.module, page.net.preprocess(page.folder / "a.png")
    assert isinstance(module, nn.Sequential)
    maps = module[:5](x).detach().double().requires_grad_()
    logits = module.double()[5:](maps)[0]
    number = int(logits.argmax()) if target is None else target
    (gradient,) = torch.autograd.grad(logits[number], maps)
    module.float()
    assert found["peaks"] == pytest.approx(maps[0].flatten(1).amax(1).tolist(), abs=1e-5)
    for unit, (row, col) in enumerate(found["places"]):
        assert float(maps.detach()[0, unit, row, col]) == pytest.approx(found["peaks"][unit], abs=1e-5)
    assert found["contribution_of"] == number
    assert found["contribution"] == pytest.approx((maps.detach() * gradient)[0].sum((1, 2)).tolist(), abs=1e-4)


@pytest.mark.parametrize(
    "asked",
    [
        {"unit": 3}, {"unit": 5, "row": 0, "col": 15}, {"unit": 1, "row": 7, "col": 8, "method": "guided"},
        {"unit": 2, "method": "gradient", "contrast": 90}, {"unit": 4, "overlap": "max"},
    ],
)  # fmt: skip
def test_a_projection_is_that_of_project(page: Page, first: str, asked: dict[str, Any]) -> None:
    found = page.json(f"pictures/{first}/projection", layer="conv2", **asked)
    place = (asked["row"], asked["col"]) if "row" in asked else None
    more = {key: asked[key] for key in ("method", "overlap") if key in asked}
    p = deconvviz.project(page.net, page.folder / "a.png", "conv2", [asked["unit"]], place=place, **more)
    top, left, bottom, right = found["box"]
    assert found["box"] == p.boxes[0].tolist() and found["place"] == p.places[0].tolist()
    assert found["activation"] == pytest.approx(float(p.activations[0]), abs=1e-6)
    shown = signed_pictures(p.pixels, asked.get("contrast", 99.5))[0, top:bottom, left:right]
    assert np.abs(pixels(found["projection"]).astype(int) - shown).max() <= 1
    assert np.array_equal(pixels(found["crop"]), p.crops()[0])
    assert found["peak"] == pytest.approx(float(p.pixels.abs().max()), rel=1e-5)
    assert found["switches"] == p.switches == 1 and found["warning"] is None


def test_two_projections_on_one_scale(page: Page, first: str) -> None:
    one = page.json(f"pictures/{first}/projection", layer="conv2", unit=3)
    two = page.json(f"pictures/{first}/projection", layer="conv2", unit=3, scale=2 * one["scale"])
    assert two["scale"] == 2 * one["scale"]
    a, b = (pixels(found["projection"]).astype(float) - 128 for found in (one, two))
    inside = np.abs(a) < 126
    assert np.abs(a / 2 - b)[inside].max() <= 1


def test_a_projection_that_no_photograph_changes_says_so(page: Page, first: str) -> None:
    found = page.json(f"pictures/{first}/projection", layer="conv1", unit=0)
    assert found["switches"] == 0 and found["warning"] is None  # no rectifier lies below either
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    module(torch.zeros(1, 3, 16, 16))
    session = Session(Network(module, 16, mean=(0.5,) * 3, std=(0.2,) * 3), picture())
    (id,) = (shown["id"] for shown in session.pictures.listed())
    from deconvviz.explorer.questions import Projected

    with pytest.warns(deconvviz.DeconvvizWarning) as heard:
        deconvviz.project(session.net, picture(), "2", [0])
    assert session.projection(id, Projected("2", 0))["warning"] == str(heard[0].message)


@pytest.mark.parametrize(
    ("query", "fill"),
    [
        ({}, "grey"), ({"fill": "blur", "window": "9"}, "blur"), ({"fill": "noise", "window": "7,12"}, "noise"),
        ({"fill": "#ff0000", "window": "6"}, [(1 - 0.5) / 0.2, (0 - 0.4) / 0.25, (0 - 0.3) / 0.3]),
        ({"target": "2", "layer": "conv2", "window": "8"}, "grey"),
    ],
)  # fmt: skip
def test_cover_and_heat_are_occlude_and_the_network_itself(
    page: Page, first: str, query: dict[str, str], fill: Any
) -> None:
    window = tuple(map(int, query.get("window", "5").split(",") * 2))[:2]
    target, layer = (query.get(name) for name in ("target", "layer"))
    o = deconvviz.occlude(
        page.net, page.folder / "a.png", None if target is None else int(target), window, 4, fill, layer
    )
    assert isinstance(o, deconvviz.Occlusion)
    for position in (0, 3, len(o) // 2, len(o) - 1):
        row, col = o.origins[position].tolist()
        found = page.json(f"pictures/{first}/cover", row=row, col=col, **query)
        logits = page.net.module(o.covered(position)[None])[0].detach()
        order = logits.argsort(descending=True)[:5].tolist()
        assert [one["class"] for one in found["answer"]] == order and found["origin"] == [row, col]
        for one in found["answer"]:
            assert one["logit"] == pytest.approx(float(logits[one["class"]]), abs=1e-4)
            assert one["logit"] == pytest.approx(float(o.logits[position, one["class"]]), abs=1e-4)
        assert found["target"]["class"] == o.target
        assert found["target"]["probability"] == pytest.approx(float(o.probability.flatten()[position]), abs=1e-5)
        assert found["baseline"]["logit"] == pytest.approx(float(o.baseline[o.target]), abs=1e-5)
        if o.activity is None:
            assert found["activity"] is found["map"] is None
            continue
        assert found["activity"] == pytest.approx(float(o.activity.flatten()[position]), abs=1e-3)
        assert found["activity_baseline"] == pytest.approx(o.baseline_activity, abs=1e-3)
        module = page.net.module
        assert isinstance(module, nn.Sequential) and o.unit is not None
        inside, whole = (module[:5](x[None])[0, o.unit].detach() for x in (o.covered(position), o.image))
        height, width, data = found["map"]
        shown = np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width)
        assert np.abs(shown - (inside / whole.max()).clamp(0, 1).numpy() * 255).max() <= 0.51
    head, *parts, end = heat(page, first, stride="4", **query)
    assert end == {"end": True} and [head["rows"], head["cols"]] == list(o.shape) and head["total"] == len(o)
    seen: dict[tuple[int, int], list[Any]] = {}
    for part in parts:
        for row, col, *rest in part["at"]:
            assert (row, col) not in seen
            seen[row, col] = rest
        assert part["done"] == len(seen)
    assert len(seen) == len(o)
    for (row, col), (probability, prediction, activity) in seen.items():
        position = row * o.shape[1] + col
        assert [head["origins_rows"][row], head["origins_cols"][col]] == o.origins[position].tolist()
        assert probability == pytest.approx(float(o.probability[row, col]), abs=1e-5)
        assert prediction == int(o.prediction[row, col])
        assert (
            (activity is None) if o.activity is None else activity == pytest.approx(float(o.activity[row, col]), 1e-4)
        )


def test_a_chosen_map_is_watched(page: Page, first: str) -> None:
    found = page.json(f"pictures/{first}/cover", row=3, col=4, layer="conv2", unit=7)
    x = page.net.preprocess(page.folder / "a.png")
    module = page.net.module
    assert isinstance(module, nn.Sequential)
    assert found["activity_baseline"] == pytest.approx(float(module[:5](x)[0, 7].sum()), abs=1e-3)
    x[:, :, 3:8, 4:9] = 0
    assert found["activity"] == pytest.approx(float(module[:5](x)[0, 7].sum()), abs=1e-3)


@pytest.mark.parametrize("view", ["projection", "occlusion"])
@pytest.mark.parametrize(("kind", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("npz", b"PK")])
def test_files_are_the_results_own(page: Page, first: str, view: str, kind: str, begins: bytes) -> None:
    query = {"layer": "conv2", "unit": "3"} if view == "projection" else {"window": "12", "stride": "10"}
    answer = page.get(f"pictures/{first}/file", view=view, format=kind, **query)
    assert answer.status_code == 200 and answer.content.startswith(begins)
    named = "a-Sequential-conv2-u3" if view == "projection" else "a-Sequential-occlusion"
    assert answer.headers["content-disposition"] == f"attachment; filename*=UTF-8''{named}.{kind}"
    if kind == "npz":
        file = page.folder / "loaded.npz"
        file.write_bytes(answer.content)
        if view == "projection":
            p = deconvviz.Projection.load(file)
            wanted = deconvviz.project(page.net, page.folder / "a.png", "conv2", [3])
            assert torch.allclose(p.pixels, wanted.pixels, atol=1e-6) and p.model == wanted.model
        else:
            assert deconvviz.Occlusion.load(file).shape == (3, 3)


WRONG = [
    ("projection", {"layer": "conv2"}, 400, "unit is missing"),
    ("projection", {"layer": "conv2", "unit": "x"}, 400, "unit is 'x'; allowed: a whole number from 0"),
    ("projection", {"layer": "conv2", "unit": "-1"}, 400, "unit is '-1'"),
    ("projection", {"layer": "conv2", "unit": "1", "row": "2"}, 400, "row and col go together"),
    ("projection", {"layer": "conv2", "unit": "1", "contrast": "nan"}, 400, "contrast is 'nan'; allowed: 1 to 100"),
    ("projection", {"layer": "conv2", "unit": "1", "method": "magic"}, 400, "method is 'magic'; allowed: deconvnet"),
    ("projection", {"layer": "conv9", "unit": "1"}, 422, "unknown layer 'conv9'; did you mean 'conv2' or 'conv1'?"),
    ("projection", {"layer": "conv2", "unit": "12"}, 422, "unit 12 does not exist; allowed: 0 to 11"),
    ("projection", {"layer": "conv2", "unit": "1", "row": "16", "col": "0"}, 422, "place (16, 0) is outside"),
    ("cover", {"row": "1"}, 400, "row and col go together"),
    ("cover", {}, 400, "row and col are missing"),
    ("cover", {"row": "1", "col": "1", "window": "0"}, 400, "window is '0'; allowed: 32, or 32,48 (rows, columns)"),
    ("cover", {"row": "1", "col": "1", "window": "40"}, 422, "window is 40×40; allowed: no larger than"),
    ("cover", {"row": "30", "col": "1"}, 422, "row, col is 30, 1; allowed: 0 to 27"),
    ("cover", {"row": "1", "col": "1", "fill": "mud"}, 400, "fill is 'mud'; allowed: grey, mean, blur, noise"),
    ("cover", {"row": "1", "col": "1", "target": "6"}, 422, "target is 6; allowed: 0 to 5, or a label"),
    ("cover", {"row": "1", "col": "1", "unit": "6"}, 400, "unit goes with a layer"),
    ("heat", {"window": "40"}, 422, "window is 40×40"),
    ("maps", {}, 400, "layer is missing"),
    ("maps", {"layer": "x" * 501}, 400, "layer is too long"),
    ("units", {"layer": "conv2", "target": "9"}, 200, ""),
    ("whole", {"side": "9999"}, 400, "side is 9999; allowed: 16 to 2048"),
    ("file", {"view": "projection", "format": "exe"}, 400, "format is 'exe'; allowed: png, pdf, npz"),
    ("call", {"view": "what"}, 400, "view is 'what'; allowed: projection, occlusion"),
    ("units", {"layer": "conv2", "tab": "a b", "q": "1"}, 400, "tab is 'a b'"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "query", "status", "line"), WRONG)
def test_what_is_wrong_is_one_line(
    page: Page, first: str, what: str, query: dict[str, str], status: int, line: str
) -> None:
    answer = page.get(f"pictures/{first}/{what}", **query)
    assert answer.status_code == status
    if status != 200:
        assert answer.json()["error"].startswith(line) and "\n" not in answer.text.strip()
    else:
        assert (
            answer.json()["contribution"] is None and answer.json()["why"] == "target is 9; allowed: 0 to 5, or a label"
        )


def test_tensors_and_arrays_can_be_looked_at() -> None:
    net = small()
    x = torch.rand(2, 3, 32, 32)
    session = Session(net, [x, np.asarray(picture()), x[0]])
    names = [shown["name"] for shown in session.pictures.listed()]
    assert names == ["input 1", "input 2", "picture 3"]
    id = session.pictures.listed()[0]["id"]
    logits = net.module(x[:1])[0]
    assert session.picture(id)["answer"][0]["logit"] == pytest.approx(float(logits.max()), abs=1e-5)
    assert session.picture(id)["whole"] == [32, 32]


def test_a_model_that_changes_is_recorded_again() -> None:
    net = small()
    session = Session(net, picture())
    id = session.pictures.listed()[0]["id"]
    before = session.picture(id)["answer"]
    with torch.no_grad():
        net.module[7].bias.add_(torch.arange(6.0) * 10)  # type: ignore[index]
    after = session.picture(id)["answer"]
    assert before != after
    assert after[0]["logit"] == pytest.approx(float(net.module(net.preprocess(picture()))[0].max()), abs=1e-4)


@pytest.mark.parametrize("bare", [True, False])
def test_a_model_that_takes_no_pictures_says_what_to_give(bare: bool) -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 30 * 30, 2))
    with pytest.raises(deconvviz.DeconvvizTypeError, match="wrap the module in Network with mean and std") as said:
        explore(module if bare else Network(module, 32))
    assert "\n" not in str(said.value)


def test_a_network_that_is_refused_in_part_shows_the_rest_and_the_line() -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if float(x.sum()) > 1e9 else x

    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Branch(), nn.Flatten(), nn.Linear(4 * 30 * 30, 2))
    net = Network(module, 32, mean=(0.5,) * 3, std=(0.2,) * 3)
    with pytest.raises(deconvviz.UnsupportedOperatorError) as said:
        deconvviz.occlude(net, picture())
    session = Session(net, picture())
    assert session.model()["refused"] == str(said.value)
    assert [layer["path"] for layer in session.model()["layers"]] == ["0", "1"]
    id = session.pictures.listed()[0]["id"]
    assert session.picture(id)["answer"] == []
