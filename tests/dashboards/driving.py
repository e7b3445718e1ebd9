"""How a test serves the dashboard and finds its way around the page."""

import asyncio
import shutil
import signal
import subprocess
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PATIENCE_S = 90  # a crowded machine is slow, not broken
PATIENCE_MS = 1000 * PATIENCE_S
expect.set_options(timeout=PATIENCE_MS)


def beside(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What the coroutine returns, run in another thread: Playwright leaves a loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


@dataclass
class Dashboard:
    """A served dashboard: its address, its process and what that prints."""

    url: str
    process: subprocess.Popen[bytes]
    log: IO[str]

    def terminate(self) -> tuple[int, str]:
        """Send SIGTERM; returns the exit status and what was printed."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=PATIENCE_S)
        return self.process.returncode, self.printed()

    def printed(self) -> str:
        """All that was printed up to now."""
        self.log.seek(0)
        return self.log.read()


def visit(page: Page, dashboard: Dashboard, query: str = "") -> None:
    page.goto(dashboard.url + query)
    expect(button(page, "Start")).to_be_visible()


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_text(option, exact=True).last.click()


def status(page: Page, name: str) -> str:
    item = page.locator("dl > div", has=page.get_by_text(name, exact=True))
    return item.locator("dd").text_content() or ""  # even before its style sheets have arrived


def number(page: Page, name: str) -> int:
    return int(status(page, name).split()[0].replace(",", ""))


def wait_until(page: Page, condition: Callable[[], bool], what: str) -> None:
    for _ in range(2 * PATIENCE_S):
        if condition():
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"waited {PATIENCE_S} s in vain until {what}")


def serious_violations(page: Page) -> list[str]:
    """What axe-core finds on the page that is serious or critical: rule, and where."""
    page.wait_for_timeout(500)  # a button that was just enabled changes its colour for 0.25 s
    found = Axe().run(page).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


def column_lengths(page: Page, column: str) -> list[int]:
    """How many points every drawn glyph with a column of that name holds, in the browser."""
    return page.evaluate(
        """name => {
            const column = data => data instanceof Map ? data.get(name) : data[name];
            return Bokeh.documents.flatMap(document => [...document._all_models.values()])
                .filter(model => model.type === 'ColumnDataSource' && column(model.data))
                .map(model => column(model.data).length);
        }""",
        column,
    )
