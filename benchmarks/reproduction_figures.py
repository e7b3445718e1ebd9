"""PNG pictures of the figures that ``python -m toolkit reproduce`` draws.

    python -m benchmarks.reproduction_figures results docs/figures

The pages C1.html, C2.html, ... of the first folder are photographed into reproduction_C1.png, ...
of the second by a headless Chromium, which must be installed.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright


def photograph(browser: Browser, page_file: Path, picture: Path) -> None:
    """Save what a page shows, cut to its figure."""
    page = browser.new_page(viewport={"width": 1000, "height": 800}, device_scale_factor=1.25)
    page.goto(page_file.resolve().as_uri())
    page.wait_for_selector("canvas")
    page.wait_for_timeout(1500)
    page.locator(".bk-GridPlot, .bk-Figure").first.screenshot(path=picture)
    page.close()


def main() -> None:
    """Photograph every page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reproduction_figures")
    parser.add_argument("results", type=Path, help="folder of the pages")
    parser.add_argument("figures", type=Path, help="folder for the pictures")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        for page_file in sorted(options.results.glob("C?.html")):
            photograph(browser, page_file, options.figures / f"reproduction_{page_file.stem}.png")
        browser.close()


if __name__ == "__main__":
    main()
