"""The site in a real browser: opened as files, without a network, with names that try to do harm."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

if not os.environ.get("CI"):
    pytest.importorskip("playwright", reason="playwright is not installed: pip install 'deconvviz[test]'")
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
    page.locator(".plate a").first.click()
    expect(page.locator(".seen img")).to_be_visible()
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
    # The choice is kept from layer to layer.
    assert visit.open("layers/2.html").get_by_label("Sort by").input_value() == "sparsity"
    assert order(page) != list(range(70))


def test_pictures_instead_of_projections(visit: Visit) -> None:
    page = visit.open("layers/1.html")
    page.get_by_label("Pictures", exact=True).check()
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


def test_pointing_at_a_unit_shows_where_it_looks(visit: Visit) -> None:
    page = visit.open("pictures/0.html")
    link = page.locator(".fires a").first
    link.focus()
    pair = link.get_attribute("data-pair")
    assert "lit" in str(page.locator(f"rect[data-pair='{pair}']").get_attribute("class"))
    page.locator("h1").click()
    assert page.locator("rect.lit").count() == 0
