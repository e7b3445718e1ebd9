"""A dashboard in a process of its own, and a headless Chromium to drive it."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Route

from tests.dashboards.driving import CHROMIUM, PATIENCE_MS, PATIENCE_S, Dashboard

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def dashboard() -> Iterator[Dashboard]:
    """``python -m toolkit dashboard`` on a free port, ready to answer, for all tests together."""
    with served() as dashboard:
        yield dashboard


@pytest.fixture
def own_dashboard() -> Iterator[Callable[..., Dashboard]]:
    """Serves another one, with options of its own, for one test."""
    with ExitStack() as stack:
        yield lambda *options, prefix="": stack.enter_context(served(*options, prefix=prefix))


@contextmanager
def served(*options: str, prefix: str = "") -> Iterator[Dashboard]:
    """A dashboard in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    under = ["--prefix", prefix] if prefix else []
    with tempfile.TemporaryFile("w+") as log:  # a pipe that nobody reads would fill
        process = subprocess.Popen(
            [sys.executable, "-m", "toolkit", "dashboard", "--port", str(port), *under, *options],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        dashboard = Dashboard(f"http://127.0.0.1:{port}{prefix}/", process, log)
        try:
            _wait_for(dashboard)
            yield dashboard
        finally:
            process.kill()
            process.wait()


def _wait_for(dashboard: Dashboard) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        assert dashboard.process.poll() is None, dashboard.printed()
        try:
            with urllib.request.urlopen(dashboard.url, timeout=PATIENCE_S):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{dashboard.url} did not answer within {PATIENCE_S} s")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failed test what its server printed."""
    report = yield
    server = getattr(item, "funcargs", {}).get("dashboard")
    if report.failed and server:
        report.sections.append(("What the server printed", server.printed()[-4000:]))
    return report


@pytest.fixture
def context(context: BrowserContext) -> BrowserContext:
    """Pages that wait as long as a crowded machine needs."""
    context.set_default_timeout(PATIENCE_MS)
    return context


@pytest.fixture
def watched_page(page: Page) -> Iterator[Page]:
    """A page that may ask nothing of other machines, and whose scripts may not fail."""
    wrong: list[str] = []

    def judge(route: Route) -> None:
        if re.match(r"https?://(127\.0\.0\.1|localhost)[:/]", route.request.url):
            route.continue_()
        else:
            wrong.append(route.request.url)
            route.abort()

    page.route(re.compile("^https?://"), judge)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    assert wrong == []


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, object]:
    """Launch the machine's own Chromium; skip where there is none, but never in CI."""
    if CHROMIUM is None:
        message = "no Chromium on this machine (Debian: apt install chromium)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    return {
        "executable_path": CHROMIUM,
        "args": ["--no-sandbox", "--disable-gpu", *quiet],
    }


@pytest.fixture(scope="session")
def browser_context_args() -> dict[str, object]:
    """A laptop's window."""
    return {"viewport": {"width": 1366, "height": 768}, "accept_downloads": True}
