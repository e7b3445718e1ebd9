"""How long opening a page takes, one after another and for a class at once.

    python -m benchmarks.dashboard_opening [--pages 5] [--class 30] [--within 10] [--ready 30]

Opens the Playground over its websocket as in :mod:`benchmarks.dashboard_class`, as a class does,
and then every page over HTTP, one by one. Prints the seconds to the document's arrival, and the
memory of the server before, after, and a minute after everybody has left. The load of the machine
is printed, too: other work spoils the times.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import time

from tornado.httpclient import AsyncHTTPClient

from benchmarks.dashboard_class import Visitor, counted, server, visit
from dashboards.app import site


async def one_by_one(address: str, pages: int) -> None:
    """Each kind of page several times, without its websocket."""
    for key in site.pages():
        path = "" if site.path(key) == "/" else site.path(key)
        times = []
        for _ in range(pages + 1):
            began = time.monotonic()
            await AsyncHTTPClient().fetch(address + path, request_timeout=120)
            times.append(time.monotonic() - began)
            await asyncio.sleep(1)
        rest = times[1:]  # the first one imports and draws
        print(
            f"  {key}: {statistics.median(rest):.2f} s median, {max(rest):.2f} s worst", flush=True
        )


async def opened(address: str, delay: float) -> tuple[float, Visitor]:
    """Seconds from asking for a page to having its document."""
    await asyncio.sleep(delay)
    began = time.monotonic()
    visitor = await visit(address)
    return time.monotonic() - began, visitor


async def at_once(address: str, people: int, within: float) -> None:
    """A class that opens the Playground within some seconds."""
    tasks = [opened(address, i * within / people) for i in range(people)]
    found = await asyncio.gather(*tasks)
    times = sorted(seconds for seconds, _ in found)
    print(
        f"  {people} within {within:g} s: {statistics.median(times):.1f} s, {times[-1]:.1f} s worst"
    )
    await asyncio.gather(*(visitor.leave() for _, visitor in found))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=5)
    parser.add_argument("--class", type=int, default=30, dest="people")
    parser.add_argument("--within", type=float, default=10.0)
    parser.add_argument("--ready", type=int, default=30, help="pages that the server makes ahead")
    options = parser.parse_args()
    AsyncHTTPClient.configure(None, max_clients=options.people)
    print(f"load before: {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")
    with server(8, options.ready) as (address, process):
        while int(re.findall(r"\d+", counted(process))[2]) < options.ready:  # documents
            time.sleep(2)
        print(f"  {options.ready} pages made ahead: {counted(process)}", flush=True)
        asyncio.run(at_once(address, options.people, options.within))
        print(f"  after the class: {counted(process)}", flush=True)
        time.sleep(60)
        print(f"  a minute later: {counted(process)}", flush=True)
        asyncio.run(one_by_one(address, options.pages))
    print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
