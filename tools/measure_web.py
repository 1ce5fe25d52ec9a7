"""How quick the built page is, in headless Chromium: ``python tools/measure_web.py`` (needs playwright and chromium).

Prints, as medians of ``--rounds`` visits with an empty cache: when the page can be used and when its model is there, how long
one crop takes with WebAssembly on one thread, and how long the page's own work for one step of a drag takes (conditioning all
joints, their regions, drawing, numbers). Other work on the machine counts in.
"""

import shutil
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "web"))
from site_server import serving


@dataclass(frozen=True)
class Settings:
    """Measure the page."""

    rounds: int = 3
    """Visits."""

    chromium: str = shutil.which("chromium") or "chromium"
    """The browser."""


def main(settings: Settings) -> None:
    """Visit, drag, print."""
    from playwright.sync_api import sync_playwright

    interactive, ready, crop, steps = [], [], [], []
    with serving() as url, sync_playwright() as started:
        for _ in range(settings.rounds):
            browser = started.chromium.launch(executable_path=settings.chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(f"{url}?backend=wasm&threads=1")
            page.wait_for_selector("html[data-ready]", state="attached", timeout=120_000)
            mark = "name => performance.getEntriesByName(name)[0].startTime"
            interactive.append(page.evaluate(mark, "posecov:interactive"))
            ready.append(page.evaluate(mark, "posecov:ready"))
            crop.append(float(page.inner_text("#engine").split("·")[1].split()[0]))
            page.wait_for_selector("#offline:not(:empty)", state="attached", timeout=120_000)
            box = page.locator("[data-joint=r_wrist]").bounding_box()
            assert box is not None
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            page.mouse.move(x, y)
            page.mouse.down()
            for step in range(120):
                page.mouse.move(x - step / 4, y + 1.2 * step)
                page.wait_for_timeout(20)
            page.mouse.up()
            steps += page.evaluate("performance.getEntriesByName('posecov:drag').map(entry => entry.duration)")[10:]
            browser.close()
    steps.sort()
    print(f"page can be used      {statistics.median(interactive):7.0f} ms after the visit began")
    print(f"model is there        {statistics.median(ready):7.0f} ms")
    print(f"one crop, one thread  {statistics.median(crop):7.0f} ms (tiny, WebAssembly)")
    most = steps[int(0.9 * len(steps))]
    print(f"one step of a drag    {statistics.median(steps):7.1f} ms, 90 % below {most:.1f} ms ({len(steps)} steps)")


if __name__ == "__main__":
    main(tyro.cli(Settings))
