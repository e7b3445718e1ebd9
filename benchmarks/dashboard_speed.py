"""How fast the playground is for a visitor: a real server, a headless Chromium, real training.

    python -m benchmarks.dashboard_speed [--seconds 8] [--repeats 3] [--moves 15]

For each run it reports, as medians over the repeats: updates a second that reach the browser,
training steps a second on the page against those of the same Experiment headless (measured before
and after, in a process of its own), milliseconds from a key on the rank slider to the first data
with the new rank in the browser, and the time to the first useful paint. MNIST is measured where
its files are at hand (SBPCA_DATA). Other work on the machine spoils all of these: the load is
printed, and above 2 nothing is measured unless ``--anyway`` is given.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Page, sync_playwright

from toolkit.training import load_dataset

ROOT = Path(__file__).parents[1]
RUNS: dict[str, dict[str, str]] = {
    "digits 64-128-10, plain weights": {"device": "digital"},
    "digits 64-128-10, Ag:a-Si": {"device": "Ag:a-Si"},
    "MNIST 784-256-10, Ag:a-Si": {"dataset": "mnist", "hidden": "256", "device": "Ag:a-Si"},
}
# Counts new loss data; notes when the data of sigma have the length waited for, after the paint.
WATCH = """() => {
  const sources = Bokeh.documents.flatMap(d => [...d._all_models.values()])
    .filter(m => m.type === 'ColumnDataSource')
  const column = (m, name) => m.data instanceof Map ? m.data.get(name) : m.data[name]
  window.seen = {updates: 0, pressed: 0, wanted: -1, latency: 0}
  addEventListener('keydown', () => { seen.pressed = performance.now() }, true)
  for (const source of sources) {
    if (column(source, 'loss')) source.properties.data.change.connect(() => { seen.updates += 1 })
    if (column(source, 'value')) source.properties.data.change.connect(() => {
      if (seen.wanted > 0 && column(source, 'value').length === seen.wanted) {
        seen.wanted = -1
        requestAnimationFrame(() => { seen.latency = performance.now() - seen.pressed })
      }
    })
  }
}"""
HEADLESS = """
import sys, time, torch
from dashboards.app.settings_text import knobs_of_query
from toolkit.training import Experiment
torch.set_num_threads(1)
run = Experiment(**knobs_of_query(sys.argv[1]))
end = time.monotonic() + 1
while time.monotonic() < end: run.step()
begin, step = time.monotonic(), run.step_count
while time.monotonic() < begin + float(sys.argv[2]): run.step()
print((run.step_count - step) / (time.monotonic() - begin))
"""


def main() -> int:
    """Measure and print one line a run and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--moves", type=int, default=15)
    parser.add_argument("--anyway", action="store_true", help="measure on a busy machine, too")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"load before: {load:.1f}, {os.cpu_count()} processors")
    if load >= 2 and not options.anyway:
        print("too much else is going on here: nothing measured.")
        return 1
    with server() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox", "--disable-gpu"],
        )
        for name, knobs in RUNS.items():
            if knobs.get("dataset") == "mnist" and not at_hand("mnist"):
                print(f"{name}: its files are not at hand")
                continue
            found = [
                measured(browser, address, urlencode(knobs), options)
                for _ in range(options.repeats)
            ]
            report(name, found)
        browser.close()
    print(f"load after: {os.getloadavg()[0]:.1f}")
    return 0


def measured(browser: Any, address: str, query: str, options: Any) -> dict[str, Any]:
    """One visit, between two headless runs of the same experiment."""
    before = headless(query, options.seconds)
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.set_default_timeout(120_000)
    began = time.monotonic()
    page.goto(f"{address}?{query}")
    page.locator(".bk-Figure").nth(4).wait_for()  # and the predictions
    paint = time.monotonic() - began
    page.wait_for_timeout(1500)
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_timeout(2000)
    page.evaluate(WATCH)
    begin, step = time.monotonic(), steps(page)
    page.wait_for_timeout(1000 * options.seconds)
    seconds, trained = time.monotonic() - begin, steps(page) - step
    updates = page.evaluate("seen.updates")
    latencies = [latency(page, 5 if move % 2 == 0 else 4) for move in range(options.moves)]
    page.close()
    alone = statistics.mean([before, headless(query, options.seconds)])
    return {
        "paint": paint,
        "updates": updates / seconds,
        "steps": trained / seconds,
        "headless": alone,
        "latencies": latencies,
    }


def latency(page: Page, rank: int) -> float:
    """Milliseconds from the key to the data with the new rank."""
    page.evaluate(f"seen.wanted = {rank}; seen.latency = 0")
    key = "ArrowRight" if rank == 5 else "ArrowLeft"
    page.get_by_role("slider", name="Rank").press(key)
    page.wait_for_function("seen.latency > 0")
    page.wait_for_timeout(150)
    return float(page.evaluate("seen.latency"))


def steps(page: Page) -> int:
    """Training steps that the page shows."""
    item = page.locator("dl > div", has=page.get_by_text("Step", exact=True))
    return int(item.locator("dd").inner_text().replace(",", ""))


def headless(query: str, seconds: float) -> float:
    """Steps a second of the same experiment with nobody looking."""
    ran = subprocess.run(
        [sys.executable, "-c", HEADLESS, query, str(seconds)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(ran.stdout)


def report(name: str, found: list[dict[str, Any]]) -> None:
    """Medians over the repeats; latencies over all moves."""
    latencies = [value for one in found for value in one["latencies"]]
    share = statistics.median(one["steps"] / one["headless"] for one in found)
    middle = {
        key: statistics.median(one[key] for one in found)
        for key in ("paint", "updates", "steps", "headless")
    }
    print(
        f"{name}: {middle['updates']:.1f} updates/s; {middle['steps']:.0f} steps/s on the page, "
        f"{middle['headless']:.0f} headless ({share:.0%}); knob to plot "
        f"{statistics.median(latencies):.0f} ms median, {max(latencies):.0f} ms worst of "
        f"{len(latencies)}; first paint {middle['paint']:.1f} s"
    )


def at_hand(name: str) -> bool:
    """Whether the files of that data set are here."""
    try:
        load_dataset(name)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def server() -> Iterator[str]:
    """A dashboard on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "toolkit", "dashboard", "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(address, timeout=60).close()
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    sys.exit(main())
