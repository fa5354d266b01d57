"""Draw the pictures of the page of `deconvviz explore` into docs/pictures/ (or the given folder).

python demos/explore_pictures.py [FOLDER]

A real browser (Chromium: the variable CHROMIUM, else what is installed; `pip install playwright`) opens the page on the
bundled ZFNet and the demo pictures, and a pointer goes through it: explore.webp is what it sees, explore.jpg a still.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

import deconvviz

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "demos" / "images"
VIEW = {"width": 1280, "height": 800}
SHOWN = (960, 600)  # pixels of the animation
LIMIT = 600_000  # bytes it may have: a clone stays small

# A pointer: pages are pictured without one.
_POINTER = """() => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.setAttribute("viewBox", "0 0 12 18");
    path.setAttribute("d", "M1 1v14l3.6-3.3 2.3 5.1 2-.9-2.2-5 4.8-.3z");
    Object.assign(path.style, { fill: "#1d1b19", stroke: "#fff", strokeWidth: "1.1px" });
    Object.assign(svg.style, { position: "fixed", width: "18px", height: "27px", zIndex: 99, pointerEvents: "none" });
    svg.append(path);
    document.body.append(svg);
    const follow = (e) => Object.assign(svg.style, { left: `${e.clientX}px`, top: `${e.clientY}px` });
    addEventListener("pointermove", follow, true);
}"""


class Film:
    """Frames of a page, each with its time."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.frames: list[Image.Image] = []
        self.times: list[int] = []

    def take(self, milliseconds: int) -> None:
        """One frame, when nothing is asked any more."""
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_timeout(60)
        picture = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        self.frames.append(picture.resize(SHOWN, Image.Resampling.LANCZOS))
        self.times.append(milliseconds)

    def move(self, box: str, down: float, across: float, milliseconds: int) -> None:
        """The pointer over a part of the page, given by height and width; and a frame of it."""
        at = self.page.locator(box).bounding_box()
        assert at is not None
        self.page.mouse.move(at["x"] + across * at["width"], at["y"] + down * at["height"])
        self.take(milliseconds)

    def write(self, path: Path) -> None:
        """Write an animated WebP of less than `LIMIT` bytes."""
        for quality in range(80, 20, -5):
            stream = io.BytesIO()
            self.frames[0].save(
                stream, "WEBP", save_all=True, append_images=self.frames[1:], duration=self.times, loop=0,
                quality=quality, method=6, kmax=1000,
            )  # fmt: skip
            if len(stream.getvalue()) < LIMIT:
                break
        _write(path, stream.getvalue())


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    print(f"{path} ({len(data) / 1000:.0f} kB)")


def projections(film: Film) -> None:
    """Point at maps, then move over the picture."""
    page = film.page
    page.mouse.move(660, 420)
    film.take(1200)
    for k in (2, 3, 6, 8, 4):
        film.move(f".map[aria-posinset='{k}']", 0.4, 0.5, 750)
    page.mouse.down()
    page.mouse.up()
    film.take(700)
    for k in range(9):
        film.move("#frame", 0.5 + 0.02 * k, 0.12 + 0.085 * k, 170)
    film.take(600)


def occlusions(film: Film) -> None:
    """Drag the square over the picture."""
    film.move("#view label:last-child", 0.5, 0.5, 400)
    film.page.mouse.down()
    film.page.mouse.up()
    film.page.locator("#heat[data-done=true]").wait_for()
    film.take(700)
    film.move("#occluder", 0.5, 0.5, 300)
    film.page.mouse.down()
    for k in range(13):
        film.move("#frame", 0.5 + 0.025 * k, 0.5 + 0.012 * k, 160)
    film.page.mouse.up()
    film.take(1800)


def main() -> None:
    """Draw the pictures and print their paths."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    images = [IMAGES / f"{name}.jpg" for name in ("chelsea", "astronaut", "coffee", "rocket")]
    browser_path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with deconvviz.explore(deconvviz.load("zfnet"), images) as explorer, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])

        def opened(state: str, act: Callable[[Page], None], **view: object) -> None:
            page = browser.new_page(**view)  # type: ignore[arg-type]
            page.goto(explorer.url + state)
            page.locator("#projection[data-shows], #bars[data-origin]").first.wait_for()
            act(page)
            page.close()

        def film(page: Page) -> None:
            page.evaluate(_POINTER)
            made = Film(page)
            projections(made)
            occlusions(made)
            made.write(folder / "explore.webp")

        def still(page: Page) -> None:
            page.wait_for_load_state("networkidle")
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            stream = io.BytesIO()
            picture.save(stream, "JPEG", quality=86, optimize=True)
            _write(folder / "explore.jpg", stream.getvalue())

        opened("#layer=conv5&window=64&stride=8", film, viewport=VIEW)
        state = "#layer=conv5&unit=29&pins=29,conv5;220,conv5;162,conv5;35,conv4;17,conv3"
        opened(state, still, viewport={"width": 1440, "height": 1330})
        browser.close()


if __name__ == "__main__":
    main()
