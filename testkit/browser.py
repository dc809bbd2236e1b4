"""Headless Chromium over a report's page: for tests that drive it, and for the picture in README.

    python -m testkit.browser PAGE FRAGMENT OUT     a shot of the page at a fragment, such as '#base=wrong&m1=right'

Needs Chromium (`apt-get install chromium`) and the Python package playwright.
"""

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
SIZE = {"width": 1200, "height": 900}


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Start Chromium, which runs while the block does, and yield playwright's browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        with playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=180_000) as browser:
            yield browser


def shot(page: Path, fragment: str, out: Path) -> None:
    """Write a PNG of what the report `page` shows at `fragment` to `out`."""
    with chromium() as browser:
        shown = browser.new_page(viewport=SIZE)
        shown.goto(page.resolve().as_uri() + fragment)
        shown.wait_for_selector("html[data-ready=true]")
        out.parent.mkdir(parents=True, exist_ok=True)
        shown.screenshot(path=out)


def main(arguments: Sequence[str]) -> None:
    """Take the shot that the arguments name."""
    page, fragment, out = arguments
    if CHROMIUM is None:
        sys.exit("needs Chromium: apt-get install chromium")
    shot(Path(page), fragment, Path(out))


if __name__ == "__main__":
    main(sys.argv[1:])
