"""The page of `explore` in a real browser: what a hand does to it, against what the library says in one go."""

from __future__ import annotations

import base64
import io
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import deconvviz
from deconvviz import Explorer, Network, explore
from deconvviz.atlas import build

if not os.environ.get("CI"):
    pytest.importorskip("playwright", reason="playwright is not installed: pip install 'deconvviz[test]'")
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from .conftest import small

WIDE = {"width": 1440, "height": 900}


class Visit:
    """A page of an explorer, with everything noted that it should not do, and how many questions are in flight."""

    def __init__(self, context: BrowserContext, explorer: Explorer) -> None:
        self.explorer = explorer
        self.base = explorer.url.partition("?")[0]
        self.problems: list[str] = []
        self.asked: list[str] = []
        self.flying: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.page: Page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("console", lambda m: self.problems.append(f"console: {m.text}") if m.type != "log" else None)
        self.page.on("pageerror", lambda e: self.problems.append(f"error: {e}"))
        self.page.on("request", self._request)
        self.page.on("requestfinished", self._done)
        self.page.on("requestfailed", self._failed)

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.base, "blob:" + self.base, "data:")):
            self.problems.append(f"leaves the machine: {request.url}")
        kind = self.kind(request)
        self.asked.append(request.url)
        self.flying[kind] = self.flying.get(kind, 0) + 1
        self.most[kind] = max(self.most.get(kind, 0), self.flying[kind])

    @staticmethod
    def kind(request: Request) -> str:
        """The last part of the path: projection, cover, …"""
        return request.url.partition("?")[0].rpartition("/")[2]

    def _done(self, request: Request) -> None:
        self.flying[self.kind(request)] -= 1

    def _failed(self, request: Request) -> None:
        self._done(request)
        if request.failure != "net::ERR_ABORTED":  # given up by the page itself
            self.problems.append(f"failed: {request.failure} {request.url}")

    def open(self, state: str = "") -> Page:
        """Open the page in a state and wait until what it is about is there."""
        self.page.goto(self.explorer.url + state)
        shown = "#bars[data-origin]" if "view=occlusion" in state else "#projection[data-shows]"
        self.page.locator(shown).wait_for()
        return self.page

    def state(self) -> dict[str, str]:
        """What stands in the address."""
        self.page.wait_for_timeout(300)
        said = self.page.evaluate("[...new URLSearchParams(location.hash.slice(1))]")
        return dict(said)


@pytest.fixture
def visit(browser: Browser, page: Any) -> Iterator[Visit]:
    with browser.new_context(viewport=WIDE, permissions=["clipboard-read", "clipboard-write"]) as context:
        visit = Visit(context, page.explorer)
        yield visit
        assert visit.problems == []


def pixels(page: Page, name: str) -> NDArray[np.uint8]:
    """What an image of the page shows, (h, w, 3)."""
    data = str(page.locator(name).get_attribute("src")).partition(",")[2]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def painted(page: Page, name: str) -> NDArray[np.uint8]:
    """What a canvas of the page shows, (h, w, 3)."""
    data = str(page.locator(name).evaluate("(canvas) => canvas.toDataURL()")).partition(",")[2]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def shows(page: Page, what: str | re.Pattern[str]) -> None:
    expect(page.locator("#projection")).to_have_attribute("data-shows", what)


def picture_of(served: Any) -> Any:
    return served.folder / "a.png"


def content(seed: int) -> bytes:
    """A picture that the server has not seen, as a file."""
    return png_of(seed, (48, 40))


def png_of(seed: int, size: tuple[int, int]) -> bytes:
    """Noise of a size (h, w), as a file."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def answer_says(page: Page, net: Network, image: Any) -> None:
    """The bars are the network's own five most probable classes."""
    with torch.no_grad():
        own = net.plain(net.preprocess(image))[0].softmax(0)
    for k, number in enumerate(own.argsort(descending=True)[:5].tolist()):
        row = page.locator(".bar-row").nth(k)
        expect(row.locator(".name")).to_have_text(net.card.labels[number])
        shown = float(str(row.locator(".value").text_content()).strip(" %<>"))
        assert shown == pytest.approx(100 * float(own[number]), abs=0.06)
        style = str(row.locator(".bar-fill").get_attribute("style"))
        assert float(style.partition("width: ")[2].partition("%")[0]) == pytest.approx(
            100 * float(own[number]), abs=1e-3
        )


# Pictures -------------------------------------------------------------------------------------------------------------


def test_the_page_opens_with_what_the_network_makes_of_the_picture(visit: Visit, page: Any) -> None:
    at = visit.open()
    expect(at).to_have_title(
        "Network · explore" if page.net.card.name == "Network" else f"{page.net.card.name} · explore"
    )
    answer_says(at, page.net, picture_of(page))
    expect(at.locator("#layers [role=radio]")).to_have_count(len(page.json("model")["layers"]))
    expect(at.locator("#layers [aria-checked=true] span")).to_have_text("12 × 16 × 16")
    assert at.locator("h1").count() == at.locator("main").count() == 1


def drop(at: Page, data: bytes, name: str) -> None:
    at.evaluate(
        """([text, name]) => {
            const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0)), dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], name, { type: "image/png" }));
            const about = { dataTransfer, bubbles: true, cancelable: true };
            for (const kind of ["dragenter", "dragover"]) document.body.dispatchEvent(new DragEvent(kind, about));
            window.dropping = !document.getElementById("dropping").hidden;
            document.body.dispatchEvent(new DragEvent("drop", about));
        }""",
        [base64.b64encode(data).decode(), name],
    )


def test_a_picture_is_dropped(visit: Visit, page: Any) -> None:
    at = visit.open()
    drop(at, content(1), "dropped & seen.png")
    expect(at.locator("#picture-name")).to_have_text("dropped & seen.png")
    assert at.evaluate("window.dropping") and at.locator("#dropping").is_hidden()
    answer_says(at, page.net, Image.open(io.BytesIO(content(1))))
    expect(at.get_by_role("radio", name="dropped & seen.png")).to_be_checked()
    with torch.no_grad():
        own = page.net.preprocess(Image.open(io.BytesIO(content(1))))
    assert own.shape[-2:] == (32, 32)


def test_a_picture_is_chosen_and_one_is_pasted(visit: Visit, page: Any) -> None:
    at = visit.open()
    at.set_input_files("#file", [{"name": "chosen.png", "mimeType": "image/png", "buffer": content(2)}])
    expect(at.locator("#picture-name")).to_have_text("chosen.png")
    at.evaluate(
        """(text) => {
            const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0)), clipboardData = new DataTransfer();
            clipboardData.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
            document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
        }""",
        base64.b64encode(content(3)).decode(),
    )
    expect(at.locator("#picture-name")).to_have_text("pasted.png")
    answer_says(at, page.net, Image.open(io.BytesIO(content(3))))


def test_what_is_no_picture_is_refused_in_one_line(browser: Browser, page: Any) -> None:
    with browser.new_context(viewport=WIDE) as context:
        visit = Visit(context, page.explorer)
        at = visit.open()
        drop(at, b"<svg onload=alert(1)>", "<b>no.png</b>")
        expect(at.locator("#trouble")).to_be_visible()
        assert "\n" not in str(at.locator("#trouble").text_content()) and at.locator("#trouble b").count() == 0
        expect(at.locator("#picture-name")).to_have_text("a.png")
        assert all("415" in line for line in visit.problems), visit.problems


def test_a_link_to_a_picture_that_is_not_here_asks_for_it(browser: Browser, page: Any) -> None:
    from hashlib import sha256

    data = content(4)
    with browser.new_context(viewport=WIDE) as context:
        visit = Visit(context, page.explorer)
        at = visit.page
        at.goto(f"{page.explorer.url}#picture={sha256(data).hexdigest()[:16]}&layer=conv1&unit=3")
        expect(at.locator("#empty")).to_contain_text("drop its file")
        drop(at, data, "there.png")
        shows(at, re.compile("conv1/3@"))
        assert all("404" in line for line in visit.problems), visit.problems


# Projection -----------------------------------------------------------------------------------------------------------


def test_pointing_at_a_map_shows_its_projection_and_where_it_looks(visit: Visit, page: Any) -> None:
    at = visit.open()
    own = deconvviz.project(page.net, picture_of(page), "conv2", units=[7])
    place = own.places[0].tolist()
    at.locator("#map-7").hover()
    shows(at, f"conv2/7@{place[0]},{place[1]}")
    top, left, bottom, right = own.boxes[0].tolist()
    box = at.locator("#mark-box")
    assert [float(str(box.get_attribute(k))) for k in ("y", "x", "height", "width")] == [
        top,
        left,
        bottom - top,
        right - left,
    ]
    np.testing.assert_array_equal(pixels(at, "#projection"), own.images()[0][top:bottom, left:right])
    np.testing.assert_array_equal(pixels(at, "#crop"), own.crops()[0])
    expect(at.locator("#facts")).to_contain_text(f"row {place[0]}, col. {place[1]}")
    # Away from the maps it is the strongest unit again.
    at.locator("#answer-title").hover()
    strongest = int(deconvviz.project(page.net, picture_of(page), "conv2", top=1).units[0])
    shows(at, re.compile(f"conv2/{strongest}@"))


def test_choosing_a_layer_shows_its_maps_in_three_orders(visit: Visit, page: Any) -> None:
    at = visit.open()
    at.locator("#layers [data-value=conv1]").click()
    expect(at.locator("#maps-title")).to_have_text("Maps of conv1")
    expect(at.locator(".map")).to_have_count(8)
    order = """[...document.querySelectorAll('.map')]
        .sort((a, b) => a.ariaPosInSet - b.ariaPosInSet).map((m) => Number(m.dataset.unit))"""
    own = deconvviz.project(page.net, picture_of(page), "conv1", top=8)
    assert at.evaluate(order) == own.units.tolist()
    at.locator("#sort").select_option("number")
    expect(at.locator("#map-0")).to_have_attribute("aria-posinset", "1")
    assert at.evaluate(order) == list(range(8))
    at.locator("#sort").select_option("contribution")
    expect(at.locator("#maps-note")).to_contain_text("adds to the logit")
    by_class = deconvviz.project(page.net, picture_of(page), "conv1", units="class", top=8)
    assert at.evaluate(order) == by_class.units.tolist()
    at.locator(".bar-row").nth(2).click()
    other = deconvviz.project(
        page.net, picture_of(page), "conv1", units="class", top=8,
        target=int(str(at.locator(".bar-row").nth(2).get_attribute("data-value"))),
    )  # fmt: skip
    expect(at.locator(f"#map-{int(other.units[0])}")).to_have_attribute("aria-posinset", "1")
    assert at.evaluate(order) == other.units.tolist()
    assert visit.state()["layer"] == "conv1"
    at.go_back()
    expect(at.locator("#maps-title")).to_have_text("Maps of conv2")


def test_a_click_pins_and_several_stand_side_by_side(visit: Visit) -> None:
    at = visit.open()
    for unit in (3, 5):
        at.locator(f"#map-{unit}").click()
    expect(at.locator("#pins li")).to_have_count(2)
    expect(at.locator("#pins img[src^='data:image/png']")).to_have_count(4)
    expect(at.locator("#map-5")).to_have_class(re.compile("pinned"))
    assert visit.state()["pins"] == "3,conv2;5,conv2"
    at.locator("#scale").select_option("shared")
    expect(at.locator("#mark-pins rect")).to_have_count(2)
    at.locator("#map-5").click()
    expect(at.locator("#pins li")).to_have_count(1)
    at.get_by_role("button", name="Remove conv2 · unit 3").click()
    expect(at.locator("#pinned")).to_be_hidden()


def test_a_shared_scale_is_that_of_the_strongest_pin(visit: Visit, page: Any) -> None:
    at = visit.open("#layer=conv2&unit=3&scale=shared&pins=3,conv2;5,conv2;1,conv1")
    picture = f"pictures/{page.json('model')['pictures'][0]['id']}"
    pins = (("conv2", 3), ("conv2", 5), ("conv1", 1))
    scale = max(page.json(f"{picture}/projection", layer=layer, unit=unit)["scale"] for layer, unit in pins)
    shown = float(scale)
    expect(at.locator("#facts")).to_contain_text(f"± {shown:.3g}"[:5])
    own = deconvviz.project(page.net, picture_of(page), "conv2", units=[3])
    top, left, bottom, right = own.boxes[0].tolist()
    values = own.pixels[0].permute(1, 2, 0).numpy()[top:bottom, left:right].astype(np.float64)
    wanted = np.clip(np.rint(128 + 127 * values / scale), 0, 255)
    np.testing.assert_array_equal(pixels(at, "#projection"), wanted)


def test_moving_over_the_picture_moves_the_place_and_a_click_keeps_it(visit: Visit, page: Any) -> None:
    at = visit.open("#layer=conv2&unit=4")
    box = at.locator("#frame").bounding_box()
    assert box
    before = at.locator("#projection").get_attribute("data-shows")
    for row, col in ((8, 8), (3, 12)):
        # The middle of the field of a place lies at its stride's multiple, and half a stride.
        at.mouse.move(box["x"] + box["width"] * (col + 0.5) / 16, box["y"] + box["height"] * (row + 0.5) / 16)
        shows(at, f"conv2/4@{row},{col}")
    own = deconvviz.project(page.net, picture_of(page), "conv2", units=[4], place=(3, 12))
    top, left, bottom, right = own.boxes[0].tolist()
    np.testing.assert_array_equal(pixels(at, "#projection"), own.images()[0][top:bottom, left:right])
    at.mouse.move(5, 5)
    shows(at, str(before))
    at.mouse.click(box["x"] + box["width"] * 12.5 / 16, box["y"] + box["height"] * 3.5 / 16)
    at.mouse.move(5, 5)
    shows(at, "conv2/4@3,12")
    assert visit.state()["place"] == "3,12"
    # The unit's own map moves it too.
    small = at.locator("#unit-map").bounding_box()
    assert small
    at.mouse.move(small["x"] + small["width"] * 1.5 / 16, small["y"] + small["height"] * 14.5 / 16)
    shows(at, "conv2/4@14,1")


@pytest.mark.parametrize(("control", "value"), [("method", "guided"), ("method", "gradient"), ("overlap", "max")])
def test_switches_are_those_of_project(visit: Visit, page: Any, control: str, value: str) -> None:
    at = visit.open("#layer=conv2&unit=6")
    means = at.locator(f"#{control}-means").text_content()
    with at.expect_response(lambda r: f"{control}={value}" in r.url and "/projection" in r.url):
        at.locator(f"#{control}").select_option(value)
    own = deconvviz.project(page.net, picture_of(page), "conv2", units=[6], **{control: value})
    top, left, bottom, right = own.boxes[0].tolist()
    wanted = own.images()[0][top:bottom, left:right]
    expect(at.locator("#projection")).to_have_js_property("naturalWidth", right - left)
    at.wait_for_timeout(50)
    np.testing.assert_array_equal(pixels(at, "#projection"), wanted)
    assert at.locator(f"#{control}-means").text_content() != means
    assert visit.state()[control] == value


def test_a_hundred_rapid_moves_make_no_queue(visit: Visit) -> None:
    at = visit.open("#layer=conv2&unit=4")
    at.evaluate(
        """() => {
            const frame = document.getElementById("frame"), box = frame.getBoundingClientRect();
            for (let k = 0; k < 100; k++) {
                const clientX = box.left + box.width * ((k * 7) % 100) / 100, clientY = box.top + box.height * k / 100;
                const about = { clientX, clientY, bubbles: true, pointerType: "mouse" };
                frame.dispatchEvent(new PointerEvent("pointermove", about));
            }
        }"""
    )
    shows(at, "conv2/4@15,14")
    moved = [url for url in visit.asked if "/projection" in url]
    assert len(moved) <= 4 and visit.most["projection"] == 1
    # And of a hand that goes on moving: as many questions as answers, one at a time.
    box = at.locator("#frame").bounding_box()
    assert box
    for k in range(100):
        at.mouse.move(box["x"] + 10 + 3 * k, box["y"] + 10 + 2 * k)
    at.mouse.move(box["x"] + box["width"] * 0.5 / 16, box["y"] + box["height"] * 2.5 / 16)
    shows(at, "conv2/4@2,0")
    assert visit.most["projection"] == 1


# Occlusion ------------------------------------------------------------------------------------------------------------


def test_dragging_the_square_moves_the_numbers_which_are_those_of_occlude(visit: Visit, page: Any) -> None:
    at = visit.open("#view=occlusion&layer=conv2&window=9&at=0,0")
    own = deconvviz.occlude(page.net, picture_of(page), window=9, stride=1, layer="conv2")
    assert isinstance(own, deconvviz.Occlusion)
    cols = own.shape[1]
    box = at.locator("#frame").bounding_box()
    assert box
    side = box["width"] / 32

    def hold(row: int, col: int) -> None:
        expect(at.locator("#bars")).to_have_attribute("data-origin", f"{row},{col}")
        k = row * cols + col
        p = own.logits[k].softmax(0)
        for n, number in enumerate(p.argsort(descending=True)[:5].tolist()):
            line = at.locator(".bar-row").nth(n)
            expect(line.locator(".name")).to_have_text(page.net.card.labels[number])
            shown = float(str(line.locator(".value").text_content()).strip(" %<>"))
            assert shown == pytest.approx(100 * float(p[number]), abs=0.051)
        facts = str(at.locator("#facts").text_content())
        assert own.activity is not None
        assert f"{float(own.logits[k, own.target]):.3f}".replace("-", "−")[:5] in facts
        shown = float(facts.partition("Sum of the map")[2].partition(" uncovered")[0].replace("−", "-"))
        assert shown == pytest.approx(float(own.activity.flatten()[k]), rel=5e-3, abs=6e-4)

    hold(0, 0)
    at.mouse.move(box["x"] + 4.5 * side, box["y"] + 4.5 * side)  # held at its middle
    at.mouse.down()
    for row, col in ((3, 5), (11, 8), (23, 23)):
        at.mouse.move(box["x"] + (col + 4.5) * side, box["y"] + (row + 4.5) * side, steps=4)
        hold(row, col)
    at.mouse.move(box["x"] + 3 * box["width"], box["y"] + 8.5 * side)  # beyond the picture it stays inside
    hold(4, 23)
    at.mouse.up()
    at.mouse.move(box["x"] + 3, box["y"] + 3)
    hold(4, 23)
    assert visit.state()["at"] == "4,23" and visit.most["cover"] == 1


def test_the_heat_map_fills_and_is_that_of_occlude(browser: Browser, page: Any) -> None:
    net = small()
    with torch.no_grad():
        # Probabilities from one end of the scale to the other, several classes: all the same uncovered, then far apart.
        last = net.module[-1]
        last.weight.mul_(60)
        last.bias.sub_(net.plain(net.preprocess(picture_of(page)))[0])
    with explore(net, picture_of(page)) as explorer, browser.new_context(viewport=WIDE) as context:
        visit = Visit(context, explorer)
        heat_is_that_of_occlude(visit, net, picture_of(page))
        assert visit.problems == []


def heat_is_that_of_occlude(visit: Visit, net: Network, image: Any) -> None:
    own = deconvviz.occlude(net, image, window=8, stride=8, layer="conv2")
    assert isinstance(own, deconvviz.Occlusion)
    own = replace(own, target=int(own.prediction.flatten().mode().values))
    at = visit.open(f"#view=occlusion&layer=conv2&window=8&stride=8&target={own.target}")
    heat = at.locator("#heat")
    expect(heat).to_have_attribute("data-done", "true")
    expect(at.locator("#shown-note")).to_have_text(f"{len(own)} positions")
    p = own.probability
    assert float(p.max() - p.min()) > 0.5 and len(own.prediction.unique()) > 1
    base = float(own.baseline.softmax(0)[own.target])
    note = f"uncovered {base:.3f}, covered {float(p.min()):.3f} to {float(p.max()):.3f}"
    expect(at.locator("#ramp-note")).to_have_text(note)
    left = str(at.locator("#ramp-mark").get_attribute("style"))
    assert float(left.partition("left: ")[2].partition("%")[0]) == pytest.approx(100 * base, abs=1e-3)
    # The colour of each cell is matplotlib's viridis of its probability, on the scale 0 to 1.
    from matplotlib import colormaps

    drawn = painted(at, "#heat")
    for i, j in itertools.product(range(4), range(4)):
        got = drawn[3 * (8 * i + 1), 3 * (8 * j + 1)].astype(int)
        wanted = np.array(colormaps["viridis"](float(p[i, j]))[:3]) * 255
        assert np.abs(got - wanted).max() < 6.5, (i, j)
    at.locator("#heat-of").select_option("activity")
    expect(at.locator("#ramp")).to_have_attribute("data-of", "activity")
    expect(heat).to_have_attribute("data-done", "true")
    at.locator("#heat-of").select_option("prediction")
    expect(at.locator("#swatches li").first).to_be_visible()
    classes = {net.card.labels[int(k)] for k in own.prediction.flatten()}
    shown = {str(text).rpartition(" ")[0].strip() for text in at.locator("#swatches li").all_text_contents()}
    assert shown == classes
    expect(at.locator("#legend")).to_be_hidden()


def test_the_square_has_any_size_and_fill(visit: Visit, page: Any) -> None:
    at = visit.open("#view=occlusion&layer=conv2&window=8")
    at.locator("#window").fill("17")
    expect(at.locator("#window-is")).to_have_text("17 × 17 px")
    at.locator("#fill").select_option("noise")
    expect(at.locator("#bars")).to_have_attribute("data-origin", "8,8")
    own = deconvviz.occlude(page.net, picture_of(page), window=17, stride=1, fill="noise")
    assert isinstance(own, deconvviz.Occlusion)
    k = 8 * own.shape[1] + 8
    p = own.logits[k].softmax(0)
    expect(at.locator(".bar-row .name").first).to_have_text(page.net.card.labels[int(p.argmax())])
    expect(at.locator(".bar-row .value").first).to_have_text(f"{100 * float(p.max()):.1f} %")
    at.locator("#fill").select_option("colour")
    at.locator("#colour").fill("#ff0080")
    expect(at.locator("#occluder")).to_have_css("background-color", "rgb(255, 0, 128)")
    assert visit.state()["fill"] == "#ff0080"


# Taking along ---------------------------------------------------------------------------------------------------------


def test_the_address_is_the_whole_state(visit: Visit, browser: Browser, page: Any) -> None:
    state = (
        "#layer=conv1&unit=2&place=7,9&method=guided&contrast=97.3&sort=number&pins=2,7,9,conv1;4,conv2&scale=shared"
    )
    at = visit.open(state)
    shows(at, "conv1/2@7,9")
    expect(at.locator("#pins li")).to_have_count(2)
    assert [at.locator(f"#{name}").input_value() for name in ("method", "contrast", "sort", "scale")] == [
        "guided", "97.3", "number", "shared",
    ]  # fmt: skip
    at.locator("#link").click()
    expect(at.locator("#said")).to_contain_text("copied")
    link = str(at.evaluate("navigator.clipboard.readText()"))
    assert "token" not in link
    written = dict(at.evaluate("(link) => [...new URLSearchParams(link.split('#')[1])]", link))
    asked = dict(pair.split("=") for pair in state[1:].split("&"))
    assert asked.items() <= written.items()
    # A colleague with the same model pastes it.
    with browser.new_context(viewport=WIDE) as context:
        other = Visit(context, page.explorer)
        there = other.open()
        there.evaluate(
            """(text) => {
                const clipboardData = new DataTransfer();
                clipboardData.setData("text", text);
                document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
            }""",
            link,
        )
        shows(there, "conv1/2@7,9")
        assert asked.items() <= other.state().items()
        np.testing.assert_array_equal(pixels(there, "#projection"), pixels(at, "#projection"))
        assert other.problems == []


def test_an_address_that_lies_does_no_harm(visit: Visit) -> None:
    harm = "%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E"
    at = visit.open(
        f"#layer={harm}&unit=1e9&place=-1,x&method={harm}&contrast=NaN&window=0&pins={harm};1,{harm}&model={harm}&fill=url(x)"
    )
    assert at.locator("#layers [aria-checked=true] b").text_content() == "conv2"
    expect(at.locator("#notice")).to_contain_text("<img src=x")
    assert at.locator("main img[src='x'], #notice img, #pins li").count() == 0


def test_the_exact_call_and_its_files(visit: Visit, page: Any, tmp_path: Any) -> None:
    at = visit.open("#layer=conv2&unit=5&place=3,4&method=guided")
    expect(at.locator("#python")).to_contain_text("guided")
    at.locator("[data-copy=python]").click()
    expect(at.locator("#said")).to_contain_text("copied")
    assert at.evaluate("navigator.clipboard.readText()") == at.locator("#python").text_content()
    own = deconvviz.project(page.net, picture_of(page), "conv2", units=[5], place=(3, 4), method="guided")
    for kind, starts in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("npz", b"PK")):
        with at.expect_download() as waited:
            at.locator(f"[data-file={kind}]").click()
        path = tmp_path / waited.value.suggested_filename
        assert path.suffix == f".{kind}" and "conv2" in path.name and path.name.startswith("a-")
        waited.value.save_as(path)
        assert path.read_bytes().startswith(starts)
        if kind == "npz":
            torch.testing.assert_close(deconvviz.Projection.load(path).pixels, own.pixels)


# Looks ----------------------------------------------------------------------------------------------------------------


def test_light_dark_and_the_choice_of_the_reader(browser: Browser, page: Any) -> None:
    with browser.new_context(color_scheme="dark", viewport=WIDE) as context:
        visit = Visit(context, page.explorer)
        at = visit.open()
        paper = "getComputedStyle(document.body).backgroundColor"
        assert at.evaluate(paper) == "rgb(20, 19, 18)"
        dark = painted(at, "#unit-canvas").mean()
        at.get_by_role("button", name="Colour theme").click()
        assert at.evaluate(paper) == "rgb(251, 250, 248)"
        expect(at.locator("#theme")).to_have_attribute("aria-label", "Colour theme: light")
        at.wait_for_timeout(100)
        assert dark < 100 < 180 < painted(at, "#unit-canvas").mean()
        at.reload()
        at.locator("#projection[data-shows]").wait_for()
        assert at.evaluate(paper) == "rgb(251, 250, 248)"
        assert visit.problems == []


OVERLAPPING = """() => {
    const parts = `.top > *, #layers, .panel, .answer, .unit > *, .maps-head > *, #scroller,
        .settings .field:not([hidden]), #pins li, .take > *, .foot > *`;
    const seen = [...document.querySelectorAll(parts)].filter((e) => e.getClientRects().length);
    const apart = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1
        || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
    const found = [];
    for (const [k, a] of seen.entries()) for (const b of seen.slice(k + 1)) {
        if (a.contains(b) || b.contains(a)) continue;
        if (apart(a.getBoundingClientRect(), b.getBoundingClientRect())) continue;
        found.push(`${a.id || a.className} over ${b.id || b.className}`);
    }
    return found;
}"""
CUT = """() => {
    const text = `h2, h3, p, dt, dd, label, figcaption span, .layer b, .layer span, .bar-row span, .pill, .map b,
        .ends span`;
    const seen = [...document.querySelectorAll(text)].filter((e) => e.getClientRects().length && !e.closest(".vh"));
    const cut = (e) => getComputedStyle(e).display !== "inline" && e.scrollWidth > e.clientWidth + 1;
    const pen = document.createElement("canvas").getContext("2d");
    const torn = (e) => {
        if (!e.closest(".facts")) return false;
        pen.font = getComputedStyle(e).font;
        const words = e.textContent.split(/[\\s]+/).map((word) => pen.measureText(word).width);
        return Math.max(...words) > e.clientWidth + 1;
    };
    return seen.filter((e) => cut(e) || torn(e)).map((e) => `${e.id || e.className || e.tagName}: ${e.textContent}`);
}"""


@pytest.mark.parametrize("width", [360, 390, 768, 1024, 1100, 1280, 2560])
def test_nothing_overlaps_and_nothing_is_cut_at_any_width(browser: Browser, page: Any, width: int) -> None:
    with browser.new_context(viewport={"width": width, "height": 800}) as context:
        visit = Visit(context, page.explorer)
        for state in ("#pins=3,conv2;5,2,2,conv2;1,conv1", "#view=occlusion"):
            at = visit.open(state)
            at.locator("#pins img[src]").last.wait_for() if "pins" in state else at.locator(
                "#heat[data-done=true]"
            ).wait_for()
            assert at.evaluate("document.documentElement.scrollWidth") <= width
            assert at.evaluate(OVERLAPPING) == []
            assert at.evaluate(CUT) == []
            at.goto("about:blank")
        assert visit.problems == []


def test_a_finger_taps_a_map_and_drags_the_square(browser: Browser, page: Any) -> None:
    with browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as context:
        visit = Visit(context, page.explorer)
        at = visit.open()
        at.locator("#map-3").tap()
        shows(at, re.compile("conv2/3@"))
        expect(at.locator("#projection")).to_be_in_viewport()
        at.locator("label", has_text="Occlusion").tap()
        expect(at.locator("#occluder")).to_be_visible()
        at.evaluate("scrollTo(0, 0)")
        box = at.locator("#frame").bounding_box()
        assert box
        finger = context.new_cdp_session(at)

        def touch(kind: str, row: float, col: float) -> None:
            points = (
                []
                if kind == "touchEnd"
                else [{"x": box["x"] + box["width"] * col / 32, "y": box["y"] + box["height"] * row / 32}]
            )
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touch("touchStart", 20.5, 6.5)
        for k in range(1, 9):
            touch("touchMove", 20.5 + k / 2, 6.5 + k)
        touch("touchEnd", 0, 0)
        expect(at.locator("#bars")).to_have_attribute("data-origin", re.compile("^2[0-9],1[0-9]$"))
        assert at.evaluate("scrollY") == 0
        assert visit.problems == []


# Without a mouse, and read aloud --------------------------------------------------------------------------------------


def test_the_keyboard_alone_reaches_everything(visit: Visit) -> None:
    at = visit.open("#layer=conv2&unit=4&pins=3,conv2")
    at.locator("#pins img[src]").last.wait_for()
    expect(at.locator("#python")).to_contain_text("project")
    wanted = at.evaluate(
        """[...document.querySelectorAll("a[href], button, input, select, [tabindex='0']")]
            .filter((e) => e.getClientRects().length && !e.disabled && e.tabIndex >= 0 && !e.closest("dialog")
                && !(e.type === "radio" && !e.checked)).length"""
    )
    reached = set()
    for _ in range(wanted + 3):
        at.keyboard.press("Tab")
        name, seen, outline = at.evaluate(
            """(() => {
                const e = document.activeElement, shown = e.matches("#file, [type=radio]") ? e.closest("label") : e;
                window.numbers ??= new Map();
                if (!numbers.has(e)) numbers.set(e, numbers.size);
                return [numbers.get(e), e.checkVisibility(), getComputedStyle(shown).outlineStyle];
            })()"""
        )
        if at.evaluate("document.activeElement !== document.body"):
            reached.add(name)
            assert seen and outline in ("solid", "auto"), at.evaluate("document.activeElement.outerHTML")
    assert len(reached) == wanted

    at.locator("#layers [aria-checked=true]").focus()
    at.keyboard.press("Home")
    expect(at.locator("#layers [role=radio]").first).to_be_focused()
    expect(at.locator("#maps-title")).to_have_text("Maps of conv1")
    at.keyboard.press("]")
    at.keyboard.press("[")
    expect(at.locator("#maps-title")).to_have_text("Maps of conv1")

    at.locator("#scroller").focus()
    at.keyboard.press("Home")
    first = at.locator(".map[aria-posinset='1']").get_attribute("data-unit")
    second = at.locator(".map[aria-posinset='2']").get_attribute("data-unit")
    at.keyboard.press("ArrowRight")
    expect(at.locator("#scroller")).to_have_attribute("aria-activedescendant", f"map-{second}")
    shows(at, re.compile(f"conv1/{second}@"))
    at.keyboard.press("Enter")
    expect(at.locator("#pins li")).to_have_count(2)
    expect(at.locator(f"#map-{second}")).to_have_attribute("aria-selected", "true")
    at.keyboard.press("ArrowLeft")
    shows(at, re.compile(f"conv1/{first}@"))

    at.keyboard.press("Escape")
    at.locator("#frame").focus()
    row, col = map(int, str(at.locator("#projection").get_attribute("data-shows")).partition("@")[2].split(","))
    down = 1 if row < 31 else -1
    at.keyboard.press("ArrowDown" if down == 1 else "ArrowUp")
    shows(at, f"conv1/{second}@{row + down},{col}")
    expect(at.locator("#said")).to_contain_text(f"row {row + down}, column {col}")
    at.keyboard.press("p")
    expect(at.locator("#pins li")).to_have_count(3)
    at.keyboard.press("v")
    expect(at.locator("#occluder")).to_be_visible()
    at.keyboard.press("Shift+ArrowRight")
    start = visit.state()["at"]
    at.keyboard.press("ArrowDown")
    expect(at.locator("#bars")).not_to_have_attribute("data-origin", start)
    expect(at.locator("#said")).to_contain_text("Square at row")

    at.keyboard.press("?")
    expect(at.get_by_role("dialog", name="Keys")).to_be_visible()
    at.keyboard.press("Escape")
    at.keyboard.press("/")
    expect(at.locator("#find")).to_be_focused()
    at.keyboard.type("7")
    at.keyboard.press("Enter")
    expect(at.locator("#map-7")).to_have_attribute("aria-selected", "true")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, page: Any, axe: str, scheme: Any) -> None:
    with browser.new_context(viewport=WIDE, color_scheme=scheme, reduced_motion="reduce") as context:
        visit = Visit(context, page.explorer)
        for state in ("#pins=3,conv2", "#view=occlusion&heat=prediction"):
            at = visit.open(state)
            at.locator("#pins img[src]" if "pins" in state else "#heat[data-done=true]").last.wait_for()
            at.evaluate(axe)
            found = at.evaluate(
                "axe.run().then((r) => r.violations.map((v) => [v.id, v.nodes.map((n) => n.html + n.failureSummary)]))"
            )
            assert found == []
            at.keyboard.press("?")
            assert at.evaluate("axe.run('#keys').then((r) => r.violations.map((v) => v.id))") == []
            at.goto("about:blank")
        assert visit.problems == []


# Many maps, an end, a store -------------------------------------------------------------------------------------------


def test_thousands_of_maps_are_there_but_few_are_drawn(browser: Browser, page: Any) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 3000, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3000, 4)
    )
    net = Network(module, 32, mean=(0.5,) * 3, std=(0.2,) * 3, labels=list("abcd"), aliases={"wide": "0"})
    with explore(net, picture_of(page)) as explorer, browser.new_context(viewport=WIDE) as context:
        visit = Visit(context, explorer)
        at = visit.open()
        expect(at.locator(".map").first).to_have_attribute("aria-setsize", "3000")
        assert at.locator(".map").count() < 200
        frames = at.evaluate(
            """async () => {
                const scroller = document.getElementById("scroller"), times = [];
                let last = performance.now();
                for (let k = 0; k < 40; k++) {
                    scroller.scrollTop = (scroller.scrollHeight * k) / 40;
                    await new Promise(requestAnimationFrame);
                    times.push(performance.now() - last);
                    last = performance.now();
                }
                return times.sort((a, b) => a - b)[20];
            }"""
        )
        assert frames < 100  # milliseconds a frame, on the busiest of machines; some 17 on a quiet one
        at.locator("#find").fill("2999")
        at.keyboard.press("Enter")
        expect(at.locator("#map-2999")).to_be_in_viewport()
        shows(at, re.compile("wide/2999@"))
        assert at.locator(".map").count() < 200
        assert visit.problems == []


def test_a_page_left_open_survives_a_restart_with_one_line(browser: Browser, page: Any, monkeypatch: Any) -> None:
    net, image = page.net, picture_of(page)
    with browser.new_context(viewport=WIDE) as context:
        first = explore(net, image)
        port = int(first.url.partition("?")[0].strip("/").rpartition(":")[2])
        token = first.url.rpartition("=")[2]
        visit = Visit(context, first)
        at = visit.open("#layer=conv1&unit=2")
        first.close()
        at.locator("#map-5").hover()
        expect(at.locator("#notice")).to_contain_text("The server has ended or was started again")
        monkeypatch.setattr("deconvviz.explorer.guard.new_token", lambda: token)
        with explore(net, image, port=port):
            expect(at.locator("#notice")).to_be_hidden()
            at.locator("#map-6").hover()
            shows(at, re.compile("conv1/6@"))
        monkeypatch.undo()
        at.locator("#map-4").hover()
        expect(at.locator("#notice")).to_be_visible()
        with explore(net, image, port=port):
            expect(at.locator("#notice")).to_contain_text("open the address that it printed")
            assert visit.state()["layer"] == "conv1"
        assert not [line for line in visit.problems if "console" not in line and "CONNECTION" not in line], (
            visit.problems
        )


def test_with_a_store_the_strongest_pictures_of_a_unit_stand_below(browser: Browser, page: Any, tmp_path: Any) -> None:
    for k in range(12):
        Image.open(io.BytesIO(content(100 + k))).save(tmp_path / f"{k:02}.png")
    deconvviz.scan(page.net, tmp_path, "conv2", store=tmp_path / "store.db")
    with (
        explore(page.net, picture_of(page), store=tmp_path / "store.db") as explorer,
        browser.new_context(viewport=WIDE) as context,
    ):
        visit = Visit(context, explorer)
        at = visit.open("#layer=conv2&unit=5")
        expect(at.locator("#nine img")).to_have_count(9)
        expect(at.locator("#strongest-title")).to_have_text("Strongest in the scan for unit 5")
        expect(at.locator("#strongest-note")).to_contain_text("9 of 12 pictures")
        values = [float(str(text)) for text in at.locator("#nine p").all_text_contents()]
        assert values == sorted(values, reverse=True)
        at.locator("#layers [data-value=conv1]").click()
        expect(at.locator("#strongest")).to_be_hidden()
        assert visit.problems == []


def test_a_unit_leads_to_its_page_of_the_atlas_and_that_to_others(browser: Browser, page: Any, tmp_path: Any) -> None:
    (tmp_path / "photos").mkdir()
    for k in range(4):
        Image.open(io.BytesIO(content(100 + k))).save(tmp_path / "photos" / f"{k}.png")
    with deconvviz.scan(page.net, tmp_path / "photos", "conv2", top=3, store=tmp_path / "store.db") as store:
        build(store, tmp_path / "site", deconvviz.PanelSource(page.net, store))
        unit, first = int(store.units("conv2").maximum.argmax()), store.layers()[0]
        (best, *_), layer = store.top("conv2", unit), first.title
    with (
        explore(page.net, picture_of(page), tmp_path / "store.db", atlas=tmp_path / "site") as explorer,
        browser.new_context(viewport=WIDE) as context,
    ):
        visit = Visit(context, explorer)
        at = visit.open(f"#layer=conv2&unit={unit}")
        opened: list[Page] = []

        def follow(link: Any) -> Page:
            with context.expect_page() as found:
                link.click()
            opened.append(found.value)
            found.value.on("console", lambda m: visit.problems.append(m.text))
            found.value.on("pageerror", lambda e: visit.problems.append(str(e)))
            return found.value

        of_unit = follow(at.get_by_role("link", name="Its page in the atlas"))
        expect(of_unit.get_by_role("heading", level=1)).to_have_text(f"Unit {unit}")
        expect(of_unit).to_have_title(re.compile(f"^{layer}, unit {unit} "))
        # Its style, its pictures and its links come under the token, too.
        assert of_unit.locator(".plate .cut").first.evaluate("(e) => e.getBoundingClientRect().width") > 20
        of_unit.get_by_role("link", name=layer, exact=True).first.click()
        expect(of_unit.get_by_role("heading", level=1)).to_contain_text(layer)
        of_picture = follow(at.locator("#nine a").first)
        expect(of_picture.get_by_role("heading", level=1)).to_contain_text(f"{best.picture}.png")
        assert of_picture.evaluate("Boolean(document.querySelector(location.hash))")
        assert all(one.evaluate("window.opener === null && document.referrer === ''") for one in opened)
        assert visit.state()["unit"] == str(unit) and visit.problems == []


@pytest.mark.parametrize(("size", "cut"), [((40, 52), (0, 5, 40, 46)), ((60, 32), (14, 0, 46, 32)), ((64, 64), None)])
def test_what_the_network_does_not_see_is_shown_dim(
    visit: Visit, page: Any, size: tuple[int, int], cut: tuple[int, int, int, int] | None
) -> None:
    at = visit.open()
    expect(at.locator("#cut")).to_be_visible()  # of a.png
    drop(at, png_of(5, size), "next.png")
    expect(at.locator("#picture-name")).to_have_text("next.png")
    if cut is None:
        return expect(at.locator("#cut")).to_be_hidden()
    (top, left, bottom, right), (h, w) = cut, size
    says = f"Of {h} × {w} pixels it sees the bright part: rows {top} to {bottom}, columns {left} to {right}"
    expect(at.get_by_role("img", name=says)).to_be_visible()
    whole, used = (at.locator(name).bounding_box() for name in ("#cut-whole", "#cut-used"))
    assert whole is not None and used is not None
    assert whole["height"] / whole["width"] == pytest.approx(h / w, abs=0.05)
    assert (used["y"] - whole["y"]) / whole["height"] == pytest.approx(top / h, abs=0.02)
    assert (used["x"] - whole["x"]) / whole["width"] == pytest.approx(left / w, abs=0.02)
    assert used["height"] / whole["height"] == pytest.approx((bottom - top) / h, abs=0.02)
    assert used["width"] / whole["width"] == pytest.approx((right - left) / w, abs=0.02)


def test_a_picture_is_taken_with_the_camera(visit: Visit) -> None:
    at = visit.open()
    at.get_by_role("button", name="Take a picture with the camera").click()
    expect(at.get_by_role("dialog", name="Camera")).to_be_visible()
    expect(at.locator("#video")).to_have_js_property("paused", False)
    at.get_by_role("button", name="Take the picture").click()
    expect(at.locator("#picture-name")).to_have_text("camera.png")
    assert at.evaluate("document.getElementById('video').srcObject") is None
