"""The built page in a real browser: skipped where the build, Playwright or Chromium is missing."""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from site_server import DIST, serving


def chromium() -> str | None:
    """The browser: $CHROMIUM, or Debian's."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium")


@pytest.fixture(scope="session")
def playwright() -> Iterator[Any]:
    """Playwright, or a skip that says what is missing."""
    if not (DIST / "index.html").is_file():
        pytest.skip("deploy/web/dist is not built (npm ci && npm run build in deploy/web)")
    if chromium() is None:
        pytest.skip("no Chromium (Debian package chromium, or $CHROMIUM)")
    api = pytest.importorskip("playwright.sync_api", reason="no Playwright (pip install playwright)")
    with api.sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """URL of the built page."""
    with serving() as url:
        yield url


@pytest.fixture(scope="session")
def launch(playwright: Any) -> Iterator[Callable[..., Any]]:
    """Starts a browser with more arguments; all are closed at the end."""
    browsers = []

    def start(*arguments: str) -> Any:
        browser = playwright.chromium.launch(executable_path=chromium(), headless=True, args=["--no-sandbox", *arguments])
        browsers.append(browser)
        return browser

    yield start
    for browser in browsers:
        browser.close()


@pytest.fixture(scope="session")
def browser(launch: Callable[..., Any]) -> Any:
    """A browser without a camera."""
    return launch()
