"""The site in a real browser: opened as files, without a network, with names that try to do harm."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from deconvviz.atlas import build, build_comparison
from deconvviz.atlas.contents import majority, read
from deconvviz.scanning.store import Store

if not os.environ.get("CI"):
    pytest.importorskip("playwright", reason="playwright is not installed: pip install 'deconvviz[test]'")
    pytest.importorskip("axe_playwright_python", reason="axe is not installed: pip install 'deconvviz[test]'")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect


class Visit:
    """A page with everything noted that it should not do."""

    def __init__(self, context: BrowserContext, site: Path) -> None:
        self.site = site
        self.problems: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("console", lambda m: self.problems.append(f"console: {m.text}") if m.type != "log" else None)
        self.page.on("pageerror", lambda e: self.problems.append(f"error: {e}"))
        self.page.on("dialog", self._dialog)
        self.page.on("requestfailed", self._failed)
        self.page.on("request", self._request)

    def _dialog(self, dialog: object) -> None:
        self.problems.append("a dialog: a script ran")
        dialog.dismiss()  # type: ignore[attr-defined]

    def _failed(self, request: object) -> None:
        # Going on to the next page ends what is still loading.
        if request.failure != "net::ERR_ABORTED":  # type: ignore[attr-defined]
            self.problems.append(f"failed: {request.url}")  # type: ignore[attr-defined]

    def _request(self, request: object) -> None:
        url: str = request.url  # type: ignore[attr-defined]
        if not url.startswith((self.site.as_uri() + "/", "data:")):
            self.problems.append(f"leaves the site: {url}")

    def open(self, name: str) -> Page:
        self.page.goto(f"{self.site.as_uri()}/{name}")
        return self.page


@pytest.fixture
def visit(browser: Browser, site: Path) -> Iterator[Visit]:
    with browser.new_context(viewport={"width": 1280, "height": 800}, offline=True) as context:
        visit = Visit(context, site)
        yield visit
        assert visit.problems == []


PAGES = (
    "index.html", "layers/1.html", "layers/2.html", "layers/3.html", "layers/1/0.html", "layers/1/3.html",
    "layers/3/1.html", "pictures.html", "classes/1.html", "pictures/0.html", "pictures/6.html",
)  # fmt: skip


def test_the_policy_lets_no_script_of_a_page_run(browser: Browser, site: Path) -> None:
    """What got past every escape would still not run, nor style the page, nor load anything from elsewhere."""
    with browser.new_context() as context:
        page = context.new_page()
        refused: list[str] = []
        page.on("console", lambda m: refused.append(m.text))
        page.goto(f"{site.as_uri()}/index.html")
        page.evaluate(
            """() => {
                const script = document.createElement("script");
                script.textContent = "window.ran = 1";
                document.body.append(script);
                const harm = "<p id=styled style='width: 7px' onclick='window.ran = 1'>x";
                document.body.insertAdjacentHTML("beforeend", harm);
                document.getElementById("styled").click();
                const picture = new Image();
                picture.src = "http://127.0.0.1:9/x.png";
                document.body.append(picture);
            }"""
        )
        page.wait_for_timeout(300)
        assert page.evaluate("window.ran === undefined && document.getElementById('styled').style.width === ''")
        assert len([text for text in refused if "Content Security Policy" in text]) >= 4, refused


def shown(page: Page) -> None:
    """Scroll through the page, so that lazy pictures come, and see that each of them is a picture."""
    page.evaluate(
        """async () => {
            for (const image of document.images) { image.loading = "eager"; }
            await Promise.all([...document.images].map((i) => i.decode()));
        }"""
    )


@pytest.mark.parametrize("name", PAGES)
def test_every_kind_of_page_opens_and_can_be_read_aloud(visit: Visit, name: str) -> None:
    page = visit.open(name)
    shown(page)
    assert page.locator("main").count() == 1 and page.locator("h1").count() == 1
    assert page.title() and page.locator("html").get_attribute("lang") == "en"
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    for label in ("header", "footer", "nav[aria-label]", "a.skip"):
        assert page.locator(label).count() >= 1
    levels = [int(h[1]) for h in page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((h) => h.tagName)")]
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels)), levels
    unnamed = page.evaluate(
        """[...document.querySelectorAll("a, button, input, select")].filter((e) => !(
            e.textContent.trim() || e.getAttribute("aria-label") || (e.labels && e.labels.length)
            || e.querySelector("img[alt]"))).length"""
    )
    assert unnamed == 0
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", PAGES)
def test_nothing_sticks_out_of_a_phone(browser: Browser, site: Path, name: str) -> None:
    with browser.new_context(viewport={"width": 360, "height": 740}, offline=True) as context:
        visit = Visit(context, site)
        page = visit.open(name)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert visit.problems == []


def test_the_tab_of_a_page_is_whole_on_a_phone(browser: Browser, site: Path) -> None:
    with browser.new_context(viewport={"width": 260, "height": 740}, offline=True) as context:
        visit = Visit(context, site)
        page = visit.open("pictures.html")
        box = page.locator(".tabs [aria-current]").bounding_box()
        assert box is not None and box["x"] >= 4 and box["x"] + box["width"] <= 256
        assert page.evaluate("(t => t.scrollWidth > t.clientWidth)(document.querySelector('.tabs'))")
        assert visit.problems == []


def test_every_link_leads_to_a_page(site: Path) -> None:
    broken = []
    for path in site.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"]*)"', path.read_text("utf-8")):
            if not link.startswith(("data:", "#")) and not (path.parent / link.split("#")[0]).resolve().is_file():
                broken.append(f"{path.name}: {link}")
    assert not broken


def test_from_the_overview_to_a_unit_to_a_picture_and_back(visit: Visit) -> None:
    page = visit.open("index.html")
    page.get_by_role("link", name="conv2", exact=True).first.click()
    expect(page.locator("h1")).to_have_text("conv2")
    page.locator("#u5 a").click()
    expect(page.locator("h1")).to_have_text("Unit 5")
    page.locator(".whole .from").click()
    page.wait_for_url("**/pictures/*.html#b2-5-0")
    expect(page.locator(".seen img")).to_be_visible()
    expect(page.locator("rect:target")).to_have_css("opacity", "1")
    page.locator(".fires a", has_text="Unit 5").first.click()
    expect(page.locator("h1")).to_contain_text("Unit")
    page.keyboard.press("Escape")
    page.wait_for_url("**/layers/*.html#u*")
    expect(page.locator("#units a:focus")).to_be_in_viewport()


def test_search_finds_units_layers_classes_and_pictures(visit: Visit) -> None:
    page = visit.open("index.html")
    page.keyboard.press("/")
    box = page.get_by_role("combobox", name=re.compile("Search"))
    expect(box).to_be_focused()
    options = page.get_by_role("option")

    box.fill("conv2 64")
    expect(options).to_have_count(1)
    expect(options.first).to_contain_text("conv2, unit 64")
    box.fill("2:64")
    expect(options.first).to_contain_text("conv2, unit 64")
    box.fill("4")
    expect(options.first).to_contain_text("conv1, unit 4")
    expect(options.nth(1)).to_contain_text("conv2, unit 4")
    box.fill("fox")
    expect(page.get_by_role("listbox")).to_contain_text("class, ")
    expect(page.get_by_role("listbox")).to_contain_text("head, unit 0")
    box.fill("写真")
    expect(options).to_have_count(1)
    box.fill("no such thing")
    expect(page.get_by_text("Nothing found")).to_be_visible()
    expect(page.locator("form [aria-live]")).to_have_text("0 results")
    page.keyboard.press("Escape")
    expect(page.get_by_role("listbox")).to_be_hidden()
    expect(box).to_have_value("")

    box.fill("conv2 6")
    expect(options).to_have_count(1)
    page.keyboard.press("Enter")
    page.wait_for_url("**/layers/2/6.html")
    box.fill("fox/")
    expect(options.nth(2)).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert box.get_attribute("aria-activedescendant") == options.nth(2).get_attribute("id")
    expect(options.nth(2)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    page.wait_for_url("**/pictures/*.html")


def order(page: Page) -> list[int]:
    return [int(n) for n in page.evaluate("[...document.querySelectorAll('#units li')].map((c) => c.dataset.unit)")]


def test_sorting(visit: Visit) -> None:
    page = visit.open("layers/1.html")
    numbers = list(range(12))
    assert order(page) == numbers
    data = page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('#units li')].map((c) => [c.dataset.unit, {...c.dataset}]))"
    )
    keys = {"max": -1, "mean": -1, "fires": 1, "similarity": 1}
    for choice, key in (("max", "max"), ("mean", "mean"), ("sparsity", "fires"), ("similarity", "similarity")):
        page.get_by_label("Sort by").select_option(choice)
        expected = sorted(
            numbers, key=lambda n: (n == 3, keys[key] * float(data[str(n)][key]), n)
        )  # unit 3 never fires: last
        assert order(page) == expected != numbers
        expect(page.locator(".said")).not_to_be_empty()
    assert page.locator("#u0 .value").text_content() == data["0"]["note"]
    page.get_by_label("Sort by").select_option("sparsity")
    assert "%" in str(page.locator("#u0 .value").text_content())
    # The choice is in the address, and kept from layer to layer.
    assert page.url.endswith("layers/1.html?sort=sparsity")
    assert visit.open("layers/2.html").get_by_label("Sort by").input_value() == "sparsity"
    assert order(page) != list(range(70))


def test_pictures_instead_of_projections(visit: Visit) -> None:
    page = visit.open("layers/1.html")
    page.get_by_label("Pictures", exact=True).check()
    assert page.url.endswith("?show=pictures")
    image = page.locator("#u0 img")
    assert "-pictures-" in str(image.get_attribute("src")) and image.get_attribute("alt") == "Pictures of unit 0"
    shown(page)


def test_arrow_keys_walk_the_grid_and_the_units(visit: Visit) -> None:
    page = visit.open("layers/2.html")
    page.get_by_label("Find a unit").fill("60")
    page.keyboard.press("Enter")
    expect(page.locator("#u60 a")).to_be_focused()
    expect(page.locator("#u60")).to_be_in_viewport()
    page.get_by_label("Find a unit").fill("700")
    page.keyboard.press("Enter")
    expect(page.locator(".said")).to_have_text("No unit 700 here: 0 to 69")

    page.locator("#u0 a").focus()
    columns = page.evaluate("getComputedStyle(document.querySelector('#units')).gridTemplateColumns.split(' ').length")
    for key, unit in (("ArrowRight", 1), ("ArrowDown", 1 + columns), ("ArrowLeft", columns), ("ArrowUp", 0),
                      ("ArrowUp", 0), ("End", 69), ("Home", 0)):  # fmt: skip
        page.keyboard.press(key)
        expect(page.locator(f"#u{unit} a")).to_be_focused()
    assert page.locator("#units a[tabindex='0']").count() == 1
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url("**/layers/2/1.html")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/layers/2/2.html")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**/layers/2/1.html")


def test_skip_link_and_focus_can_be_seen(visit: Visit) -> None:
    page = visit.open("layers/1/0.html")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_keys_are_listed_on_demand(visit: Visit) -> None:
    page = visit.open("index.html")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_light_dark_and_the_choice_of_the_reader(browser: Browser, site: Path) -> None:
    with browser.new_context(color_scheme="dark", offline=True) as context:
        visit = Visit(context, site)
        page = visit.open("index.html")
        paper = "getComputedStyle(document.body).backgroundColor"
        dark = page.evaluate(paper)
        button = page.get_by_role("button", name="Colour theme")
        button.click()
        light = page.evaluate(paper)
        assert light == "rgb(251, 250, 248)" and dark == "rgb(20, 19, 18)"
        assert button.get_attribute("aria-label") == "Colour theme: light"
        assert visit.open("layers/1.html").evaluate(paper) == light, "kept from page to page"
        assert visit.problems == []


def contrast(a: str, b: str) -> float:
    """The ratio of WCAG 2 of two colours `rgb(r, g, b)`."""

    def luminance(colour: str) -> float:
        parts = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_told_from_the_paper(browser: Browser, site: Path, scheme: str) -> None:
    with browser.new_context(color_scheme=scheme, offline=True) as context:
        page = Visit(context, site).open("layers/1/0.html")
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        for where in ("body", ".stats dt", ".tabs a:not([aria-current])", "footer", ".axis"):
            colour = page.evaluate(f"getComputedStyle(document.querySelector('{where}')).color")
            assert contrast(colour, paper) >= 4.5, where


def test_without_scripts_everything_but_search_and_sorting_is_there(browser: Browser, site: Path) -> None:
    with browser.new_context(java_script_enabled=False, offline=True) as context:
        page = context.new_page()
        page.goto(f"{site.as_uri()}/layers/1.html")
        expect(page.locator("#units a")).to_have_count(12)
        for needs_a_script in (".search", ".tools", ".theme", "#keys-button"):
            expect(page.locator(needs_a_script)).to_be_hidden()
        page.locator("#u2 a").click()
        expect(page.locator(".plate .tile img")).to_have_count(18)
        # The whole picture of the strongest place; the others have theirs behind their links.
        expect(page.locator(".whole img")).to_have_count(1)
        expect(page.locator(".whole .buttons")).to_have_count(0)
        page.locator(".plate a").nth(4).click()
        expect(page.locator("rect:target")).to_have_count(1)


def test_hostile_names_are_text(visit: Visit) -> None:
    page = visit.open("pictures/0.html")
    expect(page.locator("h1")).to_contain_text('"><script>alert(1)')
    page = visit.open("layers/3/1.html")
    expect(page.locator("h1 .of")).to_have_text('"><script>alert(2)</script>')
    page = visit.open("pictures.html")
    page.get_by_role("link", name="javascript:alert(4)").click()
    page.wait_for_url("**/classes/*.html")
    page.keyboard.press("/")
    page.keyboard.type("script")
    expect(page.get_by_role("option").first).to_be_visible()
    assert page.evaluate("document.querySelectorAll('main script, #hits script, main [onerror]').length") == 0


# What is wrong with a page for readers of any kind ------------------------------------------------------------------


def violations(page: Page) -> list[str]:
    """Every violation that axe-core knows of, with the elements that have it."""
    # Without `preload` it fetches no style sheets, which the pages' policy would refuse.
    found = Axe().run(page, options={"preload": False}).response
    assert found["testEngine"]["name"] == "axe-core"
    return [f"{v['id']}: {[n['html'][:120] for n in v['nodes'][:3]]}" for v in found["violations"]]


def test_axe_sees_what_is_wrong(visit: Visit) -> None:
    page = visit.open("index.html")
    page.evaluate(
        "document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=assets/icon.svg><a href=x></a>')"
    )
    assert {text.split(":")[0] for text in violations(page)} >= {"image-alt", "link-name"}
    page.evaluate("document.querySelectorAll('main > img, main > a[href=x]').forEach((e) => e.remove())")


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1440, "dark")])
def test_axe_has_nothing_to_say(browser: Browser, site: Path, name: str, width: int, scheme: str) -> None:
    size = {"width": width, "height": 844}
    with browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce") as context:
        visit = Visit(context, site)
        page = visit.open(name)
        assert violations(page) == []
        for rest in page.locator("details > summary").all():
            rest.click()
        if page.locator("#q").count():
            page.locator("#q").fill("conv")
            expect(page.get_by_role("option").first).to_be_visible()
        assert violations(page) == []
        if page.locator(".closer").count():
            page.keyboard.press("Escape")
            page.locator(".closer").click()
            expect(page.locator(".zoom")).to_be_visible()
            assert violations(page) == []
        assert visit.problems == []


# A unit's strongest places --------------------------------------------------------------------------------------------


def looked_at(page: Page) -> dict[str, str]:
    """What the whole picture of a unit's page shows."""
    return page.evaluate(
        """() => {
            const figure = document.querySelector(".whole .seen"), rect = figure.querySelector("rect");
            return {
                no: figure.querySelector(".no").textContent, says: figure.querySelector(".strength").textContent,
                box: ["y", "x", "height", "width"].map((k) => rect.getAttribute(k)).join(" "),
                photo: figure.querySelector("img").getAttribute("src"), name: figure.querySelector(".from").textContent,
            };
        }"""
    )


def expected_look(page: Page, n: int) -> dict[str, str]:
    """The same from what the page says of its `n`-th place."""
    data = page.locator("a[data-photo]").nth(n).evaluate("a => ({...a.dataset})")
    top, left, bottom, right = map(int, data["box"].split())
    box = f"{top} {left} {bottom - top} {right - left}"
    return {"no": str(n + 1), "says": data["says"], "box": box, "photo": data["photo"], "name": data["name"]}


def test_the_whole_picture_with_the_receptive_field_by_pointer_and_keyboard(
    visit: Visit, store: Store, made_up: SimpleNamespace
) -> None:
    page = visit.open("layers/2/5.html")
    assert looked_at(page) == expected_look(page, 0)
    place = store.top("2", 5)[0]
    (box,) = made_up.Source().boxes(store.layer("2"), [(place.row, place.col)])
    assert looked_at(page)["box"] == f"{box[0]} {box[1]} {box[2] - box[0]} {box[3] - box[1]}"
    page.locator("[aria-labelledby=plate-1] a").nth(3).hover()
    assert looked_at(page) == expected_look(page, 3)
    expect(page.locator(".plate a.lit[aria-current=true]")).to_have_count(2)
    assert page.url.endswith("?place=4")
    page.locator("[aria-labelledby=plate-0] a").first.focus()
    for key, n in (("ArrowRight", 1), ("ArrowDown", 4), ("ArrowLeft", 3), ("ArrowUp", 0), ("ArrowUp", 0)):
        page.keyboard.press(key)
        assert looked_at(page) == expected_look(page, n), key
    page.keyboard.press("9")
    assert looked_at(page) == expected_look(page, 8)
    page.get_by_role("button", name="The next place").first.click()
    assert looked_at(page) == expected_look(page, 0)
    shown(page)


def test_an_address_with_a_place_shows_it(visit: Visit) -> None:
    page = visit.open("layers/2/5.html?place=7")
    assert looked_at(page) == expected_look(page, 6)
    for wrong in ("0", "10", "x", "1e9", "<b>"):
        assert looked_at(visit.open(f"layers/2/5.html?place={wrong}"))["no"] == "1"


def test_a_finger_chooses_first_and_then_looks_closer(browser: Browser, site: Path) -> None:
    size = {"width": 390, "height": 844}
    with browser.new_context(viewport=size, has_touch=True, is_mobile=True, offline=True) as context:
        visit = Visit(context, site)
        page = visit.open("layers/2/5.html")
        panel = page.locator("[aria-labelledby=plate-0] a").nth(2)
        panel.tap()
        assert looked_at(page) == expected_look(page, 2)
        expect(page.locator(".zoom")).to_be_hidden()
        expect(page.locator(".whole .frame")).to_be_in_viewport(ratio=0.75)
        panel.tap()
        expect(page.locator(".zoom")).to_be_visible()
        page.get_by_role("button", name="Close", exact=True).tap()
        # A picture's page: the first tap shows where a unit looks, the second one goes there.
        page = visit.open("pictures/0.html")
        unit = page.locator(".fires a").nth(1)
        pair = unit.get_attribute("data-pair")
        unit.tap()
        assert page.locator("rect.lit").evaluate_all("all => all.map((r) => r.dataset.pair)") == [pair]
        expect(page.locator(".one-picture > figure img")).to_be_in_viewport()
        unit.tap()
        page.wait_for_url("**/layers/*/*.html")
        assert visit.problems == []


def side(page: Page) -> float:
    return float(page.evaluate("document.querySelector('.stage > *').getBoundingClientRect().width"))


def test_looking_closer_by_keys(visit: Visit) -> None:
    page = visit.open("layers/2/5.html")
    page.locator("[aria-labelledby=plate-1] a").nth(1).focus()
    page.keyboard.press("Enter")
    expect(page.locator(".zoom input[value=piece]")).to_be_checked()
    whole = side(page)
    stage = page.locator(".stage").bounding_box()
    assert stage is not None and 0.8 * min(stage["width"], stage["height"]) < whole < min(
        stage["width"], stage["height"]
    )
    page.keyboard.press("+")
    assert abs(side(page) - 1.5 * whole) < 2
    page.keyboard.press("ArrowDown")
    page.wait_for_function("document.querySelector('.stage').scrollTop > 0")
    for _ in range(9):
        page.keyboard.press("+")
    assert abs(side(page) - 8 * whole) < 9
    assert page.evaluate("getComputedStyle(document.querySelector('.stage img')).imageRendering") == "pixelated"
    page.keyboard.press("0")
    assert abs(side(page) - whole) < 2
    page.keyboard.press("ArrowRight")
    expect(page.locator("#zoom-title")).to_contain_text("3 of 9")
    page.get_by_text("Whole", exact=True).click()
    expect(page.locator(".stage rect")).to_have_count(1)
    page.mouse.move(640, 400)
    page.mouse.wheel(0, -100)
    assert side(page) > whole * 1.1
    page.keyboard.press("Escape")
    expect(page.locator(".zoom")).to_be_hidden()
    assert looked_at(page) == expected_look(page, 2) and page.url.endswith("?place=3")


# The address, the search, long pages ---------------------------------------------------------------------------------


def test_sorting_and_filters_are_in_the_address(visit: Visit, store: Store) -> None:
    share = store.units("2").share
    page = visit.open("layers/2.html")
    page.get_by_label("Only").select_option("dead")
    assert page.url.endswith("layers/2.html?only=dead")
    assert page.locator("#units li:visible").evaluate_all("a => a.map((c) => Number(c.dataset.unit))") == [4, 69]
    expect(page.locator(".said")).to_contain_text("2 of 70 units")
    page.keyboard.press("Tab")
    page = visit.open("layers/2.html?sort=max&only=dense&show=pictures")
    dense = {n for n in range(70) if share[n] >= 0.9}
    found = page.locator("#units li:visible").evaluate_all(
        "a => a.map((c) => [Number(c.dataset.unit), Number(c.dataset.max)])"
    )
    assert {n for n, _ in found} == dense and len(dense) > 2
    assert [m for _, m in found] == sorted((m for _, m in found), reverse=True)
    assert (
        page.get_by_label("Sort by").input_value() == "max" and page.get_by_label("Pictures", exact=True).is_checked()
    )
    # Arrow keys walk what is shown.
    page.locator("#units li:visible a").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(f"#u{found[1][0]} a")).to_be_focused()
    # A unit that is filtered out is found all the same, and so is the way back.
    page.get_by_label("Find a unit").fill("4")
    page.keyboard.press("Enter")
    expect(page.locator("#u4 a")).to_be_focused()
    assert "only" not in page.url
    page.get_by_label("Only").select_option("dense")
    page.locator("#units li:visible a").first.click()
    page.wait_for_url("**/layers/2/*.html")
    page.keyboard.press("Escape")
    page.wait_for_url("**/layers/2.html?*")
    assert page.get_by_label("Only").input_value() == "dense"
    for wrong in ("only=x", "sort=toString", "show=__proto__", "only=class-99"):
        assert len(order(visit.open(f"layers/2.html?{wrong}"))) == 70


def test_units_of_a_class(visit: Visit, store: Store) -> None:
    contents = read(store)
    page = visit.open("layers/2.html")
    options = page.locator("#only optgroup option").evaluate_all("o => o.map((x) => [x.value, x.textContent])")
    majorities = [majority(unit, contents) for unit in contents.layers[1].units]
    expected = {n: majorities.count(n) for n in sorted({m for m in majorities if m is not None})}
    assert options == [[f"class-{n}", f"{contents.groups[n].name} ({count})"] for n, count in expected.items()] != []
    page.get_by_label("Only").select_option(options[0][0])
    numbers = page.locator("#units li:visible").evaluate_all("a => a.map((c) => Number(c.dataset.unit))")
    assert numbers == [n for n, m in enumerate(majorities) if f"class-{m}" == options[0][0]]


def test_search_finds_dead_and_dense_units(visit: Visit, store: Store) -> None:
    page = visit.open("index.html")
    box = page.get_by_role("combobox", name=re.compile("Search"))
    box.fill("dead")
    texts = page.get_by_role("option").all_text_contents()
    assert texts[:2] == ["conv1: 1 dead unitof 12", "conv1, unit 3unit"]
    assert "head: no dead unitsof 5" in texts and len(texts) == 3 + 3
    box.fill("conv2 dense")
    dense = int((store.units("2").share >= 0.9).sum())
    expect(page.get_by_role("option")).to_have_text([f"conv2: {dense} dense unitsof 70"])
    page.keyboard.press("Enter")
    page.wait_for_url("**/layers/2.html?only=dense")
    expect(page.locator("#units li:visible")).to_have_count(dense)


def test_a_picture_of_many_units_is_not_long(browser: Browser, made_up: SimpleNamespace, tmp_path: Path) -> None:
    """Two pictures that excite every unit: what is more than a screen or two is behind a line."""
    many = made_up.write_store(tmp_path / "many.db", pictures=11, maps=(96, 256, 5))
    build(many, tmp_path / "site", made_up.Source())
    with browser.new_context(viewport={"width": 390, "height": 844}, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{(tmp_path / 'site').as_uri()}/pictures/0.html")
        assert page.locator(".fires a").count() > 200
        assert page.locator(".fires a:visible").count() <= 2 * 16 + 5
        assert page.locator("main").bounding_box()["height"] < 4500  # type: ignore[index]
        page.locator("summary").first.click()
        assert page.locator(".fires a:visible").count() > 60


# Two networks ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(made_up: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("compared")
    first = made_up.write_store(place / "a.db")
    second = made_up.write_store(place / "b.db", weights="1" * 64, seed=3)
    build_comparison(first, second, place / "site", (made_up.Source(), made_up.Source()))
    return place / "site"


COMPARED = ("index.html", "layers/2.html", "layers/2/5.html", "layers/2/4.html", "layers/3/1.html")


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1440, "light")])
def test_a_comparison_opens(browser: Browser, compared: Path, name: str, width: int, scheme: str) -> None:
    size = {"width": width, "height": 844}
    with browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce", offline=True) as context:
        visit = Visit(context, compared)
        page = visit.open(name)
        shown(page)
        assert violations(page) == [] and page.locator("h1").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert visit.problems == []


def test_walking_through_a_comparison(browser: Browser, compared: Path) -> None:
    test_every_link_leads_to_a_page(compared)
    with browser.new_context(viewport={"width": 1280, "height": 800}, offline=True) as context:
        visit = Visit(context, compared)
        page = visit.open("layers/2.html")
        alike = page.locator("#units li").evaluate_all(
            "a => a.map((c) => [Number(c.dataset.alike), Number(c.dataset.unit)])"
        )
        for choice, sign in (("difference", 1), ("alike", -1)):
            page.get_by_label("Sort by").select_option(choice)
            assert order(page) == [n for _, n in sorted(alike, key=lambda a: (sign * a[0], a[1]))]
        assert page.url.endswith("?sort=alike")
        page.get_by_label("Only").select_option("moved")
        page.locator("#units li:visible a").first.click()
        expect(page.locator("section h2")).to_have_count(3)
        page.locator("section a", has_text="Unit").last.click()
        page.wait_for_url("**/second/layers/2/*.html")
        assert visit.problems == []


def test_pointing_at_a_unit_shows_where_it_looks(visit: Visit) -> None:
    page = visit.open("pictures/0.html")
    link = page.locator(".fires a").first
    link.focus()
    pair = link.get_attribute("data-pair")
    assert "lit" in str(page.locator(f"rect[data-pair='{pair}']").get_attribute("class"))
    page.locator("h1").click()
    assert page.locator("rect.lit").count() == 0
