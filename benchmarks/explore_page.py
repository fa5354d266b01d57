"""From the pointer to the picture: how long a hand waits in a real browser, on the bundled ZFNet.

`python benchmarks/explore_page.py [--moves 50] [--layer conv5]`; on a quiet machine, with Chromium (the variable
CHROMIUM, else what is installed). A real pointer moves over the page of `deconvviz.explore`; counted is the time from
the browser's own event to the frame after the answer is in the page: question, network, PNG, decoding, layout. Prints
median and quarters in milliseconds, for a unit that is projected and for the square that covers, and a plain forward
pass beside them.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import time
from pathlib import Path

import torch
from playwright.sync_api import Page, sync_playwright

import deconvviz

PICTURE = Path(__file__).parent.parent / "demos" / "images" / "chelsea.jpg"
MOST = 100.0  # milliseconds, the median that README promises

# Notes when the pointer moved, and when the frame after its answer has been drawn.
_WATCH = """([name, attribute]) => {
    const frame = document.getElementById("frame"), shown = document.getElementById(name);
    window.waited = [];
    let moved = null;
    frame.addEventListener("pointermove", (event) => { moved = event.timeStamp; }, true);
    new MutationObserver(() => {
        if (moved === null) return;
        const from = moved;
        moved = null;
        requestAnimationFrame(() => setTimeout(() => window.waited.push(performance.now() - from)));
    }).observe(shown, { attributeFilter: [attribute] });
}"""


def waits(page: Page, name: str, attribute: str, places: list[tuple[float, float]]) -> list[float]:
    """Milliseconds from each move to a place (parts of height and width) to the frame that shows what is there."""
    box = page.locator("#frame").bounding_box()
    assert box is not None
    page.evaluate(_WATCH, [name, attribute])
    for done, (down, across) in enumerate(places, 1):
        page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
        until = time.monotonic() + 20
        while page.evaluate("window.waited.length") < done and time.monotonic() < until:
            time.sleep(0.02)
    waited: list[float] = page.evaluate("window.waited")
    assert len(waited) == len(places), f"{len(waited)} answers to {len(places)} moves"
    return waited


def apart(count: int, cells: int) -> list[tuple[float, float]]:
    """Places in the middle of cells of a grid, each another cell than the one before."""
    chance = random.Random(0)
    found: list[tuple[float, float]] = []
    while len(found) < count:
        place = ((chance.randrange(1, cells - 1) + 0.5) / cells, (chance.randrange(1, cells - 1) + 0.5) / cells)
        if not found or place != found[-1]:
            found.append(place)
    return found


def show(what: str, waited: list[float]) -> None:
    """Print one line."""
    low, middle, high = statistics.quantiles(waited[3:], n=4)  # the first ones warm up
    print(f"{what:34} median {middle:6.1f} ms (half of them {low:.1f} to {high:.1f})   wanted {MOST:.0f}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=50)
    parser.add_argument("--layer", default="conv5")
    given = parser.parse_args()
    net = deconvviz.load("zfnet")
    x = net.preprocess(PICTURE)
    passes = []
    for _ in range(given.moves):
        begun = time.perf_counter()
        with torch.no_grad():
            net.module(x)
        passes.append(1e3 * (time.perf_counter() - begun))
    print(f"{'plain forward pass':34} median {statistics.median(passes):6.1f} ms", flush=True)
    browser_path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with deconvviz.explore(net, PICTURE) as explorer, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"{explorer.url}#layer={given.layer}")
        page.locator("#projection[data-shows]").wait_for()
        show(
            f"pointer to projection, {given.layer}", waits(page, "projection", "data-shows", apart(given.moves + 3, 13))
        )
        page.goto(f"{explorer.url}#view=occlusion&layer={given.layer}&window=32&stride=32")
        page.reload()
        page.locator("#heat[data-done=true]").wait_for()
        page.mouse.move(*middle(page))
        page.mouse.down()
        show("pointer to probabilities, square 32", waits(page, "bars", "data-origin", apart(given.moves + 3, 9)))
        browser.close()


def middle(page: Page) -> tuple[float, float]:
    """The middle of the picture, where the square lies at first."""
    box = page.locator("#frame").bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


if __name__ == "__main__":
    main()
